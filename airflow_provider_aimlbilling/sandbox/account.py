"""The account behind the sandbox: its money, ledger, key and catalogue, and what the API would answer about them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from airflow_provider_aimlbilling.money.amount import EXACT, Amount

PERIODS = ("no_reset", "day", "week", "month")  # of a key's limit

CATALOGUE: list[dict[str, Any]] = [
    {
        "id": "sandbox/chat",
        "aliases": ["chat"],
        "type": "openai/chat-completions",
        "info": {"name": "Sandbox Chat", "developer": "Sandbox"},
        "tags": [],
        "pricing": {
            "kind": "fixed",
            "currency": "USD",
            "units": [
                {"name": "token", "measure": "input", "price": Decimal("2.5"), "per": 1_000_000},
                {"name": "token", "measure": "output", "price": Decimal(10), "per": 1_000_000},
            ],
        },
    },
    {
        "id": "sandbox/speech",
        "aliases": [],
        "type": "internal/text-to-speech",
        "info": {"name": "Sandbox Speech", "developer": "Sandbox"},
        "tags": [],
        "pricing": {
            "kind": "fixed",
            "currency": "USD",
            "units": [{"name": "character", "measure": "input", "price": Decimal("0.039"), "per": 1000}],
        },
    },
    {
        "id": "sandbox/video",
        "aliases": [],
        "type": "internal/video-generations/submit",
        "info": {"name": "Sandbox Video", "developer": "Sandbox"},
        "tags": [],
        "pricing": {
            "kind": "variants",
            "currency": "USD",
            "dimensions": ["resolution"],
            "variants": [
                {"when": {"resolution": "720p"}, "price": Decimal("0.39"), "unit": "second", "per": 1},
                {"when": {"resolution": "1080p"}, "price": Decimal("0.65"), "unit": "second", "per": 1},
            ],
        },
    },
    {
        "id": "sandbox/agent",
        "aliases": [],
        "type": "openai/responses",
        "info": {"name": "Sandbox Agent", "developer": "Sandbox"},
        "tags": [],
        "pricing": {"kind": "variable", "currency": "USD"},
    },
]

_DIRECTION = {"PAYMENT": "TOPUP", "BONUS": "TOPUP", "REFUND": "TOPUP", "INIT": "TOPUP"}
_CHARGES = {"MODEL_USAGE", "CREDITS_EXPIRED"}
_TYPES = {*_DIRECTION, *_CHARGES, "ADJUSTMENT"}
_QUERIES = {
    "/v2/billing/transactions": {"from", "to", "direction", "type", "limit", "cursor"},
    "/v2/usage": {"period", "start", "end", "key_prefix"},
    "/v2/usage/detail": {"period", "start", "end", "key_prefix", "group_by", "tz"},
}


class BadRequest(Exception):  # noqa: N818 - named for the answer
    """What the API answers 400 to."""


class WrongKey(Exception):  # noqa: N818 - named for the answer
    """What the API answers 403 to."""


@dataclass(frozen=True)
class Entry:
    """An entry of the ledger. ``credits`` is positive, as in the API."""

    at: datetime
    direction: str
    type: str
    credits: Decimal
    model: str | None
    number: int


@dataclass
class Account:
    """
    One account with one key.

    :param balance: what it holds.
    :param low_balance_threshold: below it ``lowBalance`` is true.
    :param key: the regular API key.
    :param management_key: a key that may read usage and the key's parameters, but not the ledger or the balance.
    :param key_limit: what the key may spend in a period; ``None`` for no limit.
    :param key_period: ``day``, ``week``, ``month`` or ``no_reset``.
    :param key_disabled: whether the key is said to be switched off.
    :param latest_key: the key that ``/v1/key`` tells of.
    :param auto_top_up: below which sum, and by how much, the account is topped up; ``None`` for not at all.
    :param payments_work: whether the auto top-up's payments go through.
    :param catalogue: what ``/v1/models`` lists.
    """

    balance: Amount
    low_balance_threshold: Amount
    key: str = field(repr=False)
    management_key: str = field(default="sandbox-management-key", repr=False)
    key_limit: Amount | None = None
    key_period: str = "month"
    key_disabled: bool = False
    latest_key: str = field(default="", repr=False)
    auto_top_up: tuple[Amount, Amount] | None = None
    payments_work: bool = True
    catalogue: Sequence[Mapping[str, Any]] = field(default_factory=lambda: CATALOGUE)
    ledger: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.key_made = datetime.now(timezone.utc) - timedelta(days=100)
        self._lock = threading.Lock()
        self._record("INIT", Decimal(self.balance.credits), None, self.key_made)

    def set_balance(self, amount: Amount) -> None:
        """Set what it holds. The ledger shows an adjustment."""
        with self._lock:
            change = EXACT.subtract(Decimal(amount.credits), Decimal(self.balance.credits))
            self.balance = amount
            if change:
                self._record("ADJUSTMENT", change, None, None)

    def top_up(self, amount: Amount, at: datetime | None = None) -> None:
        """Pay something in."""
        with self._lock:
            self._change("PAYMENT", Decimal(amount.credits), None, at)

    def spend(self, amount: Amount, model: str | None = None, at: datetime | None = None) -> None:
        """Charge something, down to nothing, and top up if that is on and works."""
        with self._lock:
            charge = min(Decimal(amount.credits), Decimal(self.balance.credits))
            if charge:
                self._change("MODEL_USAGE", -charge, model, at)
            if self.auto_top_up and self.payments_work and self.balance < self.auto_top_up[0]:
                self._change("PAYMENT", Decimal(self.auto_top_up[1].credits), None, at)

    def _change(self, type: str, credits: Decimal, model: str | None, at: datetime | None) -> None:
        self.balance = Amount(EXACT.add(Decimal(self.balance.credits), credits))
        self._record(type, credits, model, at)

    def _record(self, type: str, credits: Decimal, model: str | None, at: datetime | None) -> None:
        direction = _DIRECTION.get(type) or ("CHARGE" if type in _CHARGES or credits < 0 else "TOPUP")
        at = at or datetime.now(timezone.utc)
        self.ledger.append(Entry(at, direction, type, abs(credits), model, len(self.ledger)))

    def answer(self, path: str, query: Mapping[str, list[str]], key: str) -> Any:
        """
        Give what the API would answer to a GET; ``None`` for a route that it does not have.

        :raises PermissionError: 401.
        :raises WrongKey: 403.
        :raises BadRequest: 400.
        """
        if path == "/v1/models":  # asks for no key
            return self._models(query)
        routes: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "/v1/billing/balance": self._v1,
            "/v2/billing": self._v2,
            "/v2/billing/detail": self._detail,
            "/v2/billing/transactions": self._transactions,
            "/v1/key": self._key,
            "/v2/usage": self._usage,
            "/v2/usage/detail": self._usage_detail,
        }
        if path not in routes:
            return None
        if key not in (self.key, self.management_key):
            raise PermissionError
        if key == self.management_key and path not in ("/v1/key", "/v2/usage", "/v2/usage/detail"):
            raise WrongKey("Management keys cannot be used on this route.")
        known = _QUERIES.get(path, set())
        if wrong := [name for name, values in query.items() if name not in known or len(values) != 1]:
            raise BadRequest(f"{wrong[0]} is not taken here.")
        if "key_prefix" in query and key != self.management_key and query["key_prefix"][0] != self.key[:8]:
            raise WrongKey("A management key is required to report on another key.")
        return routes[path]({name: values[0] for name, values in query.items()})

    def _v1(self, _: Mapping[str, str]) -> Any:
        return {
            "balance": self.balance.credits,
            "lowBalance": self.balance < self.low_balance_threshold,
            "lowBalanceThreshold": self.low_balance_threshold.credits,
            "lastUpdated": iso(datetime.now(timezone.utc)),
            "autoDebitStatus": "enabled" if self.auto_top_up else "disabled",
            "status": "current",
            "statusExplanation": "Balance is current and up to date",
        }

    def _v2(self, _: Mapping[str, str]) -> Any:
        return {"current_balance": self.balance.usd, "currency": "USD"}

    def _detail(self, _: Mapping[str, str]) -> Any:
        threshold, amount = self.auto_top_up or (Amount(0), Amount(0))
        settings = {"is_enabled": bool(self.auto_top_up), "threshold": threshold.usd, "amount": amount.usd}
        return {
            "user_id": 111,
            "email": "user@example.com",
            **self._v2({}),
            "autotopup_settings": settings | {"currency": "USD"},
        }

    def _key(self, _: Mapping[str, str]) -> Any:
        month = datetime.now(timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return {
            "data": {
                "name": "sandbox",
                "disabled": self.key_disabled,
                "prefix": (self.latest_key or self.key)[:8],
                "scopes": ["model:chat"],
                "limit": self.key_limit and {"retention": self.key_period, "threshold": self.key_limit.usd},
                "created_at": iso(self.key_made),
                "updated_at": iso(self.key_made),
                "monthly_usage": _usd(self._spent(month, datetime.now(timezone.utc) + timedelta(days=1))),
            }
        }

    def _spent(self, start: datetime, end: datetime) -> list[Entry]:
        return [entry for entry in self.ledger if entry.type == "MODEL_USAGE" and start <= entry.at < end]

    def _transactions(self, query: Mapping[str, str]) -> Any:
        start, end = (_moment(query[name]) if name in query else None for name in ("from", "to"))
        if start and end and end <= start:
            raise BadRequest("to must be later than from.")
        for name, known in (("direction", {"TOPUP", "CHARGE"}), ("type", _TYPES)):
            if query.get(name, next(iter(known))) not in known:
                raise BadRequest(f"{name} must be one of {', '.join(sorted(known))}.")
        limit = query.get("limit", "50")
        if not re.fullmatch(r"[1-9]\d?|100", limit):
            raise BadRequest("limit must be from 1 to 100.")
        newest_first = sorted(self.ledger, key=lambda entry: (entry.at, entry.number), reverse=True)
        if "cursor" in query:
            position = _position(query["cursor"])
            newest_first = [entry for entry in newest_first if (entry.at, entry.number) < position]
        chosen = [
            entry
            for entry in newest_first
            if (start is None or entry.at >= start)
            and (end is None or entry.at < end)
            and entry.direction == query.get("direction", entry.direction)
            and entry.type == query.get("type", entry.type)
        ]
        page = chosen[: int(limit)]
        more = len(chosen) > len(page)
        return {
            "data": [_written(entry) for entry in page],
            "pagination": {"next_cursor": _cursor(page[-1]) if more else None, "has_more": more},
        }

    def _usage(self, query: Mapping[str, str]) -> Any:
        start, end = _window(query)
        spent = self._spent(start, end)
        return {
            "api_key_prefix": query.get("key_prefix"),
            "start": iso(start),
            "end": iso(end),
            "spend": _usd(spent),
            "currency": "USD",
            "requests": len(spent),
        }

    def _usage_detail(self, query: Mapping[str, str]) -> Any:
        group_by, zone = query.get("group_by"), query.get("tz", "UTC")
        if group_by not in (None, "day", "model", "day,model"):
            raise BadRequest("group_by must be day, model or day,model.")
        if zone not in available_timezones():
            raise BadRequest("tz must be a canonical IANA time zone name.")
        spent = self._spent(*_window(query))
        names = sorted({entry.model or "unknown" for entry in spent})
        by_model = {name: [entry for entry in spent if (entry.model or "unknown") == name] for name in names}
        highest_first = sorted(by_model, key=lambda name: -_usd(by_model[name]))
        models = [
            {"model": name, "spend": _usd(by_model[name]), "requests": len(by_model[name])} for name in highest_first
        ]
        answer = self._usage(query) | {"models": models}
        if group_by:
            groups: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
            for entry in spent:
                day = entry.at.astimezone(ZoneInfo(zone)).date().isoformat()
                label = {"day": day, "model": entry.model or "unknown"}
                groups.setdefault(tuple((name, label[name]) for name in group_by.split(",")), []).append(entry)
            answer["groups"] = [
                {
                    **dict(label),
                    "spend": _usd(of),
                    "tokens": {"input": 0, "output": 0, "total": 0},
                    "requests": {"total": len(of), "charged": len(of), "succeeded": len(of), "failed": 0},
                }
                for label, of in groups.items()
            ]
        return answer

    def _models(self, query: Mapping[str, list[str]]) -> Any:
        wanted = {part.lower() for value in query.get("id", []) for part in value.split(",")}
        sections = {part for value in query.get("include", []) for part in value.split(",")}
        priced = bool(sections & {"pricing", "all"}) or query.get("details", [""])[0] in ("true", "1")
        types, tags = (set(",".join(query.get(name, [])).split(",")) - {""} for name in ("type", "tags"))
        return {
            "object": "list",
            "data": [
                {name: value for name, value in model.items() if priced or name != "pricing"}
                for model in self.catalogue
                if (not wanted or wanted & {name.lower() for name in (model["id"], *model["aliases"])})
                and (not types or model["type"] in types)
                and (not tags or tags & set(model["tags"]))
            ],
        }


def etag(body: bytes) -> str:
    """Give the ``ETag`` of an answer."""
    return f'W/"{len(body):x}-{hashlib.sha256(body).hexdigest()[:27]}"'


def to_json(value: Any) -> str:
    """Write JSON. Not by ``json``, which would turn parts of a credit into binary floats."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)}: {to_json(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_json, value)) + "]"
    return format(value, "f") if isinstance(value, Decimal) else json.dumps(value)


