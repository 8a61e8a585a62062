"""A gate's own deadline: it holds while a request is in flight, and starts over with each try, in all modes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from raw_server import RawServer
from support import AIRFLOW_3, KEY, MODES, wait_until

from airflow_provider_aimlbilling.compat import seconds_since_first_poke, timeout_per_try
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

ENV = "AIRFLOW_CONN_AIMLBILLING_DEFAULT"


@pytest.mark.parametrize("mode", MODES)
def test_a_gate_ends_while_its_request_is_in_flight(run_dag: Any, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """The API never answers, and the connection allows it an hour."""
    with RawServer(lambda: [60.0]) as server:
        monkeypatch.setenv(ENV, server.connection(timeout=3600))
        started = time.monotonic()
        run = run_dag(f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=1, timeout=1, {MODES[mode]})")
        took = time.monotonic() - started
    assert run.state() == "failed"
    assert "Timed out after 1 seconds. No balance was read." in run.log
    assert "the answer timed out" in run.log
    assert took < 30, "of which the deadline is 1 s, each request 2 s at least, and the rest is dag.test()"


@pytest.mark.parametrize("mode", MODES)
def test_a_rotated_key_is_picked_up(run_dag: Any, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, mode: str) -> None:
    """The old key was revoked while the gate waited. That must not end the wait."""
    sandbox.set_balance(0)

    def rotate() -> None:
        sandbox.account.key = f"{KEY}-new"
        os.environ[ENV] = sandbox.connection()
        sandbox.set_balance("3 USD")

    threading.Timer(0.6, rotate).start()
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.4, timeout=20, {MODES[mode]})")
    assert run.state() == "success"


@contextmanager
def tries(sensor: BalanceSensor, **attributes: Any) -> Iterator[dict[str, Any]]:
    ti = SimpleNamespace(dag_id="dag", task_id="gate", run_id="run", map_index=-1, **attributes)
    context: Any = {"ti": ti, "task_reschedule_count": 1}
    with timeout_per_try(sensor, context):
        yield context


@pytest.mark.skipif(AIRFLOW_3, reason="Airflow 3 itself counts from the first poke of the try")
def test_the_timeout_starts_over_with_each_try_when_rescheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 2.11 counts from the first poke of the first try, whose number it derives from the retries."""
    asked_for: list[int] = []
    monkeypatch.setattr(
        "airflow.sensors.base._orig_start_date", lambda *a, **k: asked_for.append(k.get("try_number", a[-1]))
    )
    sensor = BalanceSensor(task_id="gate", threshold=1, mode="reschedule", retries=3)
    with tries(sensor, max_tries=3, try_number=2) as context:
        first_try = context["ti"].max_tries - sensor.retries + 1  # as BaseSensorOperator does it
        assert first_try == 2
        assert seconds_since_first_poke(sensor, context) == 0
    assert asked_for == [2]
    assert sensor.retries == 3


@pytest.mark.parametrize("mode", MODES)
def test_the_timeout_starts_over_with_each_try(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    """A try that failed for another reason takes no time from the next one."""
    sandbox.set_balance(0)

    def refuse_then_top_up() -> None:
        wait_until(lambda: sandbox.requests)
        time.sleep(1.0)
        sandbox.fail(status=401, times=1)
        time.sleep(1.5)  # by now, the first try's time would be up
        sandbox.set_balance("3 USD")

    threading.Thread(target=refuse_then_top_up, daemon=True).start()
    run = run_dag(
        "from datetime import timedelta\n"
        "BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.3, timeout=2, retries=1, "
        f"retry_delay=timedelta(seconds=0), {MODES[mode]})"
    )
    assert run.state() == "success"
    assert run.log.count("refused (401)") >= 1
