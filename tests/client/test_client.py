"""The client: its session, the key's limit, usage and prices."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from endpoints import HOUR, NOW
from pricings import unit
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingKeyDisabledError,
    AimlBillingPricingError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.usage import Spend
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sandbox.encoding import to_json


def test_all_calls_share_one_session_and_one_tcp_connection(sandbox: Sandbox, client: AimlBillingClient) -> None:
    session = client.session
    for _ in range(5):
        client.get_balance()
    assert client.session is session
    assert sandbox.connections == 1


def test_no_repr_contains_the_key(client: AimlBillingClient) -> None:
    client.get_balance()
    for thing in (client, client.settings, client.session, client.session.auth, vars(client)):
        assert KEY not in repr(thing)


def test_every_balance_is_reported_to_the_callback(sandbox: Sandbox, settings: Settings) -> None:
    reported: list[Any] = []
    client = AimlBillingClient(replace(settings, api_version="v2"), retries=0, on_balance=reported.append)
    client.get_balance()
    sandbox.fail(body=b'{"current_balance": -0.01, "currency": "USD"}')
    with pytest.raises(InsufficientBalanceError):
        client.get_balance()
    assert reported == [5_000_000, -20_000]


@pytest.mark.parametrize("period", ["day", "week", "month", "no_reset"])
def test_a_key_limit_counts_what_was_spent_in_its_period(
    sandbox: Sandbox, client: AimlBillingClient, period: str
) -> None:
    sandbox.set_balance("50 USD")
    sandbox.set_key_limit("5 USD", period)
    sandbox.spend("1.5 USD", "a")
    sandbox.spend("7 USD", "a", at=sandbox.account.key_created_at - HOUR)
    limit = client.get_key_limit()
    assert limit is not None
    assert (limit.period, limit.limit, limit.remaining) == (period, 10_000_000, Amount.parse("3.5 USD"))
    sandbox.spend("30 USD", "a")
    overspent = client.get_key_limit()
    assert overspent is not None
    assert overspent.remaining == Amount(0), "charges are recorded late, so more than the limit may be spent"


def test_a_key_without_a_limit_takes_one_request(sandbox: Sandbox, client: AimlBillingClient) -> None:
    assert client.get_key_limit() is None
    assert [request.path for request in sandbox.requests] == ["/v1/key"]


def test_the_limit_of_another_key_is_not_used(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.account.latest_key = "0therKey-xyz"
    with pytest.raises(AimlBillingUnavailable, match="another key"):
        client.get_key_limit()


def test_a_disabled_key_is_an_error_only_where_the_key_is_checked(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.account.key_disabled = True
    with pytest.raises(AimlBillingKeyDisabledError, match="disabled"):
        client.get_balance(respect_key_limit=True)
    assert client.get_balance().balance == 5_000_000


def test_usage_is_reported_by_model_and_by_group(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.set_balance("50 USD")
    for amount, model in (("1.10 USD", "a"), ("0.20 USD", "b"), ("2.20 USD", "b"), ("0.7 USD", None)):
        sandbox.spend(amount, model, at=NOW - HOUR)
    sandbox.spend("9 USD", "a", at=NOW - 30 * HOUR)
    usage = client.get_usage(start=NOW - 2 * HOUR, end=NOW)
    assert usage.total == Spend(Amount.parse("4.20 USD"), 4)
    assert {name: spend.amount.usd for name, spend in usage.models.items()} == {
        "a": Decimal("1.1"),
        "b": Decimal("2.4"),
        "unknown": Decimal("0.7"),
    }
    assert client.get_usage(start=NOW - 2 * HOUR, end=NOW, by_model=False).models == {}
    grouped = client.get_usage(start=NOW - 40 * HOUR, end=NOW, group_by="day,model", tz="Europe/Berlin").groups
    assert sum(group["spend"] for group in grouped) == Decimal("13.2")


def test_a_window_of_more_than_92_days_is_read_in_parts(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.set_balance("50 USD")
    for days in (1, 91.99, 92.01, 150, 299):
        sandbox.spend("1 USD", "a", at=NOW - timedelta(days=days))
    usage = client.get_usage(start=NOW - timedelta(days=300), end=NOW)
    assert (usage.total.requests, usage.models["a"].amount.usd) == (5, 5)
    assert len(sandbox.requests) == 4
    assert usage.end - usage.start == timedelta(days=300)


def test_the_options_of_a_usage_are_sent(sandbox: Sandbox, client: AimlBillingClient) -> None:
    client.get_usage(start=NOW - HOUR, end=NOW, group_by="day", tz="Asia/Tokyo", key_prefix=KEY[:8])
    query = parse_qs(urlsplit(sandbox.requests[0].path).query)
    assert {"group_by": ["day"], "tz": ["Asia/Tokyo"], "key_prefix": [KEY[:8]]}.items() <= query.items()


def test_a_window_must_not_end_before_it_starts_and_needs_a_time_zone(client: AimlBillingClient) -> None:
    with pytest.raises(ValueError, match="before its start"):
        client.get_usage(start=NOW, end=NOW - HOUR)
    with pytest.raises(ValueError, match="time zone"):
        client.get_usage(start=datetime(2026, 1, 1), end=NOW)  # noqa: DTZ001 - the mistake


def test_the_pricing_of_one_model_is_requested_and_kept_until_it_changes(
    sandbox: Sandbox, client: AimlBillingClient
) -> None:
    first = client.get_pricing("chat")
    assert (first.model, first.kind, len(first.rates)) == ("sandbox/chat", "fixed", 2)
    assert [request.path for request in sandbox.requests] == ["/v1/models?id=chat&include=pricing"]
    again = client.get_pricing("chat")
    assert (again.rates, again.read_at >= first.read_at) == (first.rates, True)
    tags = [request.headers.get("If-None-Match") for request in sandbox.requests]
    assert tags[0] is None
    assert tags[1]
    sandbox.account.catalogue = [
        model | {"pricing": {"kind": "variable"}} if model["id"] == "sandbox/chat" else model
        for model in sandbox.account.catalogue
    ]
    assert client.get_pricing("chat").kind == "variable", "a changed price counts at once"


def test_a_response_without_an_etag_is_not_cached_under_an_older_one(
    sandbox: Sandbox, client: AimlBillingClient
) -> None:
    old = client.get_pricing("chat")
    model = {"id": "chat", "aliases": [], "pricing": {"kind": "fixed", "units": [unit("token", "input", "1", 1)]}}
    sandbox.fail(body=to_json({"data": [model]}).encode(), times=1)
    assert len(client.get_pricing("chat").rates) == 1
    assert client.get_pricing("chat").rates == old.rates
    assert sandbox.requests[-1].headers.get("If-None-Match") is None


def test_an_unexpected_304_is_not_a_price(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.fail(status=304, body=b"")
    with pytest.raises(AimlBillingContractError):
        client.get_pricing("chat")


def test_a_model_with_several_endpoints_needs_its_type(sandbox: Sandbox, client: AimlBillingClient) -> None:
    chat = sandbox.account.catalogue[0]
    sandbox.account.catalogue = [chat, dict(chat) | {"type": "openai/images", "pricing": {"kind": "variable"}}]
    with pytest.raises(AimlBillingPricingError, match="'openai/chat-completions'; 'openai/images'"):
        client.get_pricing("sandbox/chat")
    assert client.get_pricing("sandbox/chat", model_type="openai/chat-completions").kind == "fixed"


@pytest.mark.parametrize("model", ["", " ", None, 5])
def test_an_empty_model_name_fails_before_any_request(sandbox: Sandbox, client: AimlBillingClient, model: Any) -> None:
    with pytest.raises(AimlBillingPricingError, match="not the name of a model"):
        client.get_pricing(model)
    assert not sandbox.requests


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"body": b'{"object": "list", "data": []}'}, AimlBillingPricingError),
        ({"body": b'{"object": "list"}'}, AimlBillingContractError),
        ({"body": b"<html>"}, AimlBillingUnavailable),
        ({"status": 500}, AimlBillingUnavailable),
        ({"body": to_json({"data": [{"id": "chat", "aliases": "chat"}]}).encode()}, AimlBillingPricingError),
    ],
)
def test_a_response_without_a_pricing_is_not_a_price(
    sandbox: Sandbox, client: AimlBillingClient, fault: Any, error: type[AimlBillingError]
) -> None:
    sandbox.fail(**fault)
    with pytest.raises(error) as caught:
        client.get_pricing("chat")
    assert KEY not in str(caught.value)
