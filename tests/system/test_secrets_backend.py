"""A secrets backend that is away, also while the triggerer restarts, ends no gate that has found its connection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from deployment import Deployment
from support import RUNS_IN_PARALLEL

from airflow_provider_aimlbilling.sandbox import Sandbox


@pytest.mark.skipif(not RUNS_IN_PARALLEL, reason="the gate in poke mode would be the only task that runs")
def test_a_connection_that_was_found_is_waited_for(
    deployment: Deployment, accounts: dict[str, Sandbox], runs: dict[str, str], wait_for_logs: Callable[..., str]
) -> None:
    run, account = runs["vault"], accounts["vault"]
    waiting = {"deferred": "deferred", "poke": "running"}
    deployment.wait_for("the gates to wait", lambda: deployment.states(run) == waiting, seconds=240)
    deployment.wait_for("polls", lambda: len(account.requests) >= 4, seconds=60)
    away = Path(deployment.env["SECRETS_ARE_AWAY_WHILE_THIS_EXISTS"])
    away.touch()
    deployment.restart("triggerer")
    wait_for_logs("task_id=deferred", "The connection 'vault' was found before")
    assert deployment.states(run) == waiting
    before = len(account.requests)
    account.top_up("5 USD")
    away.unlink()
    opened = {"deferred": "success", "poke": "success"}
    deployment.wait_for("the gates to open", lambda: deployment.states(run) == opened, seconds=240)
    assert len(account.requests) > before
