"""The responses about what happened: the ledger, page by page, and usage by model and day."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.sandbox.account import ENTRY_TYPES, Account, Entry
from airflow_provider_aimlbilling.sandbox.encoding import iso_time
from airflow_provider_aimlbilling.sandbox.errors import BadRequestError


def transactions(account: Account, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the response of ``GET /v2/billing/transactions``."""
    start, end = (_parse_time(query[name]) if name in query else None for name in ("from", "to"))
    if start and end and end <= start:
        raise BadRequestError("to must be later than from.")
    for name, known in (("direction", {"TOPUP", "CHARGE"}), ("type", ENTRY_TYPES)):
        if name in query and query[name] not in known:
            raise BadRequestError(f"{name} must be one of {', '.join(sorted(known))}.")
    limit = parse_limit(query)
    newest_first = sorted(account.ledger, key=lambda entry: (entry.at, entry.number), reverse=True)
    if "cursor" in query:
        position = _parse_cursor(query["cursor"])
        newest_first = [entry for entry in newest_first if (entry.at, entry.number) < position]
    found = [
        entry
        for entry in newest_first
        if (start is None or entry.at >= start)
        and (end is None or entry.at < end)
        and entry.direction == query.get("direction", entry.direction)
        and entry.type == query.get("type", entry.type)
    ]
    page = found[:limit]
    has_more = len(found) > len(page)
    return {
        "data": [_entry_to_dict(entry) for entry in page],
        "pagination": {"next_cursor": _cursor_after(page[-1]) if has_more else None, "has_more": has_more},
    }


def usage(account: Account, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the response of ``GET /v2/usage``."""
    start, end = parse_window(query)
    entries = account.usage_between(start, end)
    return {
        "api_key_prefix": query.get("key_prefix"),
        "start": iso_time(start),
        "end": iso_time(end),
        "spend": total_usd(entries),
        "currency": "USD",
        "requests": len(entries),
    }


def usage_detail(account: Account, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the response of ``GET /v2/usage/detail``."""
    group_by, zone = query.get("group_by"), query.get("tz", "UTC")
    if group_by not in (None, "day", "model", "day,model"):
        raise BadRequestError("group_by must be day, model or day,model.")
    if zone not in available_timezones():
        raise BadRequestError("tz must be a canonical IANA time zone name.")
    entries = account.usage_between(*parse_window(query))
    by_model: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=_model_name):
        by_model.setdefault(_model_name(entry), []).append(entry)
    response = usage(account, query)
    response["models"] = [
        {"model": name, "spend": total_usd(by_model[name]), "requests": len(by_model[name])}
        for name in sorted(by_model, key=lambda name: -total_usd(by_model[name]))
    ]
    if group_by:
        response["groups"] = _group(entries, group_by.split(","), ZoneInfo(zone))
    return response


def parse_limit(query: Mapping[str, str]) -> int:
    """
    Return the page size that a query asks for.

    :raises BadRequestError: it is not from 1 to 100.
    """
    limit = query.get("limit", "50")
    if not re.fullmatch(r"[1-9]\d?|100", limit):
        raise BadRequestError("limit must be from 1 to 100.")
    return int(limit)


def total_usd(entries: Sequence[Entry]) -> Decimal:
    """Return the total of ledger entries in USD."""
    return Amount(sum((entry.credits for entry in entries), Decimal(0))).usd


def _group(entries: Sequence[Entry], names: Sequence[str], zone: ZoneInfo) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        labels = {"day": entry.at.astimezone(zone).date().isoformat(), "model": _model_name(entry)}
        groups.setdefault(tuple(labels[name] for name in names), []).append(entry)
    return [
        {
            **dict(zip(names, labels, strict=True)),
            "spend": total_usd(group),
            "tokens": {"input": 0, "output": 0, "total": 0},
            "requests": {"total": len(group), "charged": len(group), "succeeded": len(group), "failed": 0},
        }
        for labels, group in groups.items()
    ]


def _model_name(entry: Entry) -> str:
    return entry.model or "unknown"


def _entry_to_dict(entry: Entry) -> dict[str, Any]:
    return {
        "created_at": iso_time(entry.at),
        "direction": entry.direction,
        "type": entry.type,
        "amount": {"usd": Amount(entry.credits).usd, "credits": int(entry.credits)},
        "model": entry.model,
        "reference_id": entry.reference_id,
    }


def _cursor_after(entry: Entry) -> str:
    return _encode_cursor(entry.at, entry.number)


def _encode_cursor(at: datetime, number: int) -> str:
    position = json.dumps([at.isoformat(), number])
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _parse_cursor(cursor: str) -> tuple[datetime, int]:
    try:
        at, number = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        position = datetime.fromisoformat(at).astimezone(timezone.utc), int(number)
    except (ValueError, TypeError, OverflowError):
        raise BadRequestError("The cursor is not one that was issued.") from None
    if _encode_cursor(*position) != cursor:
        raise BadRequestError("The cursor does not have the form in which it was issued.")
    return position


def _parse_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise BadRequestError("A time must be ISO-8601.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def parse_window(query: Mapping[str, str]) -> tuple[datetime, datetime]:
    """
    Return the window that a query asks for, by ``period`` or by ``start`` and ``end``.

    :raises BadRequestError: there is none, or one that the API does not accept.
    """
    if "period" in query:
        found = re.fullmatch(r"([1-9]\d{0,4})([hd])", query["period"])
        if "start" in query or "end" in query or not found:
            raise BadRequestError("Provide either period, such as 24h or 7d, or both start and end.")
        end = datetime.now(timezone.utc)
        start = end - timedelta(hours=int(found[1]) * (24 if found[2] == "d" else 1))
    elif "start" in query and "end" in query:
        start, end = _parse_time(query["start"]), _parse_time(query["end"])
    else:
        raise BadRequestError("Provide either period, or both start and end.")
    if end < start or end - start > timedelta(days=92):
        raise BadRequestError("end must not be earlier than start, and the window must not exceed 92 days.")
    return start, end
