"""The key's own spending limit, from ``GET /v1/key`` and ``GET /v2/usage``."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow_provider_aimlbilling.client.api import Api, iso_time
from airflow_provider_aimlbilling.client.responses import read_api_key, read_usage
from airflow_provider_aimlbilling.exceptions import AimlBillingKeyDisabledError, AimlBillingUnavailable
from airflow_provider_aimlbilling.money.balance import KeyLimit
from airflow_provider_aimlbilling.money.usage import combine_usage, limit_period_start, split_window


def read_key_limit(api: Api) -> KeyLimit | None:
    """
    Read what a key may spend in its current period, and what it has spent.

    :param api: the API.
    :returns: the limit; ``None`` if the key has none.
    :raises AimlBillingUnavailable: no answer, or only about another key.
    :raises AimlBillingKeyDisabledError: the key is disabled.
    :raises AimlBillingError: or another subclass, see :meth:`Api.get`.
    """
    key = read_api_key(api.get("/v1/key"))
    if key.prefix != (api.settings.key or "")[:8]:
        raise AimlBillingUnavailable(
            "GET /v1/key described another key of the account, because that one was used last. What this key may "
            "still spend is unknown; if this persists, do not use respect_key_limit."
        )
    if key.disabled:
        key_name = f"Key of {api.settings.conn_id!r}" if api.settings.conn_id else "API key"
        raise AimlBillingKeyDisabledError(
            f"{key_name} is disabled: enable it in the vendor's settings, or use another one."
        )
    if key.limit is None:
        return None
    if key.retention is None or (key.retention == "no_reset" and key.created_at is None):
        # Since when to count is unknown, so what was spent is. The limit itself still counts.
        return KeyLimit(key.retention or "", key.limit, None)
    # Times are truncated to milliseconds, and a window excludes its end: add one millisecond to include the latest
    # charges.
    now = datetime.now(timezone.utc) + timedelta(milliseconds=1)
    windows = split_window(min(limit_period_start(key.retention, key.created_at or now, now), now), now)
    queries = [{"start": iso_time(start), "end": iso_time(end)} for start, end in windows]
    spent = combine_usage([read_usage(api.get("/v2/usage", query)) for query in queries]).total
    return KeyLimit(key.retention, key.limit, spent.amount.credits)
