"""
The design's behaviour table, cell by cell: what comes back x the sensor's mode x its flag -> how the task ends.

The invariant: the three modes cannot be told apart by their outcome.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import RESCHEDULES

from airflow_provider_aimlbilling.sandbox import Sandbox

MODES = {"poke": "mode='poke'", "reschedule": "mode='reschedule'", "deferrable": "deferrable=True"}
if not RESCHEDULES:
    del MODES["reschedule"]


BACKS: dict[str, Callable[[Sandbox], object]] = {
    "clears": lambda account: account.set_balance("2.50 USD"),
    "reaches": lambda account: account.set_balance("2 USD"),
    "below": lambda account: account.set_balance("1.50 USD"),
    "out of credits": lambda account: account.fail(status=403),
    "unavailable": lambda account: account.fail(status=503),
    "auth": lambda account: account.fail(status=401),
    "contract": lambda account: account.fail(body=b'{"balance": true}'),
}
ENDS_BY_TIMEOUT = ("below", "out of credits", "unavailable")
FLAGS = ("", "soft_fail=True", "never_fail=True", "silent_fail=True")


def expected(back: str, flag: str) -> str:
    if back in ("clears", "reaches"):
        return "success"
    if flag == "never_fail=True":
        return "skipped"
    if flag == "soft_fail=True" and back in ENDS_BY_TIMEOUT:
        return "skipped"
    return "failed"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("back", BACKS)
def test_outcome(run_dag: Any, sandbox: Sandbox, back: str, flag: str, mode: str) -> None:
    BACKS[back](sandbox)
    run = run_dag(
        f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.2, timeout=0.7, {MODES[mode]}, {flag})"
    )
    assert run.state() == expected(back, flag)
    waited = len(sandbox.requests) > 1
    assert waited == (back in ENDS_BY_TIMEOUT or (flag == "silent_fail=True" and back in ("auth", "contract")))
    if run.state() == "success":
        assert run.xcom()["balance"] == sandbox.balance.credits
    elif waited:
        assert "The balance did not clear within 0.7 seconds" in run.log


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first", ["below", "out of credits", "unavailable"])
def test_opens_after_top_up(run_dag: Any, sandbox: Sandbox, first: str, mode: str) -> None:
    BACKS[first](sandbox)

    def money_comes() -> None:
        sandbox.mend()
        sandbox.set_balance("7.50 USD")

    threading.Timer(0.7, money_comes).start()
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.3, timeout=20, {MODES[mode]})")
    assert run.state() == "success"
    assert run.xcom()["balance"] == 15_000_000
    assert run.xcom()["balance_usd"] == "7.50"


@pytest.mark.parametrize("mode", MODES)
def test_time_out_tells_balance_shortfall_and_fault(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    sandbox.set_balance("1.50 USD")
    threading.Timer(0.5, lambda: sandbox.fail(status=502)).start()
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.3, timeout=1.2, {MODES[mode]})")
    assert run.state() == "failed"
    if mode != "reschedule":  # there each poke is a process of its own, and the last one saw no balance
        assert "balance 3,000,000 credits (1.50 USD)" in run.log
        assert "missing 1,000,000 credits (0.50 USD)" in run.log
    assert "answered 502" in run.log


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("balance", ["9999", "10000"])
def test_without_threshold_low_balance_decides(run_dag: Any, sandbox: Sandbox, mode: str, balance: str) -> None:
    sandbox.set_balance(balance)
    run = run_dag(f"BalanceSensor(task_id='gate', poke_interval=0.2, timeout=0.4, {MODES[mode]})")
    assert run.state() == ("success" if balance == "10000" else "failed")


@pytest.mark.parametrize("mode", MODES)
def test_retry_after_is_kept(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    sandbox.fail(status=429, retry_after=2, times=1)
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.2, timeout=20, {MODES[mode]})")
    assert run.state() == "success"
    first, second = (request.at for request in sandbox.requests)
    assert second - first >= 1.9


def test_retry_after_is_the_date_to_reschedule(run_dag: Any, sandbox: Sandbox) -> None:
    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

    sandbox.fail(status=429, retry_after=50)
    sensor = BalanceSensor(task_id="gate", threshold=1, poke_interval=1, timeout=100, mode="reschedule")
    sensor.poke({})  # type: ignore[typeddict-item]
    assert sensor._get_next_poke_interval(0.0, lambda: 20.0, 1) == pytest.approx(50, abs=1)
    assert sensor._get_next_poke_interval(0.0, lambda: 70.0, 1) == pytest.approx(30, abs=1), (
        "but not beyond the gate's own time-out"
    )


@pytest.mark.parametrize("mode", MODES)
def test_exponential_backoff_polls_less(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    sandbox.set_balance(0)
    run = run_dag(
        "BalanceSensor(task_id='gate', threshold=1, poke_interval=0.2, timeout=4, exponential_backoff=True, "
        f"{MODES[mode]})"
    )
    assert run.state() == "failed"
    assert len(sandbox.requests) <= 8, "twenty without backoff"


@pytest.mark.parametrize("mode", MODES)
def test_max_wait_limits_backoff(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    sandbox.set_balance(0)
    run_dag(
        "BalanceSensor(task_id='gate', threshold=1, poke_interval=0.2, timeout=2, exponential_backoff=True, "
        f"max_wait=0.2, {MODES[mode]})"
    )
    # dag.test() looks after a rescheduled task once a second.
    assert len(sandbox.requests) >= (3 if mode == "reschedule" else 7)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "reschedule"])
def test_the_api_is_left_in_peace_also_when_that_is_longer_than_the_gate_waits(
    run_dag: Any, sandbox: Sandbox, mode: str
) -> None:
    """A rescheduled sensor starts anew for each poke, and so asks once more at its time-out: the docs say so."""
    sandbox.fail(status=429, retry_after=600, times=1)
    run = run_dag(f"BalanceSensor(task_id='gate', threshold=1, poke_interval=0.3, timeout=1, {MODES[mode]})")
    assert run.state() == "failed"
    assert len(sandbox.requests) == 1
    assert "No balance was read. Last fault: " in run.log
    assert "answered 429" in run.log.rpartition("Last fault: ")[2]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flag", FLAGS)
def test_a_threshold_that_is_no_money_is_no_thing_to_wait_on(
    run_dag: Any, sandbox: Sandbox, flag: str, mode: str
) -> None:
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='12 EUR', {MODES[mode]}, {flag})")
    assert run.state() == ("skipped" if flag == "never_fail=True" else "failed")
    assert sandbox.requests == []


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "reschedule"])
@pytest.mark.parametrize("flag", FLAGS)
def test_faults_of_airflow_itself_meet_the_same_flags(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, flag: str, mode: str
) -> None:
    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

    def out_of_reach(conn_id: str) -> None:
        raise RuntimeError("the secrets backend is away")

    monkeypatch.setattr(AimlBillingHook, "get_connection", out_of_reach)
    sandbox.set_balance(0)
    run = run_dag(f"BalanceSensor(task_id='gate', threshold=1, poke_interval=0.2, timeout=0.5, {MODES[mode]}, {flag})")
    assert run.state() == ("skipped" if flag == "never_fail=True" else "failed")
    assert ("The balance did not clear within" in run.log) is (flag == "silent_fail=True")


@pytest.mark.parametrize("mode", MODES)
def test_a_mended_key_counts_at_the_next_poke(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    mended = sandbox.connection()
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", mended.replace(sandbox.key, "an-expired-key"))
    threading.Timer(0.8, monkeypatch.setenv, ["AIRFLOW_CONN_AIMLBILLING_DEFAULT", mended]).start()
    run = run_dag(
        f"BalanceSensor(task_id='gate', threshold=1, poke_interval=0.3, timeout=20, silent_fail=True, {MODES[mode]})"
    )
    assert run.state() == "success"
