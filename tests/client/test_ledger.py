"""The ledger: every entry once, newest first, exact and filtered."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from endpoints import BODIES, HOUR, NOW

from airflow_provider_aimlbilling.client import AimlBillingClient
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.sandbox import Sandbox


def test_a_long_ledger_yields_each_entry_once_newest_first_and_pages_on_demand(
    sandbox: Sandbox, client: AimlBillingClient
) -> None:
    sandbox.set_balance("900 USD")
    for number in range(250):
        sandbox.spend(number + 1, f"model-{number % 3}", at=NOW - timedelta(minutes=number // 100))
    found = list(client.iter_transactions(type="MODEL_USAGE"))
    assert sorted(entry.credits for entry in found) == list(range(1, 251))
    assert found == sorted(found, key=lambda entry: entry.created_at, reverse=True)
    assert [request.path.split("?")[0] for request in sandbox.requests] == ["/v2/billing/transactions"] * 3
    assert len(list(islice(client.iter_transactions(), 10))) == 10
    assert len(sandbox.requests) == 4


def test_entries_are_exact_and_filtered(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.top_up("0.0000005 USD", at=NOW - 2 * HOUR)
    sandbox.spend(3, "sandbox/chat", at=NOW - HOUR)
    entry, payment = list(client.iter_transactions(start=NOW - 3 * HOUR, end=NOW))
    assert (entry.direction, entry.type, entry.credits, entry.usd) == ("CHARGE", "MODEL_USAGE", 3, Decimal("0.0000015"))
    assert (payment.direction, payment.type, payment.credits, payment.model) == ("TOPUP", "PAYMENT", 1, None)
    assert [e.credits for e in client.iter_transactions(start=NOW - 3 * HOUR, end=NOW - HOUR)] == [1]
    assert [e.credits for e in client.iter_transactions(start=NOW - 3 * HOUR, direction="CHARGE")] == [3]


@pytest.mark.parametrize(
    "arguments",
    [{"direction": "IN"}, {"type": "GIFT"}, {"start": datetime(2026, 1, 1)}],  # noqa: DTZ001 - the mistake
)
def test_invalid_filters_fail_before_any_request(sandbox: Sandbox, client: AimlBillingClient, arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"one of|time zone"):
        client.iter_transactions(**arguments)
    assert not sandbox.requests


@pytest.mark.parametrize("length", [timedelta(0), timedelta(microseconds=999), -HOUR])
def test_an_empty_window_fails_before_any_request(
    sandbox: Sandbox, client: AimlBillingClient, length: timedelta
) -> None:
    with pytest.raises(ValueError, match="must be after its start"):
        client.iter_transactions(start=NOW, end=NOW + length)
    assert not sandbox.requests


def test_a_repeated_cursor_ends_the_iteration(sandbox: Sandbox, client: AimlBillingClient) -> None:
    body = BODIES["/v2/billing/transactions"] | {"pagination": {"next_cursor": "same", "has_more": True}}
    sandbox.fail(body=json.dumps(body).encode())
    with pytest.raises(AimlBillingContractError, match="cursor"):
        list(client.iter_transactions())
