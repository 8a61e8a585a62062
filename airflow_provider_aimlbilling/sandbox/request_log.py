"""The response of ``GET /v2/logs``: one row per request to a model."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.sandbox.account import Account, LogRow
from airflow_provider_aimlbilling.sandbox.encoding import iso_time
from airflow_provider_aimlbilling.sandbox.errors import BadRequestError, TooManyRequestsError
from airflow_provider_aimlbilling.sandbox.reports import parse_limit, parse_window

_STATUSES = {"succeeded": True, "failed": False}
_LIMIT_SECONDS = 60


def logs(
    account: Account, query: Mapping[str, str], *, models: Sequence[str], statuses: Sequence[str]
) -> dict[str, Any]:
    """
    Return the response of ``GET /v2/logs``, newest row first.

    :param account: the account.
    :param query: window, page and key.
    :param models: names of the models to report on, with or without their source; empty for all.
    :param statuses: outcomes to report on; empty for all.
    :raises BadRequestError: the query is invalid.
    :raises TooManyRequestsError: the log was read too often.
    """
    _count(account)
    start, end = parse_window(query)
    limit, offset = parse_limit(query), query.get("offset", "0")
    if not offset.isdecimal():
        raise BadRequestError("offset must be 0 or more.")
    if len(models) > 50 or not set(statuses) <= set(_STATUSES):
        raise BadRequestError("model has at most 50 values, and status is succeeded or failed.")
    first, last = (bisect_left(account.log, at, key=lambda row: row.at) for at in (start, end))
    rows = account.log[first:last]
    if models or statuses:
        wanted = {name.lower() for name in models}
        rows = [
            row
            for row in rows
            if (not wanted or wanted & {row.model.lower(), row.model.lower().rpartition("/")[2]})
            and (not statuses or row.succeeded in {_STATUSES[status] for status in statuses})
        ]
    stop = max(len(rows) - int(offset), 0)
    page = rows[max(stop - limit, 0) : stop]
    return {
        "data": [_row_to_dict(row) for row in reversed(page)],
        "pagination": {
            "limit": limit,
            "offset": int(offset),
            "total": len(rows),
            "has_more": stop > limit,
        },
    }


def _count(account: Account) -> None:
    now = time.monotonic()
    while account.log_reads and now - account.log_reads[0] >= _LIMIT_SECONDS:
        account.log_reads.popleft()
    if account.max_log_requests is not None and len(account.log_reads) >= account.max_log_requests:
        raise TooManyRequestsError
    account.log_reads.append(now)


def _row_to_dict(row: LogRow) -> dict[str, Any]:
    return {
        "created": iso_time(row.at),
        "status": "succeeded" if row.succeeded else "failed",
        "origin": "api",
        "model": row.model,
        "cost": {"usd": Amount(row.credits).usd, "credits": int(row.credits)},
        "tokens": {
            "input": row.input_tokens,
            "output": row.output_tokens,
            "total": row.input_tokens + row.output_tokens,
        },
        "request_id": row.request_id,
        "inference_id": row.inference_id,
        "client_request_id": row.client_request_id,
    }
