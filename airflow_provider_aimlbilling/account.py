"""
What the API tells of an account beside its balance: key, auto top-up, ledger and usage. Pure: no network, no clock.

Of ``/v2/billing/detail`` the personal fields (``email``, ``user_id``) are not read, so they cannot be passed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.answers import amount_of, broken, field_of, in_usd, read_object, read_v2
from airflow_provider_aimlbilling.balance import CREDITS_PER_USD, EXACT, Amount, Balance, Number, TopUp
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError

# As documented. A kind that is not known could move money in a way that is not, so it is refused.
DIRECTIONS = ("TOPUP", "CHARGE")
TYPES = ("PAYMENT", "BONUS", "REFUND", "ADJUSTMENT", "MODEL_USAGE", "CREDITS_EXPIRED", "INIT")
RETENTIONS = ("no_reset", "day", "week", "month")

LONGEST_WINDOW = timedelta(days=92)  # of the usage calls, as documented


@dataclass(frozen=True)
class Key:
    """
    What ``GET /v1/key`` says of a key.

    :param prefix: the key's first eight characters.
    :param disabled: whether it is switched off.
    :param retention: when its limit starts anew: ``no_reset``, ``day``, ``week``, ``month``; ``None`` without a limit.
    :param limit: credits that it may spend in that time; ``None`` without a limit.
    :param created_at: when it was made.
    """

    prefix: str = field(repr=False)
    disabled: bool
    retention: str | None
    limit: Number | None
    created_at: datetime


@dataclass(frozen=True)
class Transaction:
    """
    One entry of the ledger.

    :param created_at: when it was recorded, UTC.
    :param direction: ``TOPUP`` or ``CHARGE``; the amounts are positive either way.
    :param type: ``PAYMENT``, ``BONUS``, ``REFUND``, ``ADJUSTMENT``, ``MODEL_USAGE``, ``CREDITS_EXPIRED`` or ``INIT``.
    :param credits: the amount in credits.
    :param usd: the amount in USD, as the API gave it.
    :param model: what was charged for; ``None`` where it is no model, or not known.
    :param reference_id: inference id, or payment id; ``None`` where there is none.
    """

    created_at: datetime
    direction: str
    type: str
    credits: int
    usd: Decimal
    model: str | None
    reference_id: str | None


@dataclass(frozen=True)
class Spend:
    """
    What was spent.

    :param amount: the sum.
    :param requests: number of requests that were charged.
    """

    amount: Amount
    requests: int

    def to_dict(self) -> dict[str, Any]:
        """Give a plain JSON dictionary, with sums as decimal text."""
        return {
            "spend_usd": format(self.amount.usd, "f"),
            "spend_credits": format(Decimal(self.amount.credits), "f"),
            "requests": self.requests,
        }


@dataclass(frozen=True)
class Usage:
    """
    What a key spent in a window, as the vendor's analytics say it: for attribution. The ledger is for reconciling.

    :param start: begin of the window, UTC.
    :param end: end of the window, UTC.
    :param total: the whole. It may differ from the sum of the models by some nano-dollars.
    :param models: the parts, highest first; empty where they were not asked for.
    :param groups: the parts by ``group_by``, as the API gave them, numbers as ``Decimal``. Of a longer time than the
        API takes at once, those of its parts one after the other.
    """

    start: datetime
    end: datetime
    total: Spend
    models: Mapping[str, Spend]
    groups: tuple[Mapping[str, Any], ...] = ()


def read_key(body: bytes) -> Key:
    """
    Read the answer of ``GET /v1/key``.

    :raises AimlBillingContractError: if it is not as documented.
    """
    data = field_of(read_object(body), "data", dict)
    limit = data.get("limit")
    if limit is not None and not isinstance(limit, dict):
        raise broken("limit", "an object or null", limit)
    retention = _one_of(limit, "retention", RETENTIONS) if limit is not None else None
    return Key(
        prefix=field_of(data, "prefix", str),
        disabled=field_of(data, "disabled", bool),
        retention=retention,
        limit=None if limit is None else amount_of(limit, "threshold", credits_per_unit=CREDITS_PER_USD).credits,
        created_at=_time(data, "created_at"),
    )


def read_v2_detail(body: bytes) -> Balance:
    """
    Read the balance from the answer of ``GET /v2/billing/detail``, and whether the account tops itself up.

    That is told in the words of v1, and ``None`` where it is not as documented: the balance does not hang on it.

    :raises AimlBillingError: as :func:`~airflow_provider_aimlbilling.answers.read_v2`.
    """
    balance = read_v2(body)
    try:
        status = "enabled" if read_top_up(body).is_enabled else "disabled"
    except AimlBillingContractError:
        return balance
    return replace(balance, auto_debit_status=status)


def read_top_up(body: bytes) -> TopUp:
    """
    Read the auto top-up settings from the answer of ``GET /v2/billing/detail``, and nothing else of it.

    :raises AimlBillingContractError: if they are not as documented.
    """
    settings = field_of(read_object(body), "autotopup_settings", dict)
    if not field_of(settings, "is_enabled", bool):
        return TopUp(is_enabled=False)
    in_usd(settings)
    return TopUp(
        is_enabled=True,
        threshold=amount_of(settings, "threshold", credits_per_unit=CREDITS_PER_USD).credits,
        amount=amount_of(settings, "amount", credits_per_unit=CREDITS_PER_USD).credits,
    )


def read_transactions(body: bytes) -> tuple[list[Transaction], str | None]:
    """
    Read a page of ``GET /v2/billing/transactions``, and the cursor of the next one; ``None`` after the last.

    :raises AimlBillingContractError: if it is not as documented.
    """
    answer = read_object(body)
    pages = field_of(answer, "pagination", dict)
    cursor = field_of(pages, "next_cursor", str, type(None))
    if field_of(pages, "has_more", bool) != bool(cursor):
        raise broken("next_cursor", "a cursor where there is more, and null where not,", cursor)
    return [_transaction(entry) for entry in field_of(answer, "data", list)], cursor or None


def read_usage(body: bytes) -> Usage:
    """
    Read the answer of ``GET /v2/usage`` or ``GET /v2/usage/detail``.

    :raises AimlBillingContractError: if it is not as documented.
    """
    answer = read_object(body)
    in_usd(answer)
    models: dict[str, Spend] = {}
    for part in field_of(answer, "models", list) if "models" in answer else []:
        name = field_of(_object(part, "models"), "model", str)
        models[name] = add(models[name], _spend(part)) if name in models else _spend(part)
    groups = field_of(answer, "groups", list) if "groups" in answer else []
    return Usage(
        start=_time(answer, "start"),
        end=_time(answer, "end"),
        total=_spend(answer),
        models=models,
        groups=tuple(_object(group, "groups") for group in groups),
    )


def add(one: Spend, other: Spend) -> Spend:
    """Give the sum of two."""
    credits = EXACT.add(Decimal(one.amount.credits), Decimal(other.amount.credits))
    return Spend(Amount(credits), one.requests + other.requests)


def joined(usages: Iterable[Usage]) -> Usage:
    """Make one of the usages of windows that follow each other."""
    first, *others = usages
    total, models, groups, end = first.total, dict(first.models), first.groups, first.end
    for usage in others:
        total, groups, end = add(total, usage.total), groups + usage.groups, usage.end
        for name, spend in usage.models.items():
            models[name] = add(models[name], spend) if name in models else spend
    highest_first = dict(sorted(models.items(), key=lambda part: part[1].amount, reverse=True))
    return Usage(first.start, end, total, highest_first, groups)


def windows(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut a time into windows that the usage calls take."""
    while end - start > LONGEST_WINDOW:
        yield start, start + LONGEST_WINDOW
        start += LONGEST_WINDOW
    yield start, end


