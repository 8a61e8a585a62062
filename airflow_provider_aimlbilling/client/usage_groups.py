"""What a key has spent by day, or by day and model: the groups of ``GET /v2/usage/detail``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal

from airflow_provider_aimlbilling.client.json_fields import contract_error, require_field, usd_field
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.money.amount import EXACT, Amount
from airflow_provider_aimlbilling.money.usage import Usage

UNKNOWN_MODEL = "unknown model"


def daily_spending(usage: Usage, start: datetime, end: datetime, zone: tzinfo) -> dict[date, Amount]:
    """
    Return what was spent on each day of a window. A day that is missing is one without spending.

    :param usage: the usage, grouped by day, or by day and model.
    :param start: start of the window.
    :param end: end of the window.
    :param zone: time zone of the days.
    :raises AimlBillingContractError: the usage is not of this window, or its days are not its total.
    """
    days: dict[date, Amount] = {}
    for (day, _), amount in model_spending(usage, start, end, zone).items():
        days[day] = add_amounts(days.get(day), amount)
    return days


def model_spending(
    usage: Usage, start: datetime, end: datetime, zone: tzinfo, lag: timedelta = timedelta()
) -> dict[tuple[date, str], Amount]:
    """
    Return what was spent on each day of a window for each model.

    :param usage: the usage, grouped by day and model. A group that names no model is one of an unknown model.
    :param start: start of the window.
    :param end: end of the window.
    :param zone: time zone of the days.
    :param lag: how much earlier than the window the usage may end.
    :raises AimlBillingContractError: the usage is not of this window, or its groups are not its total.
    """
    if usage.start > start or usage.end < end - lag:
        raise AimlBillingContractError(
            f"The API was asked for the usage from {start.isoformat()} to {end.isoformat()}, and answered for "
            f"{usage.start.isoformat()} to {usage.end.isoformat()}. Days without an answer are not days without "
            "spending. Update this provider."
        )
    first, last = start.astimezone(zone), end.astimezone(zone)
    spent: dict[tuple[date, str], Amount] = {}
    total = Decimal(0)
    for group in usage.groups:
        day, amount = _day_of(group), usd_field(group, "spend")
        if not first.date() <= day <= last.date() or (day == last.date() and last == midnight(day, zone)):
            raise AimlBillingContractError(f"The API's usage has the day {day}, which was not asked for.")
        name = group.get("model")
        key = day, name if isinstance(name, str) and name else UNKNOWN_MODEL
        total = EXACT.add(total, Decimal(amount.credits))
        spent[key] = add_amounts(spent.get(key), amount)
    # The vendor documents that parts may differ from the total by billionths of a dollar.
    if abs(total - Decimal(usage.total.amount.credits)) > 1 + len(spent):
        raise AimlBillingContractError(
            f"The API's usage by day adds up to {Amount(total)}, but its total is {usage.total.amount}. A day may be "
            "missing. Try again later, or update this provider."
        )
    return spent


def midnight(day: date, zone: tzinfo) -> datetime:
    """Return when a day begins in a time zone, as UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(timezone.utc)


def add_amounts(first: Amount | None, second: Amount) -> Amount:
    """Return the sum of two amounts, of which the first may not exist yet."""
    return second if first is None else Amount(EXACT.add(Decimal(first.credits), Decimal(second.credits)))


def _day_of(group: Mapping[str, object]) -> date:
    text = require_field(group, "day", str)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise contract_error("day", "a date", text) from None
