"""A guard that stops its task says why in an XCom, and nothing about that XCom changes how the task ends."""

from __future__ import annotations

from typing import Any

import pytest
from support import AIRFLOW_3_2

from airflow_provider_aimlbilling.sandbox import Sandbox

KEY = "aimlbilling_verdict"
USES = {
    "pre_execute": '@task(pre_execute=require_balance("3 USD"{options}))\ndef gate():\n    pass\n',
    "call": '@task\ndef gate():\n    require_balance("3 USD"{options})\n',
    "asynchronous": '@task\nasync def gate():\n    await arequire_balance("3 USD"{options})\n',
}
if not AIRFLOW_3_2:
    del USES["asynchronous"]


def run_guard(run_dag: Any, use: str, options: str = "") -> Any:
    imports = "from airflow_provider_aimlbilling.guard import arequire_balance, require_balance\n"
    return run_dag(imports + USES[use].format(options=options) + "gate()\n")


@pytest.mark.parametrize("counting", ["", ", count_running=True"])
@pytest.mark.parametrize(("options", "state"), [("", "failed"), (", skip_if_insufficient=True", "skipped")])
@pytest.mark.parametrize("use", USES)
def test_a_guard_that_stops_its_task_pushes_its_verdict(
    run_dag: Any, sandbox: Sandbox, use: str, options: str, state: str, counting: str
) -> None:
    run = run_guard(run_dag, use, options + counting)
    assert run.state() == state
    verdict = run.xcom(key=KEY)
    assert verdict["clears"] is False
    assert verdict["reason"] == "0.50 USD missing: balance 2.50 USD, needs 3.00 USD"
    assert (verdict["shortfall_usd"], verdict["short_of"]) == ("0.50", "balance")


@pytest.mark.parametrize("use", USES)
def test_a_guard_that_lets_its_task_run_pushes_nothing(run_dag: Any, sandbox: Sandbox, use: str) -> None:
    sandbox.set_balance("3 USD")
    run = run_guard(run_dag, use)
    assert run.state() == "success"
    assert run.xcom(key=KEY) is None


def test_an_unknown_balance_is_no_verdict(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=401)
    run = run_guard(run_dag, "call")
    assert run.state() == "failed"
    assert run.xcom(key=KEY) is None


def test_each_index_of_a_mapped_task_has_its_own_verdict(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def gate(price):
            require_balance(price, skip_if_insufficient=True)

        gate.expand(price=["2 USD", "4 USD"])
        """
    )
    assert [run.state(map_index=index) for index in (0, 1)] == ["success", "skipped"]
    assert run.xcom(key=KEY, map_index=0) is None
    assert run.xcom(key=KEY, map_index=1)["shortfall_usd"] == "1.50"


def test_a_task_that_pushes_no_xcoms_gets_none_from_its_guard(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import require_balance

        @task(do_xcom_push=False)
        def gate():
            require_balance("3 USD")

        gate()
        """
    )
    assert run.state() == "failed"
    assert run.xcom(key=KEY) is None
    assert "could not be pushed" not in run.log


@pytest.mark.parametrize(
    ("options", "state", "error"),
    [("", "failed", "InsufficientBalanceError"), (", skip_if_insufficient=True", "skipped", "0.50 USD missing")],
)
def test_a_verdict_that_cannot_be_stored_changes_nothing(
    run_dag: Any, sandbox: Sandbox, options: str, state: str, error: str
) -> None:
    run = run_dag(
        f"""
        from unittest import mock
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def gate(ti=None):
            with mock.patch.object(type(ti), "xcom_push", side_effect=RuntimeError("hidden" + " text")):
                require_balance("3 USD"{options})

        gate()
        """
    )
    assert run.state() == state
    assert error in run.log
    assert "The guard's verdict could not be pushed as XCom (RuntimeError)." in run.log
    assert "hidden text" not in run.log
