"""Which request gets which response: the documented endpoints for balance, auto top-up, key, catalogue and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.sandbox.account import Account
from airflow_provider_aimlbilling.sandbox.catalogue import list_models
from airflow_provider_aimlbilling.sandbox.encoding import iso_time
from airflow_provider_aimlbilling.sandbox.errors import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
)
from airflow_provider_aimlbilling.sandbox.reports import total_usd, transactions, usage, usage_detail
from airflow_provider_aimlbilling.sandbox.request_log import logs

_QUERY_PARAMETERS = {
    "/v2/billing/transactions": {"from", "to", "direction", "type", "limit", "cursor"},
    "/v2/usage": {"period", "start", "end", "key_prefix"},
    "/v2/usage/detail": {"period", "start", "end", "key_prefix", "group_by", "tz"},
    "/v2/logs": {"period", "start", "end", "key_prefix", "model", "status", "limit", "offset"},
}
_REPEATABLE = {"model", "status"}  # of /v2/logs
_ALLOWED_FOR_MANAGEMENT_KEY = {"/v1/key", "/v2/usage", "/v2/usage/detail", "/v2/logs"}


def respond(account: Account, path: str, query: Mapping[str, list[str]], key: str) -> Any:
    """
    Return the response to a GET request, as JSON values.

    :param account: the account.
    :param path: path of the endpoint.
    :param query: the query parameters, each with all its values.
    :param key: the API key that was sent; empty if there was none.
    :raises UnauthorizedError: the key is missing or wrong.
    :raises ForbiddenError: a key of this kind may not do this.
    :raises NotFoundError: the API has no such endpoint.
    :raises BadRequestError: the query is invalid.
    :raises TooManyRequestsError: the request log was read too often.
    """
    if path == "/v1/models":  # needs no key
        return list_models(account.catalogue, query)
    if path not in _ROUTES and path != "/v2/logs":
        raise NotFoundError
    is_management_key = check_key(account, path, key)
    known = _QUERY_PARAMETERS.get(path, set())
    once = {name for name, values in query.items() if len(values) == 1}
    if invalid := [name for name in query if name not in known or name not in once | _REPEATABLE]:
        raise BadRequestError(f"{invalid[0]} is not accepted here.")
    if "key_prefix" in query and not is_management_key and query["key_prefix"][0] != account.key[:8]:
        raise ForbiddenError("A management key is required to report on another key.")
    single = {name: values[0] for name, values in query.items()}
    if path == "/v2/logs":
        return logs(account, single, models=query.get("model", []), statuses=query.get("status", []))
    return _ROUTES[path](account, single)


def check_key(account: Account, path: str, key: str) -> bool:
    """
    Return whether a key is a management key.

    :raises UnauthorizedError: the key is missing or wrong.
    :raises ForbiddenError: a key of this kind may not use this endpoint.
    """
    if key not in (account.key, account.management_key):
        raise UnauthorizedError
    if key == account.management_key and path not in _ALLOWED_FOR_MANAGEMENT_KEY:
        raise ForbiddenError("Management keys cannot be used on this route.")
    return key == account.management_key


def balance_v1(account: Account, _: Mapping[str, str]) -> dict[str, Any]:
    """Return the response of ``GET /v1/billing/balance``."""
    return {
        "balance": account.balance.credits,
        "lowBalance": account.balance < account.low_balance_threshold,
        "lowBalanceThreshold": account.low_balance_threshold.credits,
        "lastUpdated": iso_time(datetime.now(timezone.utc)),
        "autoDebitStatus": "enabled" if account.auto_top_up else "disabled",
        "status": "current",
        "statusExplanation": "Balance is current and up to date",
    }


def _balance_v2(account: Account, _: Mapping[str, str]) -> dict[str, Any]:
    return {"current_balance": account.balance.usd, "currency": "USD"}


def _billing_detail(account: Account, query: Mapping[str, str]) -> dict[str, Any]:
    threshold, amount = account.auto_top_up or (Amount(0), Amount(0))
    return {
        "user_id": 111,
        "email": "user@example.com",
        **_balance_v2(account, query),
        "autotopup_settings": {
            "is_enabled": bool(account.auto_top_up),
            "threshold": threshold.usd,
            "amount": amount.usd,
            "currency": "USD",
        },
    }


def _key(account: Account, _: Mapping[str, str]) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    limit = account.key_limit
    return {
        "data": {
            "name": "sandbox",
            "disabled": account.key_disabled,
            "prefix": (account.latest_key or account.key)[:8],
            "scopes": ["model:chat"],
            "limit": limit and {"retention": account.key_period, "threshold": limit.usd},
            "created_at": iso_time(account.key_created_at),
            "updated_at": iso_time(account.key_created_at),
            "monthly_usage": total_usd(account.usage_between(month, now + timedelta(days=1))),
        }
    }


_ROUTES: dict[str, Callable[[Account, Mapping[str, str]], Any]] = {
    "/v1/billing/balance": balance_v1,
    "/v2/billing": _balance_v2,
    "/v2/billing/detail": _billing_detail,
    "/v2/billing/transactions": transactions,
    "/v1/key": _key,
    "/v2/usage": usage,
    "/v2/usage/detail": usage_detail,
}
