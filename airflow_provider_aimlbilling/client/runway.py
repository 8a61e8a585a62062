"""What it takes to say how long the money lasts: the balance, the key's spending by day, and what others spent."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from fractions import Fraction
from typing import TYPE_CHECKING

from airflow_provider_aimlbilling.client.api import iso_time
from airflow_provider_aimlbilling.client.usage_groups import daily_spending, midnight
from airflow_provider_aimlbilling.exceptions import AimlBillingRunwayError, InsufficientBalanceError
from airflow_provider_aimlbilling.money.amount import Amount, Number
from airflow_provider_aimlbilling.money.runway import WINDOW_DAYS, Runway, estimate_runway
from airflow_provider_aimlbilling.money.time_zones import time_zone
from airflow_provider_aimlbilling.money.usage import SETTLED_AFTER

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
    time_zone(tz)  # before any request
    status = None
    held: Number  # negative if the account is overdrawn
    try:
        reading = client.get_balance(with_top_up=True)
        held, status = reading.balance, reading.auto_debit_status
    except InsufficientBalanceError as refusal:
        # An account that holds nothing lasts no day. What it needs to last again is still worth knowing.
        held = -(refusal.overdrawn_credits or 0)
    return read_runway_of(client, held, tz, earlier, auto_debit_status=status)


def read_runway_of(
    client: AimlBillingClient,
    held: Number,
    tz: str = "UTC",
    earlier: tuple[datetime, Amount] | None = None,
    *,
    auto_debit_status: str | None = None,
) -> Runway:
    """
    Estimate how long a balance lasts that was just read.

    :param client: the client.
    :param held: what the account holds, in credits; negative if it is overdrawn.
    :param tz: IANA name of the time zone in which days begin and end.
    :param earlier: when an earlier balance was read, and what the account held; ``None`` for none.
    :param auto_debit_status: whether the account tops itself up, in the API's words; ``None`` if that is unknown.
    :raises AimlBillingError: or a subclass, as in :meth:`AimlBillingClient.get_runway`.
    """
    zone = time_zone(tz)
    now = datetime.now(timezone.utc)
    today = (now - SETTLED_AFTER).astimezone(zone).date()
    start, end = (midnight(day, zone) for day in (today - WINDOW_DAYS * _DAY, today))
    usage = client.get_usage(start=start, end=end, group_by="day", tz=tz)
    return estimate_runway(
        Amount(max(held, 0)),
        daily_spending(usage, start, end, zone),
        today,
        read_at=now,
        # An earlier balance of 0 may stand for one below 0, and the difference is not what others spent.
        others=_spent_by_others(client, earlier, held, now) if earlier and earlier[1].credits else None,
        auto_debit_status=auto_debit_status,
    )


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