def period_start(key: Key, now: datetime) -> datetime:
    """
    Say since when the key's spending counts against its limit. Periods begin at 00:00 UTC, weeks on Monday.

    :param now: UTC.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match key.retention:
        case "day":
            return midnight
        case "week":
            return midnight - timedelta(days=midnight.weekday())
        case "month":
            return midnight.replace(day=1)
    return key.created_at


def below_all_along(balance: Number, mark: Number, newest_first: Iterable[Transaction]) -> bool:
    """
    Say whether a balance was below a mark all the time that some entries of the ledger cover, without a payment.

    :param balance: credits that the account holds now.
    :param mark: credits.
    :param newest_first: the entries. No more of them are read than it takes.
    """
    held = Decimal(balance)
    for entry in newest_first:
        if entry.type in ("PAYMENT", "INIT"):  # it was paid, or it is younger than that
            return False
        held = EXACT.add(held, entry.credits) if entry.direction == "CHARGE" else EXACT.subtract(held, entry.credits)
        if held >= mark:
            return False
    return True


def _transaction(entry: object) -> Transaction:
    entry = _object(entry, "data")
    amount = field_of(entry, "amount", dict)
    credits = amount_of(amount, "credits").credits
    if not isinstance(credits, int):
        raise broken("credits", "a whole number", credits)
    amount_of(amount, "usd", credits_per_unit=CREDITS_PER_USD)
    return Transaction(
        created_at=_time(entry, "created_at"),
        direction=_one_of(entry, "direction", DIRECTIONS),
        type=_one_of(entry, "type", TYPES),
        credits=credits,
        usd=amount["usd"],
        model=field_of(entry, "model", str, type(None)),
        reference_id=field_of(entry, "reference_id", str, type(None)),
    )


def _spend(answer: Mapping[str, Any]) -> Spend:
    requests = field_of(answer, "requests", Decimal)
    if not requests.is_finite() or requests < 0 or requests != requests.to_integral_value():
        raise broken("requests", "a whole number", requests)
    return Spend(amount_of(answer, "spend", credits_per_unit=CREDITS_PER_USD), int(requests))


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise broken(name, "a list of objects", value)
    return value


def _one_of(answer: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    value: str = field_of(answer, name, str)
    if value not in known:
        raise AimlBillingContractError(
            f"The API promises one of {', '.join(known)} in the field {name!r} and sent another. Update this provider."
        )
    return value


def _time(answer: Mapping[str, Any], name: str) -> datetime:
    text = field_of(answer, name, str)
    try:
        # Python 3.10 reads neither the Z nor other than three or six digits of a second, which is what is documented.
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return found.astimezone(timezone.utc) if found.tzinfo else found.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        raise broken(name, "a time", text) from None
