"""A gate knows whether the account tops itself up, and when waiting for that has become hopeless."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import RESCHEDULES

from airflow_provider_aimlbilling.account import read_v2_detail
from airflow_provider_aimlbilling.balance import Balance, TopUp
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingContractError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sandbox_account import WrongKey

MODES = {
    "poke": 'mode="poke", ',
    "reschedule": 'mode="reschedule", ',
    "deferrable": "deferrable=True, ",
}
if not RESCHEDULES:
    del MODES["reschedule"]
AGO = {"long": timedelta(hours=2), "just now": timedelta(minutes=1)}


def dry(sandbox: Sandbox, fell: str = "long") -> None:
    """Auto top-up is on below 5 USD, its payments fail, and a charge has brought the account from 9 to 1 USD."""
    sandbox.set_balance("9 USD")
    sandbox.account.ledger[-1] = sandbox.account.ledger[-1].__class__(
        **(vars(sandbox.account.ledger[-1]) | {"at": datetime.now(timezone.utc) - timedelta(hours=3)})
    )
    sandbox.set_auto_top_up("5 USD", "20 USD", payments_work=False)
    sandbox.spend("8 USD", "a", at=datetime.now(timezone.utc) - AGO[fell])


def gate(mode: str, **more: Any) -> str:
    options = {"poke_interval": 1, "timeout": 4, "soft_fail": True, "threshold": "2 USD"} | more
    return f'BalanceSensor(task_id="gate", {MODES[mode]}{", ".join(f"{k}={v!r}" for k, v in options.items())})'


@pytest.mark.parametrize("mode", MODES)
def test_a_stuck_top_up_ends_the_wait_early_and_never_as_a_skip(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    dry(sandbox)
    run = run_dag(gate(mode, fail_if_topup_stuck=True))
    assert run.state() == "failed", "soft_fail is for time-outs"
    assert "auto top-up is on, and buys 40,000,000 credits (20.00 USD) below 10,000,000 credits (5.00 USD)" in run.log
    assert "for 3600 seconds" in run.log
    assert "AimlBillingTopUpStuckError" in run.log


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize(
    "why", ["fell just now", "paid since", "has enough for itself", "auto top-up is off", "nobody asked"]
)
def test_it_waits_on_while_there_is_hope(run_dag: Any, sandbox: Sandbox, mode: str, why: str) -> None:
    dry(sandbox, "just now" if why == "fell just now" else "long")
    if why == "paid since":
        sandbox.top_up("0.50 USD", at=datetime.now(timezone.utc) - timedelta(minutes=30))
    if why == "has enough for itself":
        sandbox.set_auto_top_up("0.50 USD", "20 USD", payments_work=False)
    if why == "auto top-up is off":
        sandbox.account.auto_top_up = None
    run = run_dag(gate(mode, timeout=1, fail_if_topup_stuck=why != "nobody asked"))
    assert run.state() == "skipped"


def test_a_gate_that_clears_does_not_mind(run_dag: Any, sandbox: Sandbox) -> None:
    dry(sandbox)
    run = run_dag(gate("deferrable", threshold="1 USD", fail_if_topup_stuck=True))
    assert run.state() == "success"


def test_silent_fail_says_it_and_waits_on(run_dag: Any, sandbox: Sandbox) -> None:
    dry(sandbox)
    run = run_dag(gate("deferrable", fail_if_topup_stuck=True, silent_fail=True, timeout=3))
    assert run.state() == "skipped"
    assert "The gate still waits. The last poll failed: Waiting is hopeless" in run.log


def test_an_account_that_is_out_of_credits_is_stuck_too(sandbox: Sandbox) -> None:
    dry(sandbox)
    sandbox.fail(status=403, times=1)
    with pytest.raises(Exception, match="out of credits") as caught:
        AimlBillingHook(retries=0).get_balance(top_up_grace=3600)
    assert caught.value.top_up.stuck_for == 3600  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("enabled", [True, False])
def test_a_waiting_gate_says_whether_the_account_tops_itself_up(
    run_dag: Any, sandbox: Sandbox, mode: str, enabled: bool
) -> None:
    """v1 of the balance says so itself: it takes no further request."""
    sandbox.set_balance("1 USD")
    if enabled:
        sandbox.set_auto_top_up("0.10 USD", "20 USD")
    run = run_dag(gate(mode, timeout=1))
    assert f"Auto top-up: {'enabled' if enabled else 'disabled'}." in run.log
    assert {request.path for request in sandbox.requests} == {"/v1/billing/balance"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("enabled", [True, False])
def test_a_gate_that_waits_says_it_on_v2_too(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, mode: str, enabled: bool
) -> None:
    """It takes another request there, and no further one; of the person that it names nothing is told."""
    sandbox.set_balance("1 USD")
    if enabled:
        sandbox.set_auto_top_up("0.10 USD", "20 USD")
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    run = run_dag(gate(mode, timeout=1))
    assert f"Auto top-up: {'enabled' if enabled else 'disabled'}." in run.log
    assert {request.path for request in sandbox.requests} == {"/v2/billing/detail"}
    assert "user@example.com" not in run.log + str(run.xcom(key="verdict"))


def test_a_key_that_may_not_ask_for_the_detail_still_has_its_gate(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """Refused once, it is not asked for again; and what refuses the balance too is told as ever."""
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    answer = sandbox.account.answer

    def refuse(path: str, *arguments: Any) -> Any:
        if path == "/v2/billing/detail":
            raise WrongKey("Not with this key.")
        return answer(path, *arguments)

    monkeypatch.setattr(sandbox.account, "answer", refuse)
    hook = AimlBillingHook(retries=0)
    assert [hook.get_balance(with_top_up=True).auto_debit_status for _ in range(3)] == [None] * 3
    assert [request.path for request in sandbox.requests] == ["/v2/billing/detail", *["/v2/billing"] * 3]
    sandbox.fail(status=403, message="Not with this key.")
    with pytest.raises(AimlBillingAuthError):
        hook.get_balance(with_top_up=True)


def test_out_of_credits_is_asked_for_once(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    sandbox.fail(status=403)
    with pytest.raises(InsufficientBalanceError):
        AimlBillingHook(retries=0).get_balance(with_top_up=True)
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize("settings", [None, {}, {"is_enabled": "yes"}, {"is_enabled": True}])
def test_a_balance_does_not_hang_on_the_settings_of_auto_top_up(settings: Any) -> None:
    body = {"current_balance": 1, "currency": "USD", "autotopup_settings": settings}
    found = read_v2_detail(json.dumps(body).encode())
    assert (found.balance, found.auto_debit_status) == (2_000_000, None)


@pytest.mark.parametrize(("status", "asked"), [(400, 2), (405, 2), (410, 2), (302, 2), (500, 2), (429, 1)])
def test_a_gate_does_not_hang_on_the_detail(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, status: int, asked: int
) -> None:
    """Where that alone fails the balance itself is asked for: at once, unless the API asks for patience."""
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    hook = AimlBillingHook(retries=0)
    sandbox.fail(status=status, times=1)
    if asked == 1:
        with pytest.raises(AimlBillingUnavailable):
            hook.get_balance(with_top_up=True)
    else:
        assert hook.get_balance(with_top_up=True).balance == 5_000_000
    assert len(sandbox.requests) == asked
    assert hook.get_balance(with_top_up=True).balance == 5_000_000
    assert [request.path for request in sandbox.requests[asked:]] == ["/v2/billing"]


def test_a_gate_in_poke_mode_gets_past_a_detail_that_breaks(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """It closes its hook after each error, and must not begin with the detail again."""
    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    gate = BalanceSensor(task_id="gate", threshold="9 USD")
    sandbox.fail(status=503)
    assert not gate.poke({})
    sandbox.mend()
    assert not gate.poke({})
    assert [request.path for request in sandbox.requests] == ["/v2/billing/detail", "/v2/billing", "/v2/billing"]


def test_a_key_whose_limit_alone_is_short_waits_for_the_next_period(run_dag: Any, sandbox: Sandbox) -> None:
    dry(sandbox)
    sandbox.top_up("2 USD", at=datetime.now(timezone.utc) - timedelta(hours=5))
    sandbox.set_key_limit("1 USD", "day")
    run = run_dag(gate("poke", fail_if_topup_stuck=True, respect_key_limit=True, threshold="3 USD"))
    assert run.xcom(key="verdict")["short_of"] == "key_limit"
    assert run.state() == "skipped", "its time is up, and nothing is hopeless"


def test_an_account_that_was_just_made_is_not_stuck(sandbox: Sandbox) -> None:
    sandbox.account.ledger[0] = replace(sandbox.account.ledger[0], at=datetime.now(timezone.utc))
    sandbox.set_auto_top_up("5 USD", "20 USD", payments_work=False)
    top_up = AimlBillingHook(retries=0).get_balance(top_up_grace=3600).top_up
    assert top_up is not None
    assert top_up.stuck_for is None


def test_an_overdrawn_account_is_reckoned_from_what_it_owes(sandbox: Sandbox) -> None:
    """It owes 8 USD, of which 6 were charged just now: before that it was below the mark of 5 USD, too."""
    sandbox.set_balance("6 USD")
    sandbox.spend("6 USD", "a")
    del sandbox.account.ledger[1:-1]
    sandbox.set_auto_top_up("5 USD", "20 USD", payments_work=False)
    balance = {"balance": -16_000_000, "lowBalance": True, "lowBalanceThreshold": 0, "lastUpdated": "", "status": ""}
    body = json.dumps(balance | {"autoDebitStatus": "", "statusExplanation": ""}).encode()
    sandbox.fail(body=body, times=1)
    with pytest.raises(InsufficientBalanceError, match="overdrawn by 16,000,000") as caught:
        AimlBillingHook(retries=0).get_balance(top_up_grace=3600)
    assert caught.value.top_up.stuck_for == 3600


def test_retry_after_of_the_settings_is_kept(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """They are one call more: an API that asks for patience there gets it, and the balance is read all the same."""
    hook = AimlBillingHook(retries=0)
    get = hook._get

    def busy(path: str, *query: Any) -> bytes:
        if path == "/v2/billing/detail":
            asked.append(path)
            raise AimlBillingUnavailable("busy", retry_after=600.0, status=429)
        return get(path, *query)

    asked: list[str] = []
    monkeypatch.setattr(hook, "_get", busy)
    for _ in range(3):
        assert hook.get_balance(top_up_grace=3600).top_up is None
    assert len(asked) == 1


def test_v2_tells_more_where_it_is_asked(run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.set_balance("1 USD")
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    run = run_dag(gate("poke", timeout=1, fail_if_topup_stuck=True))
    assert "Of itself: auto top-up is off." in run.log


def test_no_key_and_no_person_is_in_any_log(run_dag: Any, sandbox: Sandbox) -> None:
    dry(sandbox)
    run = run_dag(gate("deferrable", fail_if_topup_stuck=True))
    assert "user@example.com" not in run.log
    assert sandbox.key not in run.log


def test_a_part_of_a_credit_is_waited_for_too(run_dag: Any, sandbox: Sandbox) -> None:
    """As an estimate may ask for one; the trigger must read what the sensor writes."""
    threading.Timer(2, sandbox.top_up, [1]).start()
    run = run_dag(gate("deferrable", threshold="5000000.5 credits", timeout=20, soft_fail=False))
    assert run.state() == "success"


def test_a_payment_that_works_tops_the_sandbox_up(sandbox: Sandbox) -> None:
    sandbox.set_auto_top_up("5 USD", "20 USD")
    sandbox.spend("1 USD", "a")
    assert sandbox.balance.usd * 2 == 43


@pytest.mark.parametrize("grace", [0, -1])
def test_a_grace_must_last(grace: float) -> None:
    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

    with pytest.raises(ValueError, match="topup_grace"):
        BalanceSensor(task_id="gate", topup_grace=grace)


@pytest.mark.parametrize("top_up", [TopUp(is_enabled=False), TopUp(True, 5, 6), TopUp(True, 5, 6, 60.0)])
def test_a_top_up_comes_back_whole_from_an_event(top_up: TopUp) -> None:
    kept = Balance(balance=10, top_up=top_up)
    assert Balance.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept


@pytest.mark.parametrize(
    "top_up",
    [
        "on",
        {},
        {"is_enabled": 1},
        {"is_enabled": True},
        {"is_enabled": True, "threshold": 1, "amount": 1, "stuck_for": "x"},
    ],
)
def test_a_top_up_of_another_version_is_refused(top_up: Any) -> None:
    with pytest.raises(AimlBillingContractError):
        Balance.from_dict({"balance": 10, "top_up": top_up})
