"""What it takes to say how long the money lasts: the balance, the key's spending by day, and what others spent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from airflow_provider_aimlbilling.client.api import iso_time
from airflow_provider_aimlbilling.client.json_fields import contract_error, require_field, usd_field
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingRunwayError,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import EXACT, Amount, Number
from airflow_provider_aimlbilling.money.runway import WINDOW_DAYS, Runway, estimate_runway
from airflow_provider_aimlbilling.money.time_zones import time_zone
from airflow_provider_aimlbilling.money.usage import SETTLED_AFTER, Usage

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.client.client import AimlBillingClient

# Two balances that are closer together say little about a day. A daily run may come a little early.
MIN_BETWEEN_BALANCES = timedelta(hours=20)

_DAY = timedelta(days=1)


def read_runway(client: AimlBillingClient, tz: str, earlier: tuple[datetime, Amount] | None) -> Runway:
    """
    Read what the estimate needs, and estimate: see :meth:`AimlBillingClient.get_runway`.

    :param client: the client.
    :param tz: IANA name of the time zone in which days begin and end.
    :param earlier: when an earlier balance was read, and what the account held; ``None`` for none.
    """
    zone = time_zone(tz)
    now = datetime.now(timezone.utc)
    today = (now - SETTLED_AFTER).astimezone(zone).date()
    start, end = (_midnight(day, zone) for day in (today - WINDOW_DAYS * _DAY, today))
    status = None
    held: Number  # negative if the account is overdrawn
    try:
        reading = client.get_balance(with_top_up=True)
        held, status = reading.balance, reading.auto_debit_status
    except InsufficientBalanceError as refusal:
        # An account that holds nothing lasts no day. What it needs to last again is still worth knowing.
        held = -(refusal.overdrawn_credits or 0)
    usage = client.get_usage(start=start, end=end, group_by="day", tz=tz)
    return estimate_runway(
        Amount(max(held, 0)),
        daily_spending(usage, start, end, zone),
        today,
        read_at=now,
        # An earlier balance of 0 may stand for one below 0, and the difference is not what others spent.
        others=_spent_by_others(client, earlier, held, now) if earlier and earlier[1].credits else None,
        auto_debit_status=status,
    )


def daily_spending(usage: Usage, start: datetime, end: datetime, zone: tzinfo) -> dict[date, Amount]:
    """
    Return what was spent on each day of a window. A day that is missing is one without spending.

    :param usage: the usage, grouped by day.
    :param start: start of the window.
    :param end: end of the window.
    :param zone: time zone of the days.
    :raises AimlBillingContractError: the usage is not of this window, or its days are not its total.
    """
    if usage.start > start or usage.end < end:
        raise AimlBillingContractError(
            f"The API was asked for the usage from {start.isoformat()} to {end.isoformat()}, and answered for "
            f"{usage.start.isoformat()} to {usage.end.isoformat()}. Days without an answer are not days without "
            "spending. Update this provider."
        )
    days: dict[date, Amount] = {}
    total = Decimal(0)
    for group in usage.groups:
        day, amount = _day_of(group), usd_field(group, "spend")
        if not start.astimezone(zone).date() <= day < end.astimezone(zone).date():
            raise AimlBillingContractError(f"The API's usage has the day {day}, which was not asked for.")
        total = EXACT.add(total, Decimal(amount.credits))
        days[day] = Amount(EXACT.add(Decimal(days.get(day, Amount(0)).credits), Decimal(amount.credits)))
    # The vendor documents that parts may differ from the total by billionths of a dollar.
    if abs(total - Decimal(usage.total.amount.credits)) > 1 + len(days):
        raise AimlBillingContractError(
            f"The API's usage by day adds up to {Amount(total)}, but its total is {usage.total.amount}. A day may be "
            "missing. Try again later, or update this provider."
        )
    return days


def _spent_by_others(
    client: AimlBillingClient, earlier: tuple[datetime, Amount], held: Number, now: datetime
) -> Fraction:
    """Return the credits per day that left the account since an earlier balance and are not this key's spending."""
    since, before = earlier
    iso_time(since)  # it must have a time zone
    if now - since < MIN_BETWEEN_BALANCES:
        raise AimlBillingRunwayError(
            f"The earlier balance, of {since.isoformat(timespec='seconds')}, is too recent: two balances must be "
            f"{MIN_BETWEEN_BALANCES // timedelta(hours=1)} hours apart to tell what the account spends in a day."
        )
    paid = sum(entry.credits for entry in client.iter_transactions(start=since, end=now, direction="TOPUP"))
    left = Fraction(before.credits) + paid - Fraction(held)
    by_key = client.get_usage(start=since, end=now, by_model=False).total.amount
    # The key's charges may be reported before they are taken from the balance.
    instant = timedelta(microseconds=1)
    return max(left - Fraction(by_key.credits), Fraction()) * (_DAY // instant) / ((now - since) // instant)


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(timezone.utc)


def _day_of(group: Mapping[str, object]) -> date:
    text = require_field(group, "day", str)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise contract_error("day", "a date", text) from None
