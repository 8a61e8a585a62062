"""The billing page needs Airflow 3.1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import AIRFLOW_3_1, Run

from airflow_provider_aimlbilling.sandbox import Sandbox

collect_ignore_glob = [] if AIRFLOW_3_1 else ["test_*.py"]

_RUNS: dict[str, Run] = {}


@pytest.fixture
def run(run_dag: Any, sandbox: Sandbox) -> Iterator[Run]:
    """
    Run a gate that opens, so that everything that Airflow stores about a task is there.

    A run takes seconds, so each test gets a copy of the same one, whose rows it may change.
    """
    from page_rows import change, copied

    if not _RUNS:
        sandbox.set_balance("20 USD")
        gate = 'BalanceSensor(task_id="gate", threshold="{{ 1 + 1 }} USD", budget="200 USD per month", poke_interval=1)'
        _RUNS["gate"] = run_dag(gate)
        assert _RUNS["gate"].state() == "success"
    with copied(_RUNS["gate"]) as copy:
        change(copy, state="success")
        yield copy
