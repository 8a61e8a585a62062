"""The asynchronous guard in a task on a real worker, which talks to Airflow over a single connection."""

from __future__ import annotations

import pytest
from deployment import Deployment
from support import AIRFLOW_3_2


@pytest.mark.skipif(not AIRFLOW_3_2, reason="Airflow 3.2 added asynchronous tasks")
def test_guards_do_not_block_other_asynchronous_calls(deployment: Deployment, runs: dict[str, str]) -> None:
    """A guard that blocks the loop, or all of its threads, stops the task for good. The account holds 0.50 USD."""
    run = runs["asynchronous"]
    deployment.wait_for(
        "the task to end", lambda: deployment.states(run)["guarded"] in ("success", "failed"), seconds=240
    )
    results = deployment.xcom(run, "guarded")
    assert results == ["InsufficientBalanceError"] * 21 + ["NoneType"] + ["Connection"] * 20
