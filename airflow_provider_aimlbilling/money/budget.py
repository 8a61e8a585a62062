"""A budget for a calendar period, and what is left of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingBudgetError,
    AimlBillingContractError,
    AimlBillingThresholdError,
)
from airflow_provider_aimlbilling.money.amount import EXACT, Amount, in_both_units
from airflow_provider_aimlbilling.money.time_zones import time_zone

PERIODS = ("day", "week", "month")

_FORM = "Write it like '200 USD per month' or '200 USD per month in Europe/Berlin'; a period is a day, week or month."
_TEXT = re.compile(r"(?P<amount>.+?)\s+per\s+(?P<period>\S+)(?:\s+in\s+(?P<zone>\S+))?", re.IGNORECASE)
_MAX_TEXT = 300  # characters; the expression takes time that grows with the square of the length
_ONE_CENT = Amount.from_usd(Decimal("0.01"))


@dataclass(frozen=True)
class Budget:
    """
    What may be spent in each calendar period.

    :param amount: the amount for one period.
    :param period: ``day``, ``week`` (from Monday on) or ``month`` (from the 1st on).
    :param time_zone: IANA name of the time zone in which a period begins at midnight.
    """

    amount: Amount
    period: str
    time_zone: str = "UTC"

    @classmethod
    def parse(cls, value: object) -> Budget:
        """
        Parse a budget from a DAG file or a rendered template.

        :param value: a :class:`Budget`, or text: an amount as :meth:`Amount.parse` reads it, ``per``, the period, and
            optionally ``in`` and a time zone: ``"200 USD per month"``, ``"5000000 credits per day in Asia/Tokyo"``.
        :raises AimlBillingBudgetError: for anything else: an unknown period or time zone, an amount that is invalid or
            below one cent, empty text, a template that was not rendered.
        """
        if isinstance(value, Budget):
            return value
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}…"
        if value is None or (isinstance(value, str) and value.strip() in ("", "None")):
            raise AimlBillingBudgetError(
                f"{shown} is not a budget. The template or XCom that should provide it was empty. {_FORM}"
            )
        found = _TEXT.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= _MAX_TEXT else None
        if found is None:
            raise AimlBillingBudgetError(f"{shown} is not a budget. {_FORM}")
        try:
            amount = Amount.parse(found["amount"])
        except AimlBillingThresholdError as error:
            raise AimlBillingBudgetError(f"The budget {shown} has no valid amount: {error}") from None
        if 0 < amount.credits < _ONE_CENT.credits:
            has_unit = "usd" in shown.lower() or "$" in shown
            problem = ", which is most likely a mistake" if has_unit else ". A bare number means credits"
            raise AimlBillingBudgetError(
                f"The budget {shown} is below one cent{problem}. Write dollars as '200 USD per month'."
            )
        period = found["period"].lower()
        if period not in PERIODS:
            raise AimlBillingBudgetError(f"The budget {shown} has an unknown period. {_FORM}")
        zone = found["zone"] or "UTC"
        _time_zone(zone)
        return cls(amount, period, zone)

    @property
    def text(self) -> str:
        """The budget as text that :meth:`parse` reads back unchanged."""
        return f"{self.amount.text} {self._period_text}"

    def period_at(self, moment: datetime) -> tuple[datetime, datetime]:
        """
        Return the start of the period that a moment is in, and the start of the next one.

        A period starts with the first instant of its first day in the budget's time zone. That is midnight, or the
        first instant after it on a day on which clocks skip midnight.

        :param moment: with a time zone.
        :raises AimlBillingBudgetError: if the time zone is not known on this machine.
        """
        zone = _time_zone(self.time_zone)
        first = self._first_day(moment.astimezone(zone).date())
        start, end = _first_instant(first, zone), _first_instant(self._next_first_day(first), zone)
        if moment >= end:  # clocks were put back past midnight, so the date is that of the day before
            first = self._next_first_day(first)
            start, end = end, _first_instant(self._next_first_day(first), zone)
        return start, end

    def _first_day(self, day: date) -> date:
        match self.period:
            case "day":
                return day
            case "week":
                return day - timedelta(days=day.weekday())
            case _:
                return day.replace(day=1)

    def _next_first_day(self, first: date) -> date:
        days = {"day": 1, "week": 7, "month": 32}[self.period]
        return self._first_day(first + timedelta(days=days))

    @property
    def _period_text(self) -> str:
        return f"per {self.period}" if self.time_zone == "UTC" else f"per {self.period} in {self.time_zone}"

    def __str__(self) -> str:
        return f"{self.amount.usd_text} {self._period_text}"


@dataclass(frozen=True)
class BudgetUse:
    """
    What was spent of a budget in its current period.

    :param budget: the budget.
    :param since: when the period began, with the offset of the budget's time zone.
    :param until: when the next one begins, in the same form.
    :param spent: what the key has spent in the period, as far as it is known: charges are recorded late.
    """

    budget: Budget
    since: datetime
    until: datetime
    spent: Amount

    @property
    def left(self) -> Amount:
        """What may still be spent, never negative."""
        left = EXACT.subtract(Decimal(self.budget.amount.credits), Decimal(self.spent.credits))
        return Amount(max(left, Decimal(0)))

    def covers(self, needed: Amount | None) -> bool:
        """
        Return whether enough is left.

        :param needed: what a job needs; ``None`` if that is unknown: then anything above zero is enough.
        """
        return self.left.credits > 0 if needed is None else self.left >= needed

    def to_dict(self) -> dict[str, Any]:
        """Return a plain JSON dictionary: the period, and the amounts in credits and in USD."""
        return {
            "period": self.budget.period,
            "time_zone": self.budget.time_zone,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            **in_both_units("amount", self.budget.amount),
            **in_both_units("spent", self.spent),
            **in_both_units("left", self.left),
        }

    @classmethod
    def from_dict(cls, data: object) -> BudgetUse:
        """
        Read back what :meth:`to_dict` returned.

        :param data: the dictionary.
        :raises AimlBillingContractError: if it is anything else.
        """
        try:
            if not isinstance(data, Mapping) or data["period"] not in PERIODS or not isinstance(data["time_zone"], str):
                raise TypeError
            since, until = (datetime.fromisoformat(data[name]) for name in ("since", "until"))
            amount, spent = (_stored_amount(data[name]) for name in ("amount_credits", "spent_credits"))
        except (KeyError, TypeError, ValueError, ArithmeticError):
            raise AimlBillingContractError("The field budget of the balance was not written by this version.") from None
        return cls(Budget(amount, data["period"], data["time_zone"]), since, until, spent)

    def __str__(self) -> str:
        return f"{self.left.usd_text} left of the budget of {self.budget}"


def _stored_amount(stored: object) -> Amount:
    return Amount(Decimal(stored) if isinstance(stored, str) else stored)  # type: ignore[arg-type]


def _first_instant(day: date, zone: tzinfo) -> datetime:
    """
    Return the first instant of a day.

    If midnight occurs twice, this is the first one. If clocks skip it, Python uses the offset from before the change,
    which gives the instant at which they are put forward.
    """
    # To UTC and back: Python compares two times in the same zone by their wall-clock time.
    midnight = datetime.combine(day, time(), zone).astimezone(timezone.utc)
    local = midnight.astimezone(zone)
    return local.replace(tzinfo=timezone(local.utcoffset() or timedelta(0)))


def _time_zone(name: str) -> tzinfo:
    """
    Return a time zone.

    :param name: its IANA name.
    :raises AimlBillingBudgetError: if Python does not find it.
    """
    try:
        return time_zone(name)
    except ValueError as error:
        raise AimlBillingBudgetError(f"The budget's time zone: {error}") from None
