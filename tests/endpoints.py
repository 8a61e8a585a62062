"""Every endpoint besides the balance: a documented body, and the client's call that reads it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient
from airflow_provider_aimlbilling.exceptions import AimlBillingUnavailable

NOW = datetime.now(timezone.utc)
HOUR = timedelta(hours=1)

BODIES: dict[str, dict[str, Any]] = {
    "/v1/key": {"data": {"prefix": KEY[:8], "disabled": False, "limit": None, "created_at": "2026-01-01T00:00:00Z"}},
    "/v2/billing/detail": {"autotopup_settings": {"is_enabled": True, "threshold": 5, "amount": 20, "currency": "USD"}},
    "/v2/billing/transactions": {
        "data": [
            {
                "created_at": "2026-01-01T00:00:00.000Z",
                "direction": "CHARGE",
                "type": "MODEL_USAGE",
                "amount": {"usd": 0.5, "credits": 1_000_000},
                "model": None,
                "reference_id": None,
            }
        ],
        "pagination": {"next_cursor": None, "has_more": False},
    },
    "/v2/usage": {
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-01-02T00:00:00Z",
        "spend": 1.5,
        "currency": "USD",
        "requests": 3,
        "models": [{"model": "a", "spend": 1.5, "requests": 3}],
    },
    "/v2/logs": {
        "data": [
            {
                "created": "2026-01-01T00:00:00.000Z",
                "status": "succeeded",
                "model": "openai/gpt-5",
                "cost": {"usd": 0.25, "credits": 500_000},
                "tokens": {"input": 10, "output": 20, "total": 30},
                "request_id": "req-1",
                "client_request_id": "customer-42",
            }
        ],
        "pagination": {"total": 1, "has_more": False},
    },
}


def logged_costs(client: AimlBillingClient, start: datetime, end: datetime) -> list[Any]:
    """Return what each request of a window cost. A cost that is unknown is an error here, as a report must state it."""
    rows = list(client.iter_requests(start, end))
    if any(row.cost is None for row in rows):
        raise AimlBillingUnavailable("the cost of a request is unknown")
    return [(row.created, row.cost) for row in rows]


_DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)
CALLS: dict[str, Callable[[AimlBillingClient], Any]] = {
    "/v1/key": lambda client: client.get_key_limit(),
    "/v2/billing/detail": lambda client: client.get_top_up(),
    "/v2/billing/transactions": lambda client: list(client.iter_transactions()),
    "/v2/usage": lambda client: client.get_usage(start=NOW - HOUR, end=NOW),
    "/v2/logs": lambda client: logged_costs(client, _DAY, _DAY + 24 * HOUR),
}
