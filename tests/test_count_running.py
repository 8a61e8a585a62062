"""Guards that count the jobs that run, in tasks of test runs. On real services: tests/system/test_running_jobs.py."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import AIRFLOW_3_2

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError, InsufficientBalanceError
from airflow_provider_aimlbilling.guard import keep_counted, require_balance
from airflow_provider_aimlbilling.sandbox import Sandbox


@pytest.mark.parametrize(
    "count_running",
    [
        *["dag.task", b"dag.task", None, 0, 1, ["task"], [".task"], [None], {"dag.task": "x"}],
        *[{"{{ params.task }}": 1}, {"dag.task": None}, {"dag.task": 0}, {"dag.task": "0 USD"}, {"dag.task": True}],
    ],
)
def test_tasks_that_cannot_be_counted_are_refused_when_the_dag_is_parsed(count_running: object) -> None:
    with pytest.raises(AimlBillingThresholdError):
        require_balance("1 USD", count_running=count_running)


@pytest.mark.parametrize(
    "count_running",
    [
        True,
        [],
        ["dag.task"],
        {"dag.task"},
        {"dag.task": "{{ params.price }}"},
        ["{{ params.task }}"],
        "{{ params.tasks }}",
    ],
)
def test_tasks_that_may_be_counted_are_accepted_when_the_dag_is_parsed(count_running: object) -> None:
    require_balance("1 USD", count_running=count_running)


@pytest.mark.parametrize("max_wait", [-1, float("nan"), float("inf"), True, "60", None])
@pytest.mark.parametrize("call", [lambda s: require_balance("1 USD", count_running=True, max_wait=s), keep_counted])
def test_a_duration_that_is_none_is_refused_when_the_dag_is_parsed(call: Callable[[Any], Any], max_wait: Any) -> None:
    with pytest.raises(ValueError, match="a number of seconds, zero or more"):
        call(max_wait)


def test_counting_needs_a_price() -> None:
    with pytest.raises(AimlBillingThresholdError, match="needs the price of one job"):
        require_balance(count_running=True)


@pytest.mark.parametrize("count_running", ["True", "['another_dag.job']", "{'another_dag.job': '5 USD'}"])
@pytest.mark.parametrize(
    ("balance", "options", "state"),
    [("2 USD", "", "success"), ("1 USD", "", "failed"), ("1 USD", ", skip_if_insufficient=True", "skipped")],
)
def test_a_guard_counts_in_a_test_run(
    run_dag: Any, sandbox: Sandbox, balance: str, options: str, state: str, count_running: str
) -> None:
    """In dag.test(), only one job runs at a time."""
    sandbox.set_balance(balance)
    run = run_dag(
        f"""
        from airflow_provider_aimlbilling.guard import keep_counted, require_balance

        @task(
            pre_execute=require_balance("2 USD", count_running={count_running}{options}),
            post_execute=keep_counted(0.1),
        )
        def gate():
            print("SPENT" + " IT")

        gate()
        """
    )
    assert run.state() == state
    assert ("SPENT IT" in run.log) is (state == "success")
    assert ("'another_dag.job' has never run" in run.log) is (count_running != "True")
    assert len(sandbox.requests) == 1


def test_a_guard_counts_as_a_call_with_templates(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("2 USD")
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import keep_counted, require_balance

        @task
        def gate():
            require_balance("{{ 1 + 1 }} USD", count_running={"other.job": "{{ 3 }} USD"})
            print("SPENT" + " IT")
            keep_counted(0)

        gate()
        """
    )
    assert run.state() == "success"
    assert "SPENT IT" in run.log


@pytest.mark.skipif(not AIRFLOW_3_2, reason="Airflow 3.2 added asynchronous tasks")
@pytest.mark.parametrize(("balance", "state"), [("2 USD", "success"), ("1 USD", "failed")])
def test_an_asynchronous_guard_counts(run_dag: Any, sandbox: Sandbox, balance: str, state: str) -> None:
    sandbox.set_balance(balance)
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import arequire_balance

        @task
        async def gate():
            await arequire_balance("2 USD", count_running=True)
            print("SPENT" + " IT")

        gate()
        """
    )
    assert run.state() == state
    assert ("SPENT IT" in run.log) is (state == "success")


class Instance:
    """A task instance of Airflow 3 beside which nine others run."""

    dag_id, task_id, run_id, map_index = "dag", "job", "run", 3

    def get_ti_count(self, *, dag_id: str, task_ids: list[str], states: list[str] | None) -> int:
        assert (dag_id, task_ids, states) == ("dag", ["job"], ["running", "deferred", "restarting"])
        return 10


class Task:
    def render_template(self, value: object, context: object) -> object:
        return value


def test_a_guard_asks_again_until_it_gives_up(sandbox: Sandbox) -> None:
    sandbox.set_balance("4 USD")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    context: Any = {"task": Task(), "ti": Instance()}
    guard = require_balance("1 USD", count_running=True, max_wait=0.2)
    with pytest.raises(InsufficientBalanceError, match=r"needs 10.00 USD \(10 jobs are running\)"):
        guard.check(context, wait)
    assert len(sandbox.requests) == len(waits) + 1


@pytest.mark.skipif(not AIRFLOW_3_2, reason="Airflow 3.2 added asynchronous tasks")
def test_keep_counted_does_not_block_the_loop_of_an_asynchronous_task(run_dag: Any) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import keep_counted

        @task
        async def gate():
            keep_counted(60)

        gate()
        """
    )
    assert run.state() == "failed"
    assert "Write: await asyncio.sleep(" in run.log


def test_keep_counted_in_a_subprocess_of_a_task_fails_instead_of_not_waiting() -> None:
    code = "from airflow_provider_aimlbilling.guard import keep_counted; keep_counted(60)"
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CTX")}
    command = [sys.executable, "-c", code]
    finished = subprocess.run(
        command, env=env | {"AIRFLOW_CTX_TASK_ID": "job"}, check=False, capture_output=True, text=True
    )
    assert finished.returncode
    assert "Call it in the task itself." in finished.stderr
