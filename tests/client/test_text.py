"""Text from the API is cleaned where it is read: nothing hostile gets out of the client, by whichever field."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import requests
from hostile import MARK, TEXTS, encode, is_clean, texts_in, with_text
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient
from airflow_provider_aimlbilling.client.json_fields import parse_object
from airflow_provider_aimlbilling.client.text import MAX_TEXT, clean_text
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingError
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.sandbox import Sandbox

NOW = datetime.now(timezone.utc)
HOUR = timedelta(hours=1)
V1, V2 = "/v1/billing/balance", "/v2/billing/detail"
CATALOGUE = "/v1/models?id=sandbox/video&include=pricing"
WINDOW = f"start={NOW - HOUR:%Y-%m-%dT%H:%M:%SZ}&end={NOW:%Y-%m-%dT%H:%M:%SZ}"
USAGE = f"/v2/usage/detail?{WINDOW}&group_by=day,model"

# Where the sandbox's answer comes from, and the client's call that reads it.
CALLS: dict[str, tuple[str, Callable[[AimlBillingClient], Any]]] = {
    "balance": (V1, lambda client: client.get_balance()),
    "top-up": (V2, lambda client: client.get_top_up()),
    "ledger": ("/v2/billing/transactions", lambda client: next(client.iter_transactions())),
    "usage": (USAGE, lambda client: client.get_usage(start=NOW - HOUR, end=NOW, group_by="day,model")),
    "request log": (f"/v2/logs?{WINDOW}", lambda client: next(client.iter_requests(NOW - HOUR, NOW))),
    "key": ("/v1/key", lambda client: client.get_key_limit()),
    "prices": (CATALOGUE, lambda client: client.get_pricing("sandbox/video")),
    "an estimate": (
        CATALOGUE,
        lambda client: client.get_pricing("sandbox/video").estimate({"second": 5}, {"resolution": "720p"}).to_dict(),
    ),
    "an estimate that fails": (CATALOGUE, lambda client: client.get_pricing("sandbox/video").estimate({"x": 5})),
}


def plain(value: Any) -> Any:
    """Return a result of the client as plain values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = value.to_dict() if isinstance(value, Balance) else {}
        return [
            {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)},
            shown,
            str(value) if type(value).__str__ is not object.__str__ else "",
        ]
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("call", CALLS)
def test_no_field_of_any_answer_passes_on_hostile_text(
    sandbox: Sandbox, client: AimlBillingClient, call: str, kind: str
) -> None:
    path, read = CALLS[call]
    sandbox.set_key_limit("5 USD", "day")
    sandbox.spend("0.50 USD", "sandbox/chat", at=NOW - HOUR / 2)
    body = requests.get(sandbox.url + path, headers={"Authorization": f"Bearer {KEY}"}, timeout=5).json()
    passed_on = 0
    for place, changed in with_text(body, TEXTS[kind]):
        sandbox.fail(body=encode(changed))
        try:
            result = plain(read(client))
        except AimlBillingError as error:
            result = str(error)
        found = [text for text in texts_in(result) if isinstance(text, str)]
        assert all(is_clean(text) for text in found), (place, [text for text in found if not is_clean(text)])
        passed_on += any(MARK in text for text in found)
    assert passed_on or call in ("top-up", "key"), "this test looks at a field that the client passes on"


KEYS = {
    "a model": f"{MARK}/{KEY}-mini",
    "hidden": f"{MARK} {KEY[:9]}\u200b{KEY[9:]}",
    "cut": MARK + "x" * (MAX_TEXT - len(MARK) - 10) + KEY,
    "cut and hidden": MARK + "x" * (MAX_TEXT - len(MARK) - 10) + "\0".join(KEY),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("call", CALLS)
def test_no_field_of_any_answer_passes_on_the_key(
    sandbox: Sandbox, client: AimlBillingClient, call: str, kind: str
) -> None:
    path, read = CALLS[call]
    sandbox.set_key_limit("5 USD", "day")
    sandbox.spend("0.50 USD", "sandbox/chat", at=NOW - HOUR / 2)
    body = requests.get(sandbox.url + path, headers={"Authorization": f"Bearer {KEY}"}, timeout=5).json()
    passed_on = 0
    for _, changed in with_text(body, KEYS[kind]):
        sandbox.fail(body=json.dumps(changed).encode())
        try:
            result = plain(read(client))
        except AimlBillingError as error:
            result = str(error)
        found = [text for text in texts_in(result) if isinstance(text, str) and text != KEY[:8]]
        assert not any(KEY[:9] in text or KEY[-9:] in text for text in found)
        passed_on += any(MARK in text for text in found)
    assert passed_on or call in ("top-up", "key"), "this test looks at a field that the client passes on"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500])
