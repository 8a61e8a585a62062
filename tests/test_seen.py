"""What others see of a gate: metrics, the verdict as XCom in every mode, and the link to the billing page."""

from __future__ import annotations

import asyncio
import json
import time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat import sdk
from conftest import AIRFLOW

from airflow_provider_aimlbilling import metrics
from airflow_provider_aimlbilling.exceptions import InsufficientBalanceError
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.links import BILLING_PAGE, BillingPageLink
from airflow_provider_aimlbilling.operators.balance import (
    BalanceBranchOperator,
    BalanceCheckOperator,
    BalanceShortCircuitOperator,
    GetBalanceOperator,
)
from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator
from airflow_provider_aimlbilling.operators.usage import GetUsageOperator
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

CAN = not AIRFLOW.startswith(("2.", "3.0", "3.1", "3.2"))
MODES = {"poke": "mode='poke'", "reschedule": "mode='reschedule'", "deferrable": "deferrable=True"}


class Recorded:
    """Stands in for Airflow's Stats, which sends to wherever an Airflow is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float]] = []

    def gauge(self, name: str, value: float) -> None:
        self.calls.append(("gauge", name, value))

    def incr(self, name: str, value: float) -> None:
        self.calls.append(("incr", name, value))


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(metrics, "Stats", recorded)
    return recorded


OPENED = ("incr", "aimlbilling.gate.opened.aimlbilling_default", 1)
HELD = ("incr", "aimlbilling.gate.held.aimlbilling_default", 1)


def decisions(stats: Recorded) -> list[tuple[str, str, float]]:
    return [call for call in stats.calls if call[0] == "incr"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("clears", [True, False])
def test_a_sensor_counts_once_and_leaves_its_verdict(
    run_dag: Any, sandbox: Sandbox, stats: Recorded, mode: str, clears: bool
) -> None:
    sandbox.set_balance("2 USD" if clears else "1 USD")
    if mode == "reschedule":
        timeout = 0.0001  # ends with the first poke: here dag.test() of 3.0 can, too
        sandbox.fail(delay=0.1)
    else:
        timeout = 1
    run = run_dag(
        f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.5, timeout={timeout}, {MODES[mode]})"
    )
    assert run.state() == ("success" if clears else "failed")
    assert decisions(stats) == [OPENED if clears else HELD]
    assert (
        "gauge",
        "aimlbilling.balance_credits.aimlbilling_default",
        4_000_000 if clears else 2_000_000,
    ) in stats.calls
    verdict = run.xcom(key="verdict")
    assert (verdict["clears"], verdict["threshold_credits"]) == (clears, 4_000_000)
    assert verdict["shortfall_credits"] == (None if clears else 2_000_000)
    assert verdict["reason"] in run.log


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_gate_that_saw_no_balance_has_no_verdict(run_dag: Any, sandbox: Sandbox, stats: Recorded, mode: str) -> None:
    sandbox.fail(status=503)
    run = run_dag(f"BalanceSensor(task_id='gate', threshold=1, poke_interval=0.5, timeout=0.7, {MODES[mode]})")
    assert run.state() == "failed"
    assert run.xcom(key="verdict") is None
    assert not [call for call in stats.calls if call[0] == "gauge"], "unknown is never a figure"


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_without_xcoms_there_is_no_verdict_either(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    run = run_dag(f"BalanceSensor(task_id='gate', threshold=1, do_xcom_push=False, {MODES[mode]})")
    assert run.state() == "success"
    assert run.xcom(key="verdict") is None


def test_gates_that_do_not_wait_count_each_decision(run_dag: Any, sandbox: Sandbox, stats: Recorded) -> None:
    run_dag(
        """
        from airflow_provider_aimlbilling.guard import require_balance

        BalanceCheckOperator(task_id="check", threshold="2.50 USD")
        BalanceShortCircuitOperator(task_id="skip", threshold="2.51 USD")

        @task
        def guarded():
            require_balance("1 USD")

        guarded()
        """
    )
    assert sorted(decisions(stats)) == sorted([OPENED, OPENED, HELD])


def test_an_overdrawn_account_shows_below_zero(sandbox: Sandbox, stats: Recorded) -> None:
    answer = {"balance": -7, "lowBalance": True, "lowBalanceThreshold": 0, "lastUpdated": "", "status": ""}
    sandbox.fail(body=json.dumps(answer | {"autoDebitStatus": "", "statusExplanation": ""}).encode())
    with pytest.raises(InsufficientBalanceError):
        AimlBillingHook(retries=0).get_balance()
    assert stats.calls == [("gauge", "aimlbilling.balance_credits.aimlbilling_default", -7)]


def test_airflow_s_own_stats_take_them(caplog: pytest.LogCaptureFixture) -> None:
    """What is handed to Airflow is seen by whoever listens there, and none of it is refused."""
    assert metrics.Stats is sdk.Stats
    with caplog.at_level("DEBUG", logger=metrics.__name__):
        metrics.gauge_balance("aimlbilling_default", Decimal("0.5"))
        metrics.count_decision("aimlbilling_default", clears=True)
    assert not caplog.messages


@pytest.mark.skipif(not CAN, reason="Airflow before 3.3 starts no gate in the triggerer")
def test_a_gate_that_ends_in_the_triggerer_is_counted(
    sandbox: Sandbox, stats: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.execution_time.xcom import XCom

    pushed: list[dict[str, Any]] = []

    async def aset(**xcom: Any) -> None:
        pushed.append(xcom)

    monkeypatch.setattr(XCom, "aset", aset)
    waiting = BalanceTrigger("aimlbilling_default", "1", 1, time.time() + 9, end_from_trigger=True)
    names = {"dag_id": "d", "task_id": "t", "run_id": "r", "map_index": -1, "try_number": 1}
    task = SimpleNamespace(do_xcom_push=True, template_ext=(), start_trigger_args=None)
    waiting.task_instance = SimpleNamespace(task=task, **names)

    async def fire() -> list[Any]:
        return [event async for event in waiting.run()]

    (event,) = asyncio.run(fire())
    assert type(event).__name__ == "TaskSuccessEvent"
    assert decisions(stats) == [OPENED]
    assert [(xcom["key"], xcom["value"]["balance"]) for xcom in pushed] == [("return_value", 5_000_000)]


def test_names_of_metrics_hold_only_what_they_may(stats: Recorded) -> None:
    metrics.gauge_balance("team a/prod.eu:1", 3)
    assert stats.calls == [("gauge", "aimlbilling.balance_credits.team_a_prod_eu_1", 3)]


def test_no_gate_fails_for_want_of_a_metric(run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("no metrics today")

    monkeypatch.setattr(metrics, "Stats", Broken())
    assert run_dag("BalanceCheckOperator(task_id='gate', threshold=1)").state() == "success"


@pytest.mark.parametrize(
    "operator",
    [
        BalanceSensor(task_id="a"),
        GetBalanceOperator(task_id="b"),
        GetUsageOperator(task_id="c"),
        EstimateCostOperator(task_id="g", model="m", work={"x": 1}),
        BalanceCheckOperator(task_id="d"),
        BalanceShortCircuitOperator(task_id="e"),
        BalanceBranchOperator(task_id="f", follow_task_ids_if_sufficient="x", follow_task_ids_if_insufficient="y"),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_each_has_the_link_to_the_billing_page(operator: Any) -> None:
    (link,) = operator.operator_extra_links
    assert isinstance(link, BillingPageLink)
    assert (link.name, link.get_link(operator, ti_key=None)) == ("Billing page", BILLING_PAGE)  # type: ignore[arg-type]
