"""Responses: documented bodies become values, and no other body becomes a figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from endpoints import BODIES, CALLS, HOUR, NOW
from fields import REQUIRED, use_of
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings
from airflow_provider_aimlbilling.client.json_fields import time_field
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingKeyDisabledError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance, TopUp
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.money.usage import Transaction, stayed_below
from airflow_provider_aimlbilling.sandbox import Sandbox


@pytest.fixture
def v2(settings: Settings) -> AimlBillingClient:
    return AimlBillingClient(replace(settings, api_version="v2"), retries=0)


def test_v1_reports_all_documented_fields(client: AimlBillingClient) -> None:
    balance = client.get_balance()
    assert (balance.balance, balance.balance_usd) == (5_000_000, Decimal("2.5"))
    assert (balance.low_balance, balance.low_balance_threshold) == (False, 10_000)
    assert (balance.auto_debit_status, balance.status) == ("disabled", "current")
    assert balance.status_explanation
    assert balance.last_updated


def test_v2_reports_the_same_balance_in_usd(sandbox: Sandbox, v2: AimlBillingClient) -> None:
    sandbox.set_balance(551_564_495)
    balance = v2.get_balance()
    assert sandbox.requests[0].path == "/v2/billing"
    assert (balance.balance, balance.balance_usd) == (551_564_495, Decimal("275.7822475"))
    assert balance.low_balance is None
    assert balance.low_balance_threshold is None


V2_BODIES = {
    "without current_balance": b'{"currency": "USD"}',
    "without currency": b'{"current_balance": 5}',
    "another currency": b'{"current_balance": 5, "currency": "EUR"}',
    "text": b'{"current_balance": "5", "currency": "USD"}',
    "true": b'{"current_balance": true, "currency": "USD"}',
    "null": b'{"current_balance": null, "currency": "USD"}',
    "NaN": b'{"current_balance": NaN, "currency": "USD"}',
    "implausibly large": b'{"current_balance": 1e15, "currency": "USD"}',
}


@pytest.mark.parametrize("row", V2_BODIES)
def test_a_v2_body_that_is_not_as_documented_is_refused(sandbox: Sandbox, v2: AimlBillingClient, row: str) -> None:
    sandbox.fail(body=V2_BODIES[row])
    with pytest.raises(AimlBillingContractError, match="api_version"):
        v2.get_balance()


def test_a_negative_v2_balance_means_overdrawn(sandbox: Sandbox, v2: AimlBillingClient) -> None:
    sandbox.fail(body=b'{"current_balance": -0.01, "currency": "USD"}')
    with pytest.raises(InsufficientBalanceError, match=r"overdrawn by 20,000 credits \(0\.01 USD\): top it up"):
        v2.get_balance()


def test_the_auto_top_up_is_read_and_personal_data_is_not(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.set_auto_top_up("5 USD", "20 USD")
    assert client.get_top_up() == TopUp(True, 10_000_000, 40_000_000)
    sandbox.account.auto_top_up = None
    assert client.get_top_up() == TopUp(is_enabled=False)
    sandbox.fail(
        body=b'{"email": "user@example.com", "user_id": 111, "autotopup_settings": {"is_enabled": "user@example.com"}}'
    )
    with pytest.raises(AimlBillingContractError) as caught:
        client.get_top_up()
    assert "user@example.com" not in str(caught.value)


def test_the_long_tail_of_a_binary_sum_is_kept(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.fail(body=json.dumps(BODIES["/v2/usage"] | {"spend": 0.00001 + 0.00002}).encode())
    assert client.get_usage(start=NOW - HOUR, end=NOW).total.amount.usd == Decimal("0.000030000000000000004")


def test_a_time_that_utc_cannot_express_is_refused(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.fail(body=json.dumps(BODIES["/v2/usage"] | {"start": "0001-01-01T00:00:00+05:00"}).encode())
    with pytest.raises(AimlBillingContractError, match="a time"):
        client.get_usage(start=NOW - HOUR, end=NOW)


def test_a_long_usage_by_day_and_model_is_read(sandbox: Sandbox, client: AimlBillingClient) -> None:
    """Three months of a hundred models are more than a megabyte."""
    group = {"day": "2026-11-01", "model": "m" * 40, "spend": 1, "tokens": {"input": 1, "output": 1, "total": 2}}
    group |= {"requests": {"total": 1, "charged": 1, "succeeded": 1, "failed": 0}}
    sandbox.fail(body=json.dumps(BODIES["/v2/usage"] | {"groups": [group] * 9200}).encode())
    assert len(client.get_usage(start=NOW - HOUR, end=NOW, group_by="day,model").groups) == 9200


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    """Serve one account for hundreds of bodies, because starting and stopping a server takes longer than a request."""
    with Sandbox("2.50 USD", key=KEY) as account:
        yield account


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each field and each element, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in items:
        yield (*path, name)
        yield from paths(part, (*path, name))


def invalid_bodies() -> list[Any]:
    """Return each body with each required field left out, or of each type that it must not have."""
    cases = []
    for call, good in BODIES.items():
        for path in paths(good):
            if use_of(call, path) != REQUIRED:
                continue
            for bad in ("left out", None, True, "x", -1, float("nan"), [], {"a": 1}):
                body = json.loads(json.dumps(good))
                holder: Any = body
                for step in path[:-1]:
                    holder = holder[step]
                name, was = path[-1], holder[path[-1]]
                if bad == "left out":
                    if isinstance(holder, list) or name in ("limit", "models"):
                        continue
                    del holder[name]
                elif (
                    (bad is None and name in ("limit", "next_cursor"))
                    or (isinstance(bad, str) and isinstance(was, str) and name in ("model", "prefix", "request_id"))
                    or (bad == [] and isinstance(was, list))
                    or (bad is True and isinstance(was, bool))
                ):
                    continue
                else:
                    holder[name] = bad
                cases.append(pytest.param(call, body, id=f"{call} {'.'.join(map(str, path))} {bad}"))
    return cases


@pytest.mark.parametrize(("call", "body"), invalid_bodies())
def test_a_body_that_is_not_as_documented_yields_no_figure(shared_sandbox: Sandbox, call: str, body: Any) -> None:
    shared_sandbox.fail(body=json.dumps(body).encode())
    client = AimlBillingClient(Settings(key=KEY, base_url=shared_sandbox.url, timeout=2), retries=0)
    with pytest.raises(AimlBillingError) as caught:
        CALLS[call](client)
    assert isinstance(caught.value, AimlBillingContractError | AimlBillingUnavailable | AimlBillingKeyDisabledError)


def test_a_ledger_entry_of_a_new_type_is_passed_on(sandbox: Sandbox, client: AimlBillingClient) -> None:
    body = json.loads(json.dumps(BODIES["/v2/billing/transactions"]))
    body["data"][0] |= {"type": "CASHBACK", "direction": "TOPUP"}
    del body["data"][0]["model"]
    sandbox.fail(body=json.dumps(body).encode())
    (entry,) = client.iter_transactions()
    assert (entry.type, entry.direction, entry.credits, entry.model) == ("CASHBACK", "TOPUP", 1_000_000, None)


def test_an_unknown_kind_of_top_up_counts_as_a_payment() -> None:
    charge = Transaction(NOW, "CHARGE", "MODEL_USAGE", 1, Decimal(0), None, None)
    assert stayed_below(5, 10, [charge])
    assert not stayed_below(5, 10, [replace(charge, direction="TOPUP", type="CASHBACK")])


@pytest.mark.parametrize("limit", [None, {}])
def test_an_empty_limit_is_no_limit(sandbox: Sandbox, client: AimlBillingClient, limit: Any) -> None:
    body = json.loads(json.dumps(BODIES["/v1/key"]))
    body["data"]["limit"] = limit
    sandbox.fail(body=json.dumps(body).encode())
    assert client.get_key_limit() is None


@pytest.mark.parametrize("retention", [None, "fortnight"])
def test_a_limit_with_an_unknown_period_counts_and_what_was_spent_is_unknown(
    sandbox: Sandbox, client: AimlBillingClient, retention: Any
) -> None:
    body = json.loads(json.dumps(BODIES["/v1/key"]))
    body["data"]["limit"] = {"threshold": 2} | ({"retention": retention} if retention else {})
    sandbox.fail(body=json.dumps(body).encode())
    limit = client.get_key_limit()
    assert limit is not None
    assert (limit.limit, limit.spent) == (4_000_000, None)
    balance = Balance(9_000_000, key_limit=limit)
    assert not Gate(Amount.parse("3 USD")).decide(balance).clears
    assert Gate(Amount.parse("2 USD")).decide(balance).clears
    assert Balance.from_dict(json.loads(json.dumps(balance.to_dict()))) == balance


def test_auto_top_up_is_known_to_be_on_without_its_amount(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.fail(body=b'{"autotopup_settings": {"is_enabled": true, "threshold": 5, "currency": "USD"}}')
    top_up = client.get_top_up()
    assert (top_up.is_enabled, top_up.threshold, top_up.amount) == (True, 10_000_000, None)
    assert str(top_up) == "auto top-up is on when the balance is below 5.00 USD"


@pytest.mark.parametrize("digits", ["", ".1", ".12", ".123", ".1234567", ".123456789"])
def test_times_may_have_any_number_of_digits(digits: str) -> None:
    """Python 3.10 itself reads three or six only."""
    for zone in ("Z", "+00:00", ""):
        moment = time_field({"at": f"2026-01-02T03:04:05{digits}{zone}"}, "at")
        assert moment.isoformat().startswith("2026-01-02T03:04:05")
        assert moment.microsecond == int(digits[1:7].ljust(6, "0"))


def test_windows_are_calculated_in_utc(sandbox: Sandbox, client: AimlBillingClient) -> None:
    """In Berlin, the 92 days from August to October have an hour more, which the API would refuse."""
    berlin = ZoneInfo("Europe/Berlin")
    client.get_usage(start=datetime(2026, 8, 1, tzinfo=berlin), end=datetime(2026, 11, 1, tzinfo=berlin))
    assert len(sandbox.requests) == 2
