"""Auto top-up: a waiting gate reports it, and ends early if it is stuck."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from support import KEY, MODES

from airflow_provider_aimlbilling.client.api import Api
from airflow_provider_aimlbilling.client.responses import read_balance_v2_detail
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sandbox.routes import ForbiddenError, respond

LONG_AGO = timedelta(hours=2)


def let_top_up_fail(sandbox: Sandbox, below_since: timedelta = LONG_AGO) -> None:
    """Bring the account from 9 to 1 USD, with an auto top-up below 5 USD whose payments fail."""
    sandbox.set_balance("9 USD")
    ledger = sandbox.account.ledger
    ledger[-1] = replace(ledger[-1], at=datetime.now(timezone.utc) - timedelta(hours=3))
    sandbox.set_auto_top_up("5 USD", "20 USD", payments_work=False)
    sandbox.spend("8 USD", "a", at=datetime.now(timezone.utc) - below_since)


def gate(mode: str, **more: Any) -> str:
    options = {"poke_interval": 0.2, "timeout": 4, "soft_fail": True, "threshold": "2 USD"} | more
    return f'BalanceSensor(task_id="gate", {MODES[mode]}, {", ".join(f"{k}={v!r}" for k, v in options.items())})'


@pytest.mark.parametrize("mode", MODES)
def test_a_stuck_top_up_fails_the_gate_early_whatever_soft_fail_says(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    let_top_up_fail(sandbox)
    run = run_dag(gate(mode, fail_if_topup_stuck=True))
    assert run.state() == "failed", "soft_fail is for timeouts"
    setting = "buys 20.00 USD when the balance is below 5.00 USD"
    assert f"Setting: auto top-up is on: {setting}." in run.log
    assert "for 3600 seconds" in run.log
    assert "AimlBillingTopUpStuckError" in run.log


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize(
    "reason",
    ["below only since now", "a payment arrived", "above its own threshold", "auto top-up is off", "not requested"],
)
def test_a_gate_keeps_waiting_unless_the_top_up_is_stuck(
    run_dag: Any, sandbox: Sandbox, mode: str, reason: str
) -> None:
    let_top_up_fail(sandbox, timedelta(minutes=1) if reason == "below only since now" else LONG_AGO)
    if reason == "a payment arrived":
        sandbox.top_up("0.50 USD", at=datetime.now(timezone.utc) - timedelta(minutes=30))
    if reason == "above its own threshold":
        sandbox.set_auto_top_up("0.50 USD", "20 USD", payments_work=False)
    if reason == "auto top-up is off":
        sandbox.account.auto_top_up = None
    run = run_dag(gate(mode, timeout=0.5, fail_if_topup_stuck=reason != "not requested"))
    assert run.state() == "skipped"


def test_a_stuck_top_up_does_not_hold_a_gate_that_opens(run_dag: Any, sandbox: Sandbox) -> None:
    let_top_up_fail(sandbox)
    run = run_dag(gate("deferrable", threshold="1 USD", fail_if_topup_stuck=True))
    assert run.state() == "success"


def test_silent_fail_logs_a_stuck_top_up_and_keeps_waiting(run_dag: Any, sandbox: Sandbox) -> None:
    let_top_up_fail(sandbox)
    run = run_dag(gate("deferrable", fail_if_topup_stuck=True, silent_fail=True, timeout=1))
    assert run.state() == "skipped"
    assert "Still waiting: Auto top-up is stuck" in run.log


def test_an_account_that_is_out_of_credits_can_be_stuck_too(sandbox: Sandbox) -> None:
    let_top_up_fail(sandbox)
    sandbox.fail(status=403, times=1)
    with pytest.raises(Exception, match="out of credits") as caught:
        AimlBillingHook(retries=0).get_balance(top_up_grace=3600)
    assert caught.value.top_up.stuck_for == 3600  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("enabled", [True, False])
def test_a_waiting_gate_logs_whether_auto_top_up_is_on(
    run_dag: Any, sandbox: Sandbox, mode: str, enabled: bool
) -> None:
    """The v1 balance says so itself, so this takes no further request."""
    sandbox.set_balance("1 USD")
    if enabled:
        sandbox.set_auto_top_up("0.10 USD", "20 USD")
    run = run_dag(gate(mode, timeout=0.5))
    assert f"Auto top-up: {'enabled' if enabled else 'disabled'}." in run.log
    assert {request.path for request in sandbox.requests} == {"/v1/billing/balance"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("enabled", [True, False])
def test_a_waiting_gate_logs_auto_top_up_on_v2_too(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, mode: str, enabled: bool
) -> None:
    """This reads another endpoint, in one request. Nothing about the person that it names is logged."""
    sandbox.set_balance("1 USD")
    if enabled:
        sandbox.set_auto_top_up("0.10 USD", "20 USD")
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    run = run_dag(gate(mode, timeout=0.5))
    assert f"Auto top-up: {'enabled' if enabled else 'disabled'}." in run.log
    assert {request.path for request in sandbox.requests} == {"/v2/billing/detail"}
    assert "user@example.com" not in run.log + str(run.xcom(key="verdict"))


def test_a_key_that_may_not_read_the_detail_still_reads_the_balance(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """After one refusal, only the balance is requested. A refusal of the balance itself is still an error."""
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))

    def refuse_detail(account: Any, path: str, *arguments: Any) -> Any:
        if path == "/v2/billing/detail":
            raise ForbiddenError("Not with this key.")
        return respond(account, path, *arguments)

    monkeypatch.setattr("airflow_provider_aimlbilling.sandbox.handler.respond", refuse_detail)
    hook = AimlBillingHook(retries=0)
    assert [hook.get_balance(with_top_up=True).auto_debit_status for _ in range(3)] == [None] * 3
    assert [request.path for request in sandbox.requests] == ["/v2/billing/detail", *["/v2/billing"] * 3]
    sandbox.fail(status=403, message="Not with this key.")
    with pytest.raises(AimlBillingAuthError):
        hook.get_balance(with_top_up=True)


def test_out_of_credits_takes_one_request_on_v2(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    sandbox.fail(status=403)
    with pytest.raises(InsufficientBalanceError):
        AimlBillingHook(retries=0).get_balance(with_top_up=True)
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize(
    ("settings", "status"),
    [(None, None), ({}, None), ({"is_enabled": "yes"}, None), ({"is_enabled": True}, "enabled")],
)
def test_the_balance_does_not_depend_on_the_auto_top_up_settings(settings: Any, status: str | None) -> None:
    body = {"current_balance": 1, "currency": "USD", "autotopup_settings": settings}
    found = read_balance_v2_detail(json.dumps(body).encode())
    assert (found.balance, found.auto_debit_status) == (2_000_000, status)


@pytest.mark.parametrize(("status", "requests"), [(400, 2), (405, 2), (410, 2), (302, 2), (500, 2), (429, 1)])
def test_the_balance_does_not_depend_on_the_detail_endpoint(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, status: int, requests: int
) -> None:
    """If only the detail fails, the balance itself is requested at once, unless the API is rate limiting."""
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    hook = AimlBillingHook(retries=0)
    sandbox.fail(status=status, times=1)
    if requests == 1:
        with pytest.raises(AimlBillingUnavailable):
            hook.get_balance(with_top_up=True)
    else:
        assert hook.get_balance(with_top_up=True).balance == 5_000_000
    assert len(sandbox.requests) == requests
    assert hook.get_balance(with_top_up=True).balance == 5_000_000
    assert [request.path for request in sandbox.requests[requests:]] == ["/v2/billing"]


def test_a_sensor_does_not_return_to_a_detail_endpoint_that_failed(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """It looks the connection up again after each error, and must not start over with the detail."""
    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    gate = BalanceSensor(task_id="gate", threshold="9 USD")
    sandbox.fail(status=503)
    context: Any = {"ti": SimpleNamespace(map_index=-1)}
    assert not gate.poke(context)
    sandbox.recover()
    assert not gate.poke(context)
    assert [request.path for request in sandbox.requests] == ["/v2/billing/detail", "/v2/billing", "/v2/billing"]


def test_a_gate_that_is_short_of_the_key_limit_only_keeps_waiting(run_dag: Any, sandbox: Sandbox) -> None:
    let_top_up_fail(sandbox)
    sandbox.top_up("2 USD", at=datetime.now(timezone.utc) - timedelta(hours=5))
    sandbox.set_key_limit("1 USD", "day")
    run = run_dag(gate("poke", timeout=0.5, fail_if_topup_stuck=True, respect_key_limit=True, threshold="3 USD"))
    assert run.xcom(key="verdict")["short_of"] == "key_limit"
    assert run.state() == "skipped", "it timed out; a payment would not have helped"


def test_a_new_account_is_not_stuck(sandbox: Sandbox) -> None:
    sandbox.account.ledger[0] = replace(sandbox.account.ledger[0], at=datetime.now(timezone.utc))
    sandbox.set_auto_top_up("5 USD", "20 USD", payments_work=False)
    top_up = AimlBillingHook(retries=0).get_balance(top_up_grace=3600).top_up
    assert top_up is not None
    assert top_up.stuck_for is None


def test_an_overdrawn_account_counts_from_what_it_owes(sandbox: Sandbox) -> None:
    """It owes 8 USD, of which 6 were charged just now. It was below the threshold of 5 USD even before that."""
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


def test_a_retry_after_of_the_detail_endpoint_does_not_delay_the_balance(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """The auto top-up is a further request: it waits as long as the API asks, and the balance is read all the same."""
    hook = AimlBillingHook(retries=0)
    requested: list[str] = []

    def limit_detail(api: Api, path: str, *query: Any, get: Any = Api.get) -> bytes:
        if path == "/v2/billing/detail":
            requested.append(path)
            raise AimlBillingUnavailable("busy", retry_after=600.0, status=429)
        body: bytes = get(api, path, *query)
        return body

    monkeypatch.setattr(Api, "get", limit_detail)
    for _ in range(3):
        assert hook.get_balance(top_up_grace=3600).top_up is None
    assert len(requested) == 1


def test_v2_reports_auto_top_up_in_full_with_fail_if_topup_stuck(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.set_balance("1 USD")
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    run = run_dag(gate("poke", timeout=1, fail_if_topup_stuck=True))
    assert "Auto top-up is off." in run.log


def test_no_log_contains_the_key_or_personal_data(run_dag: Any, sandbox: Sandbox) -> None:
    let_top_up_fail(sandbox)
    run = run_dag(gate("deferrable", fail_if_topup_stuck=True))
    assert "user@example.com" not in run.log
    assert KEY not in run.log


def test_a_deferred_gate_waits_for_a_fraction_of_a_credit(run_dag: Any, sandbox: Sandbox) -> None:
    """An estimate may require one, and the trigger must read what the sensor wrote."""
    threading.Timer(0.5, sandbox.top_up, [1]).start()
    run = run_dag(gate("deferrable", threshold="5000000.5 credits", timeout=20, soft_fail=False))
    assert run.state() == "success"


@pytest.mark.parametrize("grace", [0, -1, True])
def test_topup_grace_must_be_positive(grace: float) -> None:
    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

    with pytest.raises(ValueError, match="topup_grace"):
        BalanceSensor(task_id="gate", topup_grace=grace)
