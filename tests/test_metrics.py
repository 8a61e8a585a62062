"""Metrics: each gate counts its decision once, and the gauge holds the last known balance."""

from __future__ import annotations

import asyncio
import json
import time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from support import AIRFLOW

from airflow_provider_aimlbilling import compat, metrics
from airflow_provider_aimlbilling.exceptions import InsufficientBalanceError
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

STARTS_FROM_TRIGGER = not AIRFLOW.startswith(("2.", "3.0", "3.1", "3.2"))
MODES = {"poke": "mode='poke'", "reschedule": "mode='reschedule'", "deferrable": "deferrable=True"}


class StatsRecorder:
    """Stands in for Airflow's Stats, which sends metrics to wherever the deployment is configured to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float]] = []

    def gauge(self, name: str, value: float) -> None:
        self.calls.append(("gauge", name, value))

    def incr(self, name: str, value: float) -> None:
        self.calls.append(("incr", name, value))

    def decisions(self) -> list[tuple[str, str, float]]:
        return [call for call in self.calls if call[0] == "incr"]


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> StatsRecorder:
    recorder = StatsRecorder()
    monkeypatch.setattr(metrics, "Stats", recorder)
    return recorder


OPENED = ("incr", "aimlbilling.gate.opened.aimlbilling_default", 1)
HELD = ("incr", "aimlbilling.gate.held.aimlbilling_default", 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("clears", [True, False])
def test_a_sensor_counts_its_decision_once_and_pushes_its_verdict(
    run_dag: Any, sandbox: Sandbox, stats: StatsRecorder, mode: str, clears: bool
) -> None:
    sandbox.set_balance("2 USD" if clears else "1 USD")
    if mode == "reschedule":
        timeout = 0.0001  # it ends with the first poke, so that dag.test() of Airflow 3.0 can run it, too
        sandbox.fail(delay=0.1)
    else:
        timeout = 1
    run = run_dag(
        f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.5, timeout={timeout}, {MODES[mode]})"
    )
    assert run.state() == ("success" if clears else "failed")
    assert stats.decisions() == [OPENED if clears else HELD]
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
def test_a_sensor_that_read_no_balance_sets_no_gauge_and_pushes_no_verdict(
    run_dag: Any, sandbox: Sandbox, stats: StatsRecorder, mode: str
) -> None:
    sandbox.fail(status=503)
    run = run_dag(f"BalanceSensor(task_id='gate', threshold=1, poke_interval=0.5, timeout=0.7, {MODES[mode]})")
    assert run.state() == "failed"
    assert run.xcom(key="verdict") is None
    assert not [call for call in stats.calls if call[0] == "gauge"]


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_sensor_without_xcoms_pushes_no_verdict(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    run = run_dag(f"BalanceSensor(task_id='gate', threshold=1, do_xcom_push=False, {MODES[mode]})")
    assert run.state() == "success"
    assert run.xcom(key="verdict") is None


def test_operators_and_guards_count_each_decision(run_dag: Any, sandbox: Sandbox, stats: StatsRecorder) -> None:
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
    assert sorted(stats.decisions()) == sorted([OPENED, OPENED, HELD])


def test_the_gauge_of_an_overdrawn_account_is_negative(sandbox: Sandbox, stats: StatsRecorder) -> None:
    answer = {"balance": -7, "lowBalance": True, "lowBalanceThreshold": 0, "lastUpdated": "", "status": ""}
    sandbox.fail(body=json.dumps(answer | {"autoDebitStatus": "", "statusExplanation": ""}).encode())
    with pytest.raises(InsufficientBalanceError):
        AimlBillingHook(retries=0).get_balance()
    assert stats.calls == [("gauge", "aimlbilling.balance_credits.aimlbilling_default", -7)]


def test_the_stats_of_airflow_accept_the_metrics(caplog: pytest.LogCaptureFixture) -> None:
    """A metric that Airflow rejects is logged by the metrics module."""
    assert metrics.Stats is compat.Stats
    with caplog.at_level("DEBUG", logger=metrics.__name__):
        metrics.gauge_balance("aimlbilling_default", Decimal("0.5"))
        metrics.count_decision("aimlbilling_default", clears=True)
    assert not caplog.messages


@pytest.mark.skipif(not STARTS_FROM_TRIGGER, reason="Airflow before 3.3 starts no sensor in the triggerer")
def test_a_gate_that_ends_in_the_triggerer_is_counted(
    sandbox: Sandbox, stats: StatsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[dict[str, Any]] = []

    async def aset(**xcom: Any) -> None:
        pushed.append(xcom)

    monkeypatch.setattr(compat.XCom, "aset", aset)
    trigger = BalanceTrigger("aimlbilling_default", "1", 1, time.time() + 9, end_from_trigger=True)
    names = {"dag_id": "d", "task_id": "t", "run_id": "r", "map_index": -1, "try_number": 1}
    task = SimpleNamespace(do_xcom_push=True, template_ext=(), start_trigger_args=None)
    trigger.task_instance = SimpleNamespace(task=task, **names)

    async def fire() -> list[Any]:
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(fire())
    assert type(event).__name__ == "TaskSuccessEvent"
    assert stats.decisions() == [OPENED]
    assert [(xcom["key"], xcom["value"]["balance"]) for xcom in pushed] == [("return_value", 5_000_000)]


def test_metric_names_contain_only_allowed_characters(stats: StatsRecorder) -> None:
    metrics.gauge_balance("team a/prod.eu:1", 3)
    assert stats.calls == [("gauge", "aimlbilling.balance_credits.team_a_prod_eu_1", 3)]


def test_a_broken_metrics_backend_never_fails_a_gate(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenStats:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("the metrics backend is down")

    monkeypatch.setattr(metrics, "Stats", BrokenStats())
    assert run_dag("BalanceCheckOperator(task_id='gate', threshold=1)").state() == "success"
