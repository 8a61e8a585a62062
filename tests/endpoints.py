"""Every endpoint besides the balance: a documented body, and the client's call that reads it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient

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
}
CALLS: dict[str, Callable[[AimlBillingClient], Any]] = {
    "/v1/key": lambda client: client.get_key_limit(),
    "/v2/billing/detail": lambda client: client.get_top_up(),
    "/v2/billing/transactions": lambda client: list(client.iter_transactions()),
    "/v2/usage": lambda client: client.get_usage(start=NOW - HOUR, end=NOW),
}
