"""Every documented field is either required, or changes no decision: missing, null, or with another value."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import requests
from endpoints import logged_costs
from fields import FIELDS, REQUIRED, use_of
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings
from airflow_provider_aimlbilling.client.responses import read_api_key
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.sandbox import Sandbox

NOW = datetime.now(timezone.utc)
HOUR = timedelta(hours=1)
WINDOW = f"?start={NOW - HOUR:%Y-%m-%dT%H:%M:%SZ}&end={NOW:%Y-%m-%dT%H:%M:%SZ}"
VALUES = ("left out", None, True, "a new value", -1, 1e300, float("nan"), [], {"a": 1})


def verdicts(client: AimlBillingClient) -> list[bool]:
    return [Gate(Amount.parse(amount)).decide(client.get_balance()).clears for amount in ("1 USD", "2.50 USD", "9 USD")]


def ledger(client: AimlBillingClient) -> list[Any]:
    entries = islice(client.iter_transactions(), 2)
    return [(entry.created_at, entry.direction, entry.credits, entry.usd) for entry in entries]


def key_limit(client: AimlBillingClient) -> Any:
    key = read_api_key(client._api.get("/v1/key"))
    if key.prefix != KEY[:8]:
        raise AimlBillingUnavailable("another key")  # as get_key_limit() does
    return key.limit


def usage(client: AimlBillingClient) -> Any:
    found = client.get_usage(start=NOW - HOUR, end=NOW)
    return found.total.amount, {name: spend.amount for name, spend in found.models.items()}


# What each answer decides, or how much money it reports.
DECISIONS: dict[str, tuple[str, str, Callable[[AimlBillingClient], Any]]] = {
    "/v1/billing/balance": ("v1", "", verdicts),
    "/v2/billing": ("v2", "", verdicts),
    "/v2/billing/detail": ("v2", "", lambda client: client.get_top_up().is_enabled),
    "/v2/billing/transactions": ("v1", "", ledger),
    "/v1/key": ("v1", "", key_limit),
    "/v2/usage": ("v1", WINDOW, usage),
    "/v2/logs": ("v1", WINDOW, lambda client: logged_costs(client, NOW - HOUR, NOW)),
}


@pytest.fixture(scope="module")
def account() -> Iterator[Sandbox]:
    with Sandbox("2.50 USD", key=KEY) as account:
        account.set_key_limit("5 USD", "day")
        account.set_auto_top_up("1 USD", "5 USD")
        account.spend("0.50 USD", "sandbox/chat", at=NOW - HOUR / 2)
        account.top_up("0.50 USD")
        yield account


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, part in items:
        yield (*path, name)
        yield from places(part, (*path, name))


def mutations(body: Any, path: tuple[Any, ...]) -> Iterator[Any]:
    for value in VALUES:
        changed = deepcopy(body)
        holder = changed
        for step in path[:-1]:
            holder = holder[step]
        if value != "left out":
            holder[path[-1]] = value
        elif isinstance(holder, dict):
            del holder[path[-1]]
        yield changed


@pytest.mark.parametrize("endpoint", DECISIONS)
def test_a_field_that_is_not_required_changes_no_decision(account: Sandbox, endpoint: str) -> None:
    """And one that is required leads to the same decision, or to an error; never to another decision."""
    version, query, decide = DECISIONS[endpoint]
    client = AimlBillingClient(replace(Settings(KEY, account.url, 5), api_version=version), retries=0)
    path = "/v2/usage/detail" if endpoint == "/v2/usage" else endpoint
    account.recover()
    headers = {"Authorization": f"Bearer {KEY}"}
    body = requests.get(account.url + path + query, headers=headers, timeout=5).json()
    expected = decide(client)
    for place in places(body):
        required = use_of(endpoint, place) == REQUIRED
        for changed in mutations(body, place):
            account.fail(body=json.dumps(changed).encode())
            try:
                decision = decide(client)
            except AimlBillingError as error:
                decision = error
            fits = required if isinstance(decision, AimlBillingError) else decision == expected
            assert fits or (required and harmless(endpoint, place)), (place, changed, decision)
    for place in ((), *places(body)):
        changed = deepcopy(body)
        holder = changed
        for step in place:
            holder = holder[step]
        if isinstance(holder, dict):
            holder |= {"a new field": {"minimum": 9}, "balance_on_hold": 9_000_000, "": None}
            account.fail(body=json.dumps(changed).encode())
            assert decide(client) == expected, place
    account.recover()


def harmless(endpoint: str, place: tuple[Any, ...]) -> bool:
    """Return whether another value of a required field may be another answer: a valid one, of another account."""
    valid = {
        ("/v1/key", ("data", "limit")),  # null, or an empty object: no limit
        ("/v2/usage", ("models",)),  # an empty list
        ("/v2/billing/transactions", ("data",)),  # an empty list
        ("/v2/billing/detail", ("autotopup_settings", "is_enabled")),
        ("/v2/logs", ("data", 0, "request_id")),
    }
    names = tuple(step for step in place if isinstance(step, str))
    return (endpoint, place) in valid or names[-1:] == ("model",)


def test_the_table_has_every_documented_field() -> None:
    """The vendor's own documents are not part of this project: ``AIMLAPI_OPENAPI`` names their folder."""
    if not (folder := os.environ.get("AIMLAPI_OPENAPI")):
        pytest.skip("AIMLAPI_OPENAPI does not name the folder with the vendor's documents")
    documents = sorted(Path(folder).glob("*.openapi.json"))
    assert documents
    for path in documents:
        for endpoint, shape in answers(path):
            if endpoint in FIELDS:
                documented = set(names(shape))
                missing = documented - set(FIELDS[endpoint])
                assert not missing, (endpoint, missing)


def answers(path: Path) -> Iterator[tuple[str, Any]]:
    for endpoint, calls in json.loads(path.read_text())["paths"].items():
        content = calls.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if shape := content.get("application/json", {}).get("schema"):
            yield endpoint, shape


def names(shape: Any, prefix: str = "") -> Iterator[str]:
    for option in (shape, *shape.get("anyOf", ()), *shape.get("oneOf", ()), *shape.get("allOf", ())):
        if "items" in option:
            yield f"{prefix}*"
            yield from names(option["items"], f"{prefix}*.")
        for name, part in option.get("properties", {}).items():
            yield f"{prefix}{name}"
            yield from names(part, f"{prefix}{name}.")
