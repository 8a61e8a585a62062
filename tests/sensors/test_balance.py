"""
How the sensor ends, for each reading, mode and flag.

The invariant: the three modes have the same outcome.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from support import KEY, MODES, wait_until

from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

READINGS: dict[str, Callable[[Sandbox], object]] = {
    "above": lambda account: account.set_balance("2.50 USD"),
    "equal": lambda account: account.set_balance("2 USD"),
    "below": lambda account: account.set_balance("1.50 USD"),
    "out of credits": lambda account: account.fail(status=403),
    "unavailable": lambda account: account.fail(status=503),
    "refused key": lambda account: account.fail(status=401),
    "contract": lambda account: account.fail(body=b'{"balance": true}'),
}
WAITED_THROUGH = ("below", "out of credits", "unavailable", "contract")
FLAGS = ("", "soft_fail=True", "never_fail=True", "silent_fail=True")


def expected_state(reading: str, flag: str) -> str:
    if reading in ("above", "equal"):
        return "success"
    if flag == "never_fail=True":
        return "skipped"
    if flag == "soft_fail=True" and reading in WAITED_THROUGH:
        return "skipped"
    return "failed"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("reading", READINGS)
def test_all_modes_end_alike(run_dag: Any, sandbox: Sandbox, reading: str, flag: str, mode: str) -> None:
    READINGS[reading](sandbox)
    run = run_dag(
        f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.2, timeout=0.7, {MODES[mode]}, {flag})"
    )
    assert run.state() == expected_state(reading, flag)
    waited = "Timed out after 0.7 seconds" in run.log
    assert waited == (reading in WAITED_THROUGH or (flag == "silent_fail=True" and reading == "refused key"))
    if not waited:
        assert len(sandbox.requests) == 1
    if run.state() == "success":
        assert run.xcom()["balance"] == sandbox.balance.credits


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first", ["below", "out of credits", "unavailable", "contract"])
def test_a_waiting_gate_opens_after_a_top_up(run_dag: Any, sandbox: Sandbox, first: str, mode: str) -> None:
    READINGS[first](sandbox)

    def top_up() -> None:
        sandbox.recover()
        sandbox.set_balance("7.50 USD")

    threading.Timer(0.5, top_up).start()
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.3, timeout=20, {MODES[mode]})")
    assert run.state() == "success"
    assert run.xcom()["balance"] == 15_000_000
    assert run.xcom()["balance_usd"] == "7.50"


@pytest.mark.parametrize("mode", MODES)
def test_a_timeout_reports_balance_shortfall_and_error(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    sandbox.set_balance("1.50 USD")

    def fail_after_two_readings() -> None:
        wait_until(lambda: len(sandbox.requests) >= 2, seconds=60)
        sandbox.fail(status=502)

    threading.Thread(target=fail_after_two_readings, daemon=True).start()
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.3, timeout=2, {MODES[mode]})")
    assert run.state() == "failed"
    if mode != "reschedule":  # each poke is a separate process there, and the last one read no balance
        assert "balance 1.50 USD" in run.log
        assert "0.50 USD missing" in run.log
    assert "answered 502" in run.log


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ["timeout", "refused key"])
def test_the_verdict_is_that_of_the_last_reading(run_dag: Any, sandbox: Sandbox, ending: str, mode: str) -> None:
    """Also when an error ends the wait: the person on call wants to know what the account held."""
    sandbox.set_balance("0.40 USD")

    def top_up_a_little() -> None:
        wait_until(lambda: sandbox.requests, seconds=60)
        time.sleep(0.1)  # until the response is on its way
        sandbox.set_balance("1.40 USD")
        polls = len(sandbox.requests)
        if ending == "refused key":
            wait_until(lambda: len(sandbox.requests) >= polls + 2)
            sandbox.fail(status=401)

    threading.Thread(target=top_up_a_little).start()
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.3, timeout=3, {MODES[mode]})")
    assert run.state() == "failed"
    if mode == "reschedule" and ending == "refused key":
        return  # each poke is a process of its own, and Airflow deletes what earlier ones have pushed
    verdict = run.xcom(key="verdict")
    assert (verdict["available_usd"], verdict["shortfall_usd"]) == ("1.40", "0.60")
    if mode != "reschedule":
        assert "1.60 USD missing: balance 0.40 USD" in run.log
        assert "0.60 USD missing: balance 1.40 USD, needs 2.00 USD. Auto top-up" in run.log, "the partial top-up"
    assert "0.60 USD missing: balance 1.40 USD, needs 2.00 USD" in run.log


@pytest.mark.parametrize("gate", ["BalanceSensor", "BalanceCheckOperator"])
def test_a_threshold_below_one_cent_is_warned_about(run_dag: Any, sandbox: Sandbox, gate: str) -> None:
    run = run_dag(f"{gate}(task_id='gate', threshold=3)")
    assert run.state() == "success"
    assert "The threshold 3 credits (0.0000015 USD) is below one cent." in run.log
    enough = run_dag(f"{gate}(task_id='gate', threshold='2 USD')")
    assert "one cent. A bare" not in enough.log


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("balance", ["9999", "10000"])
def test_without_a_threshold_low_balance_decides(run_dag: Any, sandbox: Sandbox, mode: str, balance: str) -> None:
    sandbox.set_balance(balance)
    run = run_dag(f"BalanceSensor(task_id='gate', poke_interval=0.2, timeout=0.4, {MODES[mode]})")
    assert run.state() == ("success" if balance == "10000" else "failed")


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_polls_before_retry_after_has_passed(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    sandbox.fail(status=429, retry_after=1, times=1)
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.2, timeout=20, {MODES[mode]})")
    assert run.state() == "success"
    first, second = (request.at for request in sandbox.requests)
    assert second - first >= 0.95


def test_retry_after_sets_the_next_reschedule(sandbox: Sandbox) -> None:
    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

    sandbox.fail(status=429, retry_after=50)
    sensor = BalanceSensor(task_id="gate", threshold=1, poke_interval=1, timeout=100, mode="reschedule")
    sensor.poke({"ti": SimpleNamespace(map_index=-1)})  # type: ignore[typeddict-item]
    assert sensor._get_next_poke_interval(0.0, lambda: 20.0, 1) == pytest.approx(50, abs=1)
    assert sensor._get_next_poke_interval(0.0, lambda: 70.0, 1) == pytest.approx(30, abs=1), (
        "but not beyond the gate's own timeout"
    )


@pytest.mark.parametrize("mode", MODES)
def test_exponential_backoff_polls_less_often(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    sandbox.set_balance(0)
    run = run_dag(
        "BalanceSensor(task_id='gate', threshold=1, poke_interval=0.1, timeout=2, exponential_backoff=True, "
        f"{MODES[mode]})"
    )
    assert run.state() == "failed"
    assert len(sandbox.requests) <= 8, "it would be twenty without backoff"


@pytest.mark.parametrize("mode", MODES)
def test_max_wait_limits_exponential_backoff(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    sandbox.set_balance(0)
    run_dag(
        "BalanceSensor(task_id='gate', threshold=1, poke_interval=0.2, timeout=2, exponential_backoff=True, "
        f"max_wait=0.2, {MODES[mode]})"
    )
    # dag.test() looks for rescheduled tasks once a second.
    assert len(sandbox.requests) >= (3 if mode == "reschedule" else 7)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "reschedule"])
def test_a_retry_after_beyond_the_timeout_means_no_further_request(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    """A rescheduled sensor starts over for each poke, so it sends one more request at its timeout, as the docs say."""
    sandbox.fail(status=429, retry_after=600, times=1)
    run = run_dag(f"BalanceSensor(task_id='gate', threshold=1, poke_interval=0.3, timeout=1, {MODES[mode]})")
    assert run.state() == "failed"
    assert len(sandbox.requests) == 1
    assert "No balance was read. Last error: " in run.log
    assert "answered 429" in run.log.rpartition("Last error: ")[2]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flag", FLAGS)
def test_an_invalid_threshold_ends_the_gate_before_any_request(
    run_dag: Any, sandbox: Sandbox, flag: str, mode: str
) -> None:
    run = run_dag(f"BalanceSensor(task_id='gate', threshold=\"{{{{ '12 EUR' }}}}\", {MODES[mode]}, {flag})")
    assert run.state() == ("skipped" if flag == "never_fail=True" else "failed")
    assert sandbox.requests == []


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "reschedule"])
@pytest.mark.parametrize("flag", FLAGS)
def test_flags_apply_to_errors_of_airflow_too(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, flag: str, mode: str
) -> None:
    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

    def fail(conn_id: str) -> None:
        raise RuntimeError("the secrets backend is down")

    monkeypatch.setattr(AimlBillingHook, "get_connection", fail)
    sandbox.set_balance(0)
    run = run_dag(f"BalanceSensor(task_id='gate', threshold=1, poke_interval=0.2, timeout=0.5, {MODES[mode]}, {flag})")
    assert run.state() == ("skipped" if flag == "never_fail=True" else "failed")
    assert ("Timed out after" in run.log) is (flag == "silent_fail=True")


@pytest.mark.parametrize("mode", MODES)
def test_a_corrected_key_is_used_at_the_next_poll(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    correct = sandbox.connection()
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", correct.replace(KEY, "an-expired-key"))
    threading.Timer(0.6, monkeypatch.setenv, ["AIRFLOW_CONN_AIMLBILLING_DEFAULT", correct]).start()
    run = run_dag(
        f"BalanceSensor(task_id='gate', threshold=1, poke_interval=0.3, timeout=20, silent_fail=True, {MODES[mode]})"
    )
    assert run.state() == "success"


@pytest.mark.parametrize("seconds", [True, False, float("nan"), float("inf"), "60"])
@pytest.mark.parametrize("name", ["poke_interval", "timeout", "max_wait"])
def test_a_duration_that_is_none_is_refused_when_the_dag_is_parsed(name: str, seconds: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be a number of seconds"):
        BalanceSensor(task_id="gate", **{name: seconds})
