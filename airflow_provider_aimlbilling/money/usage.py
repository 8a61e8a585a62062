"""Ledger entries and usage, and calculations with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.money.amount import EXACT, Amount, Number, format_usd

# An unknown direction may change the balance in an unknown way, so it is an error. A new type is passed on.
DIRECTIONS = ("TOPUP", "CHARGE")
TRANSACTION_TYPES = ("PAYMENT", "BONUS", "REFUND", "ADJUSTMENT", "MODEL_USAGE", "CREDITS_EXPIRED", "INIT")
RETENTIONS = ("no_reset", "day", "week", "month")

MAX_WINDOW = timedelta(days=92)  # documented limit of the usage endpoints

# The API's clock and this machine's may differ by this much. So what happened up to now is in a window that ends this
# much later, and rows of a run from up to this long before its start count.
CLOCK_MARGIN = timedelta(minutes=5)

# Charges post after the calls that they are for, and usage comes from the vendor's analytics. The vendor does not say
# when the figures are complete; this value is our own.
SETTLED_AFTER = timedelta(hours=1)


@dataclass(frozen=True)
class Transaction:
    """
    One entry of the ledger.

    :param created_at: when it was recorded, UTC.
    :param direction: ``TOPUP`` or ``CHARGE``; amounts are positive either way.
    :param type: ``PAYMENT``, ``BONUS``, ``REFUND``, ``ADJUSTMENT``, ``MODEL_USAGE``, ``CREDITS_EXPIRED`` or ``INIT``;
        or a newer one, as text; empty if the API reported none.
    :param credits: the amount in credits.
    :param usd: the amount in USD, as the API reported it.
    :param model: the model that the charge is for; ``None`` if there is none or it is unknown.
    :param reference_id: inference id or payment id; ``None`` if there is none.
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

    :param amount: the total.
    :param requests: number of requests that were charged.
    """

    amount: Amount
    requests: int

    def to_dict(self) -> dict[str, Any]:
        """Return a plain JSON dictionary with amounts as decimal text."""
        return {
            "spend_usd": format_usd(self.amount.usd),
            "spend_credits": format(Decimal(self.amount.credits), "f"),
            "requests": self.requests,
        }


@dataclass(frozen=True)
class Usage:
    """
    What a key spent in a window, according to the vendor's analytics. Use it to attribute costs, and the ledger to
    reconcile them.

    :param start: start of the window, UTC.
    :param end: end of the window, UTC.
    :param total: the total. It may differ from the sum of the models by a few billionths of a dollar.
    :param models: spending by model, highest first; empty if it was not requested.
    :param groups: spending by ``group_by``, as the API reported it, with numbers as ``Decimal``. A window longer than
        the API accepts is read in parts, and their groups are concatenated.
    """

    start: datetime
    end: datetime
    total: Spend
    models: Mapping[str, Spend]
    groups: tuple[Mapping[str, Any], ...] = ()


def add_spend(first: Spend, second: Spend) -> Spend:
    """Add up two: amounts and numbers of requests."""
    credits = EXACT.add(Decimal(first.amount.credits), Decimal(second.amount.credits))
    return Spend(Amount(credits), first.requests + second.requests)


def combine_usage(parts: Iterable[Usage]) -> Usage:
    """
    Combine the usage of consecutive windows.

    :param parts: at least one, in order.
    """
    first, *others = parts
    total, models, groups, end = first.total, dict(first.models), first.groups, first.end
    for usage in others:
        total, groups, end = add_spend(total, usage.total), groups + usage.groups, usage.end
        for name, spend in usage.models.items():
            models[name] = add_spend(models[name], spend) if name in models else spend
    highest_first = dict(sorted(models.items(), key=lambda item: item[1].amount, reverse=True))
    return Usage(first.start, end, total, highest_first, groups)


def split_window(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Split a window into parts that the usage endpoints accept."""
    while end - start > MAX_WINDOW:
        yield start, start + MAX_WINDOW
        start += MAX_WINDOW
    yield start, end


def limit_period_start(retention: str | None, created_at: datetime, now: datetime) -> datetime:
    """
    Return when the current period of a key's limit began. Periods start at 00:00 UTC, weeks on Monday.

    :param retention: ``day``, ``week`` or ``month``; anything else never resets.
    :param created_at: when the key was created; spending counts from then on if the limit never resets.
    :param now: UTC.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match retention:
        case "day":
            return midnight
        case "week":
            return midnight - timedelta(days=midnight.weekday())
        case "month":
            return midnight.replace(day=1)
    return created_at


def stayed_below(balance: Number, mark: Number, newest_first: Iterable[Transaction]) -> bool:
    """
    Return whether the balance stayed below a threshold during all given ledger entries, and none of them is a payment.

    :param balance: credits that the account holds now.
    :param mark: credits.
    :param newest_first: ledger entries, newest first; iteration stops as soon as the result is known.
    """
    held = Decimal(balance)
    for entry in newest_first:
        if entry.type in ("PAYMENT", "INIT"):  # a payment arrived, or the account is younger than the window
            return False
        if entry.direction == "TOPUP" and entry.type not in TRANSACTION_TYPES:  # it may be a payment
            return False
        held = EXACT.add(held, entry.credits) if entry.direction == "CHARGE" else EXACT.subtract(held, entry.credits)
        if held >= mark:
            return False
    return True
