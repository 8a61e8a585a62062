"""The responses of the sandbox: they have the documented shapes, and it refuses what the API refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest
import requests
from shapes import SHAPES, deviations
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings
from airflow_provider_aimlbilling.sandbox import Sandbox

Get = Callable[..., requests.Response]


@pytest.mark.parametrize("path", [path for path in SHAPES if path != "error"])
def test_responses_have_the_documented_shapes(sandbox: Sandbox, get: Get, path: str) -> None:
    sandbox.spend("0.30 USD", "sandbox/chat")
    sandbox.set_auto_top_up("1 USD", "10 USD")
    limits = [None, "5 USD"] if path == "/v1/key" else [None]
    queries: list[dict[str, str]] = [{}]
    if path.startswith(("/v2/usage", "/v2/logs")):
        queries = [{"period": "24h"}]
    if path == "/v2/usage/detail":
        queries += [
            {"period": "7d", "group_by": group, "tz": "Europe/Berlin"} for group in ("day", "model", "day,model")
        ]
    if path == "/v1/models":
        queries += [{"include": "pricing"}, {"include": "capabilities,pricing", "id": "chat"}]
    if path == "/v2/billing/transactions":
        queries += [{"limit": "1"}]
    for limit in limits:
        sandbox.set_key_limit(limit)
        for query in queries:
            response = get(path, **query)
            assert response.status_code == 200, response.text
            body = json.loads(response.content, parse_int=Decimal, parse_float=Decimal)
            assert deviations(body, SHAPES[path]) == []


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [("/v2/usage", KEY, 400), ("/v2/billing", "wrong", 401), ("/v2/billing", None, 403), ("/v3/billing", KEY, 404)],
)
def test_errors_have_the_vendor_s_body(sandbox: Sandbox, get: Get, path: str, key: str | None, status: int) -> None:
    response = get(path, key or sandbox.account.management_key)
    assert response.status_code == status
    body = response.json()
    assert deviations(body, SHAPES["error"]) == []
    assert (body["statusCode"], body["path"]) == (str(status), path)


def test_a_response_that_deviates_from_its_shape_is_noticed() -> None:
    good = {"current_balance": Decimal(1), "currency": "USD"}
    shape = SHAPES["/v2/billing"]
    assert deviations(good, shape) == []
    for bad in (
        {**good, "currency": "EUR"},
        {**good, "current_balance": None},
        {"currency": "USD"},
        {**good, "x": "y"},
    ):
        assert deviations(bad, shape)


def test_fractions_of_a_credit_are_served_exactly(sandbox: Sandbox, get: Get) -> None:
    sandbox.set_balance("0.1 credits")
    sandbox.top_up("0.2 credits")
    assert b'"balance": 0.3,' in get("/v1/billing/balance").content


def test_a_cursor_must_come_back_unchanged(sandbox: Sandbox, get: Get) -> None:
    sandbox.spend(1)
    cursor = get("/v2/billing/transactions", limit="1").json()["pagination"]["next_cursor"]
    assert get("/v2/billing/transactions", limit="1", cursor=cursor).status_code == 200
    for other in (cursor + "=", cursor[:-1], cursor.swapcase(), "nonsense"):
        assert get("/v2/billing/transactions", cursor=other).status_code == 400


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v2/billing/transactions", {"limit": "101"}),
        ("/v2/billing/transactions", {"limit": "0"}),
        ("/v2/billing/transactions", {"type": "GIFT"}),
        ("/v2/billing/transactions", {"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}),
        ("/v2/usage", {}),
        ("/v2/usage", {"period": "24h", "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}),
        ("/v2/usage", {"period": "1w"}),
        ("/v2/usage", {"start": "2026-01-01T00:00:00Z"}),
        ("/v2/usage", {"start": "2026-01-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"}),
        ("/v2/usage", {"period": "24h", "group_by": "day"}),
        ("/v2/logs", {}),
        ("/v2/logs", {"start": "2026-01-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"}),
        ("/v2/logs", {"period": "24h", "limit": "101"}),
        ("/v2/logs", {"period": "24h", "offset": "-1"}),
        ("/v2/logs", {"period": "24h", "status": "succeeded,failed"}),
        ("/v2/logs", {"period": "24h", "client_request_id": "x"}),
        ("/v2/usage/detail", {"period": "24h", "group_by": "hour"}),
        ("/v2/usage/detail", {"period": "24h", "group_by": "day", "tz": "utc"}),
        ("/v2/usage/detail", {"period": "24h", "group_by": "day", "tz": "+05:00"}),
    ],
)
def test_the_sandbox_refuses_the_queries_that_the_api_refuses(get: Get, path: str, query: dict[str, str]) -> None:
    assert get(path, **query).status_code == 400


def test_keys_of_the_wrong_kind_are_refused(sandbox: Sandbox, get: Get) -> None:
    management_key = sandbox.account.management_key
    for path in ("/v1/billing/balance", "/v2/billing", "/v2/billing/detail", "/v2/billing/transactions"):
        assert get(path, management_key).status_code == 403
        assert get(path, "another").status_code == 401
    assert get("/v2/usage", management_key, period="24h", key_prefix="abcd1234").status_code == 200
    assert get("/v2/usage", period="24h", key_prefix="abcd1234").status_code == 403
    assert get("/v2/usage", period="24h", key_prefix=KEY[:8]).status_code == 200


@pytest.mark.parametrize(
    ("model", "work", "usd"),
    [
        ("sandbox/chat", {"input tokens": 1_000_000, "output tokens": 100_000}, "3.5"),
        ("SANDBOX/GPT", {"input_tokens": 1_080_000, "output_tokens": 480_000, "cached": 0}, "7.5"),
        ("sandbox/mini", {"input": 3_000_000, "output": 0}, "0.0234"),
        ("sandbox/transcriber", {"seconds": 90}, "0.00645"),
        ("sandbox/speech", {"characters": 1_000}, "0.039"),
        ("sandbox/image", {"images": 3}, "0.0234"),
        ("sandbox/video", {"second": 5}, "3.25"),
    ],
)
def test_the_catalogue_has_each_kind_of_rate(sandbox: Sandbox, model: str, work: dict[str, object], usd: str) -> None:
    """Both shapes, prices per 1, per 60, per thousand and per million, and every medium."""
    pricing = AimlBillingClient(Settings(None, base_url=sandbox.url)).get_pricing(model)
    estimate = pricing.estimate(work, {"resolution": "1080p"} if pricing.dimensions else None)
    assert estimate.amount.usd == Decimal(usd)