def iso(moment: datetime) -> str:
    """Write a time as the API does."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _written(entry: Entry) -> dict[str, Any]:
    usd = Amount(entry.credits).usd
    model_usage = entry.type == "MODEL_USAGE"
    return {
        "created_at": iso(entry.at),
        "direction": entry.direction,
        "type": entry.type,
        "amount": {"usd": usd, "credits": int(entry.credits)},
        "model": entry.model,
        "reference_id": f"ref-{entry.number}" if model_usage or entry.type == "PAYMENT" else None,
    }


def _usd(entries: list[Entry]) -> Decimal:
    return Amount(sum((entry.credits for entry in entries), Decimal(0))).usd


def _cursor(entry: Entry) -> str:
    position = json.dumps([entry.at.isoformat(), entry.number])
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[datetime, int]:
    try:
        at, number = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        position = datetime.fromisoformat(at).astimezone(timezone.utc), int(number)
    except (ValueError, TypeError, OverflowError):
        raise BadRequest("The cursor is not one that was issued.") from None
    if _cursor(Entry(position[0], "", "", Decimal(0), None, position[1])) != cursor:
        raise BadRequest("The cursor is not in the form in which it was issued.")
    return position


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise BadRequest("A time must be ISO-8601.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _window(query: Mapping[str, str]) -> tuple[datetime, datetime]:
    """Read the window of a usage call."""
    if "period" in query:
        found = re.fullmatch(r"([1-9]\d{0,4})([hd])", query["period"])
        if "start" in query or "end" in query or not found:
            raise BadRequest("Provide either period, such as 24h or 7d, or both start and end.")
        end = datetime.now(timezone.utc)
        start = end - timedelta(hours=int(found[1]) * (24 if found[2] == "d" else 1))
    elif "start" in query and "end" in query:
        start, end = _moment(query["start"]), _moment(query["end"])
    else:
        raise BadRequest("Provide either period, or both start and end.")
    if end < start or end - start > timedelta(days=92):
        raise BadRequest("end must not be earlier than start, and the window must not exceed 92 days.")
    return start, end
