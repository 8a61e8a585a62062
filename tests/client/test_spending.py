"""What a key has spent of a budget: which window is requested, and what makes the answer count."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from clock import Clock
from raw_server import BALANCE, RawServer, answer
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingBudgetError,
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.sandbox import Sandbox

NOW = datetime(2026, 11, 26, 13, 30, 0, 123456, timezone.utc)  # a Thursday
USAGE = {"start": "2026-11-01T00:00:00Z", "end": "2026-11-26T13:30:00Z", "currency": "USD", "spend": 1.5, "requests": 3}


@pytest.mark.parametrize(
    ("period", "since"),
    [
        ("day", "2026-11-26T00:00:00Z"),
        ("week", "2026-11-23T00:00:00Z"),
        ("month", "2026-11-01T00:00:00Z"),
        ("day in Pacific/Auckland", "2026-11-26T11:00:00Z"),
        ("month in America/New_York", "2026-11-01T04:00:00Z"),
    ],
)
def test_what_was_spent_since_the_period_began_counts(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, client: AimlBillingClient, period: str, since: str
) -> None:
    Clock(monkeypatch, NOW)
    began = datetime.fromisoformat(since.replace("Z", "+00:00"))
    sandbox.set_balance("50 USD")
    for amount, at in (("1 USD", began - timedelta(seconds=1)), ("2 USD", began), ("4 USD", NOW)):
        sandbox.spend(amount, "a", at=at)
    balance = client.get_balance(budget=f"10 USD per {period}")
    assert balance.balance == Amount.parse("43 USD").credits
    assert balance.budget
    assert balance.budget.spent == Amount.parse("6 USD")
    assert balance.budget.since == began
    assert balance.budget.since <= NOW < balance.budget.until
    assert balance.available == balance.budget.left == Amount.parse("4 USD")
    paths = [urlsplit(request.path) for request in sandbox.requests]
    assert [parts.path for parts in paths] == ["/v1/billing/balance", "/v2/usage"], "one more request"
    assert parse_qs(paths[1].query) == {
        "start": [since.replace("Z", ".000Z")],
        "end": ["2026-11-26T13:35:00.123Z"],  # the API's clock may be ahead
    }


def test_a_period_that_has_just_begun_is_requested_too(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, client: AimlBillingClient
) -> None:
    began = datetime(2026, 11, 1, tzinfo=timezone.utc)
    Clock(monkeypatch, began)
    sandbox.spend("1 USD", "a", at=began - timedelta(milliseconds=1))
    assert client.get_balance(budget="10 USD per month").budget.spent == Amount(0)  # type: ignore[union-attr]
    sandbox.spend("0.50 USD", "a", at=began)
    assert client.get_balance(budget="10 USD per month").budget.spent.usd == Amount.parse("0.50 USD").usd  # type: ignore[union-attr]


def test_without_a_budget_no_usage_is_requested(sandbox: Sandbox, client: AimlBillingClient) -> None:
    assert client.get_balance().budget is None
    assert len(sandbox.requests) == 1


def test_v2_counts_a_budget_in_the_same_way(sandbox: Sandbox) -> None:
    sandbox.set_balance("50 USD")
    sandbox.spend("3 USD")
    client = AimlBillingClient(Settings(KEY, sandbox.url, 2, "v2"), retries=0)
    assert client.get_balance(budget="10 USD per month", with_top_up=True).available == Amount.parse("7 USD")
    client.close()


def test_what_is_no_budget_is_refused_before_any_request(sandbox: Sandbox, client: AimlBillingClient) -> None:
    for wrong in ("200 USD", "", 200):
        with pytest.raises(AimlBillingBudgetError):
            client.get_balance(budget=wrong)
    assert not sandbox.requests


MESSAGE = {"path": "/v2/usage", "requestId": "r", "statusCode": "403"}
UNKNOWN: dict[str, tuple[Any, str, type[AimlBillingError]]] = {
    "down": ({}, "503 Down", AimlBillingUnavailable),
    "too many requests": ({}, "429 Slow", AimlBillingUnavailable),
    "not JSON": (b"<html>", "200 OK", AimlBillingUnavailable),
    "no such route": ({}, "404 Not", AimlBillingContractError),
    "another key's": (MESSAGE | {"message": "Not with this key."}, "403 No", AimlBillingAuthError),
    "out of credits": (MESSAGE | {"message": "You've run out of credits."}, "403 No", InsufficientBalanceError),
    "no spend": ({name: value for name, value in USAGE.items() if name != "spend"}, "200 OK", AimlBillingContractError),
    "spend null": (USAGE | {"spend": None}, "200 OK", AimlBillingContractError),
    "spend negative": (USAGE | {"spend": -1}, "200 OK", AimlBillingContractError),
    "spend as text": (USAGE | {"spend": "1.50"}, "200 OK", AimlBillingContractError),
    "another currency": (USAGE | {"currency": "EUR"}, "200 OK", AimlBillingContractError),
    "no window": (USAGE | {"end": "2026-11-01T00:00:00Z"}, "200 OK", AimlBillingContractError),
    "an early end": (USAGE | {"end": "2026-11-26T13:20:00Z"}, "200 OK", AimlBillingContractError),
    "a later start": (USAGE | {"start": "2026-11-25T13:30:00Z"}, "200 OK", AimlBillingContractError),
}


@pytest.mark.parametrize("row", UNKNOWN)
def test_usage_that_is_unknown_is_never_zero(monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    body, status, error = UNKNOWN[row]
    Clock(monkeypatch, NOW)
    answers = iter([answer(BALANCE), answer(body, status=status)])
    with RawServer(lambda: [next(answers)]) as server:
        client = AimlBillingClient(Settings(KEY, server.url, 2), retries=0)
        with pytest.raises(AimlBillingError) as caught:
            client.get_balance(budget="10 USD per month")
        client.close()
    assert type(caught.value) is error


def test_usage_that_is_unavailable_once_is_requested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, NOW)
    answers = iter([answer(BALANCE), answer({}, status="503 Down"), answer(BALANCE), answer(USAGE)])
    with RawServer(lambda: [next(answers)]) as server:
        client = AimlBillingClient(Settings(KEY, server.url, 2), retries=1)
        assert client.get_balance(budget="10 USD per month").budget.left.usd == Amount.parse("8.50 USD").usd  # type: ignore[union-attr]
        client.close()