@pytest.mark.parametrize("kind", TEXTS)
def test_no_error_passes_on_hostile_text(sandbox: Sandbox, client: AimlBillingClient, kind: str, status: int) -> None:
    body = {"message": TEXTS[kind], "requestId": TEXTS[kind], "path": TEXTS[kind], "statusCode": status}
    sandbox.fail(status=status, body=encode(body))
    with pytest.raises(AimlBillingError) as caught:
        client.get_balance()
    assert is_clean(str(caught.value))
    assert len(str(caught.value)) < 1000
    assert MARK in str(caught.value) or len(encode(body)) > 1024 * 1024, "of a longer body, nothing is quoted"


@pytest.mark.parametrize("kind", TEXTS)
def test_no_header_passes_on_hostile_text(sandbox: Sandbox, client: AimlBillingClient, kind: str) -> None:
    """The entity tag of the catalogue goes back to the API."""
    tag = TEXTS[kind][:1000].encode("latin-1", "ignore").decode("latin-1").replace("\n", "").replace("\r", "")
    body = requests.get(sandbox.url + CATALOGUE, timeout=5).content
    sandbox.fail(body=body, headers={"ETag": f'"{tag}"'}, times=1)
    client.get_pricing("sandbox/video")
    assert client.get_pricing("sandbox/video").rates, "the second request was possible"
    sent = sandbox.requests[-1].headers.get("If-None-Match", "")
    assert sent.isascii()
    assert sent.isprintable()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Balance is current and up to date", "Balance is current and up to date"),
        ("Ünïcödé 余额 баланс 💰 naïve", "Ünïcödé 余额 баланс 💰 naïve"),
        ("a\0b", "ab"),
        ("one\ttwo\r\nthree\u2028four", "one two three four"),
        ("\x1b[31mred\x1b[0m text", "red text"),
        ("<b>bold</b> and 1 < 2 > 0", "bold and 1 2 0"),
        ("[plan.rule:api_credit]", "(plan.rule:api_credit)"),
        ("\u202eevil\u202c", "evil"),
        ("  spaces  ", "spaces"),
        ("", ""),
        ("x" * 500, "x" * 500),
        ("x" * 501, "x" * 499 + "…"),
    ],
)
def test_text_is_cleaned(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned
    assert clean_text(cleaned) == cleaned, "cleaning twice changes nothing"
    assert len(cleaned) <= MAX_TEXT


def test_cleaning_takes_little_time() -> None:
    """Even for texts that are made to be slow: a response may hold a megabyte of them."""
    for text in ("<" * 1_000_000, "\x1b]" * 500_000, "\x1b[" + "0;" * 500_000, " \0" * 500_000, "<a" * 500_000):
        started = time.monotonic()
        clean_text(text)
        assert time.monotonic() - started < 0.2


def test_a_name_that_is_cleaned_does_not_replace_another() -> None:
    body = json.dumps({"balance": 1, "bal\0ance": 9, "<b>balance": 9}).encode()
    assert parse_object(body) == {"balance": Decimal(1)}


@pytest.mark.parametrize("cursor", ["a\nb", "\0", "ü", "x" * 5000, "a b\x1b[0m"])
def test_a_cursor_that_cannot_be_sent_back_is_refused(sandbox: Sandbox, client: AimlBillingClient, cursor: str) -> None:
    """A cursor must go back unchanged, so it is not cleaned."""
    sandbox.fail(body=encode({"data": [], "pagination": {"next_cursor": cursor, "has_more": True}}))
    with pytest.raises(AimlBillingContractError, match="next_cursor"):
        list(client.iter_transactions())
