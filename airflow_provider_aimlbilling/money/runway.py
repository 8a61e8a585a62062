"""How long the money lasts, judged by the spending of recent days: a range or an error, never a single number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingPricingError,
    AimlBillingRunwayError,
    AimlBillingThresholdError,
)
from airflow_provider_aimlbilling.money.amount import EXACT, Amount, in_both_units
from airflow_provider_aimlbilling.money.quantity import parse_quantity, shorten

WINDOW_DAYS = 28  # how many complete days the rates are based on
MIN_HISTORY_DAYS = 7  # fewer do not show how the days of a week differ
STRETCH_DAYS = 3  # the cautious rate is that of the most expensive stretch of this many days

_NO_FIGURE = "Until there is an estimate, set the thresholds of gates by hand."


@dataclass(frozen=True)
class Runway:
    """
    How long a balance lasts, as a range.

    All calculations are exact. Days are rounded down to a tenth, rates and thresholds up to the next credit.

    :param balance: what the account holds.
    :param first_day: first day with spending among the last 28 complete days. Days before it do not count.
    :param last_day: the last complete day.
    :param cautious: credits per day on the most expensive three days in a row, or the mean if that is higher.
    :param mean: credits per day on average.
    :param others: credits per day that left the account without being spent by this key; ``None`` if that is unknown.
        They are part of both rates.
    :param auto_debit_status: whether the account tops itself up, in the API's words; ``None`` if that is unknown.
    :param read_at: when the balance was read.
    """

    balance: Amount
    first_day: date
    last_day: date
    cautious: Fraction
    mean: Fraction
    others: Fraction | None
    auto_debit_status: str | None
    read_at: datetime

    @property
    def history_days(self) -> int:
        """How many days the rates are based on."""
        return (self.last_day - self.first_day).days + 1

    @property
    def shortest_days(self) -> Decimal:
        """How many days the balance lasts at the cautious rate, rounded down to a tenth."""
        return self._days_at(self.cautious)

    @property
    def longest_days(self) -> Decimal:
        """How many days the balance lasts at the mean rate, rounded down to a tenth."""
        return self._days_at(self.mean)

    def threshold_for(self, days: object) -> Amount:
        """
        Return what an account must hold to last for some days at the cautious rate, rounded up to the next credit.

        :param days: how many days: a number above 0, or text of one.
        :raises AimlBillingRunwayError: if it is not, or no account can hold that much.
        """
        try:
            number = parse_quantity("day", days)
        except AimlBillingPricingError as error:
            raise AimlBillingRunwayError(f"days: {error}") from None
        if not number:
            raise AimlBillingRunwayError(f"days: {shorten(days)} is not above 0, so every gate would open.")
        return _rounded_up(self.cautious * Fraction(number))

    @property
    def summary(self) -> str:
        """The whole range as one line for people."""
        cautious, mean = _rounded_up(self.cautious), _rounded_up(self.mean)
        whose = "of the key" if self.others is None else "of the whole account"
        line = (
            f"{self.balance.usd_text} lasts {self.shortest_days} to {self.longest_days} days: spending {whose} was up "
            f"to {cautious.usd_text} a day over three days in a row, and {mean.usd_text} on average, in "
            f"{self.history_days} days"
        )
        return f"{line}. Auto top-up: {(self.auto_debit_status or 'unknown')[:40]}."

    def to_dict(self) -> dict[str, Any]:
        """Return a plain JSON dictionary. Days are decimal text; amounts are in credits and USD."""
        others = None if self.others is None else _rounded_up(self.others)
        return {
            "shortest_days": format(self.shortest_days, "f"),
            "longest_days": format(self.longest_days, "f"),
            **in_both_units("balance", self.balance),
            **in_both_units("cautious_per_day", _rounded_up(self.cautious)),
            **in_both_units("mean_per_day", _rounded_up(self.mean)),
            **in_both_units("others_per_day", others),
            "spending_of": "key" if others is None else "account",
            "first_day": self.first_day.isoformat(),
            "last_day": self.last_day.isoformat(),
            "history_days": self.history_days,
            "auto_debit_status": self.auto_debit_status,
            "read_at": self.read_at.isoformat(timespec="seconds"),
            "summary": self.summary,
        }

    def _days_at(self, rate: Fraction) -> Decimal:
        tenths = math.floor(Fraction(self.balance.credits) / rate * 10)
        return EXACT.scaleb(Decimal(tenths), -1)


def estimate_runway(
    balance: Amount,
    spent: Mapping[date, Amount],
    today: date,
    *,
    read_at: datetime,
    others: Fraction | None = None,
    auto_debit_status: str | None = None,
) -> Runway:
    """
    Estimate how long a balance lasts.

    Of the 28 days before today, only those from the first day with spending on count, so that a new account does not
    look cheap. A later day that is missing counts as a day without spending, so ``spent`` must cover the whole window.

    :param balance: what the account holds.
    :param spent: what was spent on each day.
    :param today: the day that is not complete yet. It does not count.
    :param read_at: when the balance was read.
    :param others: credits per day that left the account in addition to those in ``spent``.
    :param auto_debit_status: whether the account tops itself up, in the API's words.
    :raises AimlBillingRunwayError: nothing was spent, or there are fewer than seven days of history.
    """
    window = [today - timedelta(days=ago) for ago in range(WINDOW_DAYS, 0, -1)]
    daily = [Fraction(spent[day].credits if day in spent else 0) for day in window]
    start = next((number for number, amount in enumerate(daily) if amount), None)
    if start is None:
        raise AimlBillingRunwayError(
            f"How long the money lasts is unknown: nothing was spent in the {WINDOW_DAYS} days before {today}. "
            f"{_NO_FIGURE}"
        )
    history = daily[start:]
    if len(history) < MIN_HISTORY_DAYS:
        raise AimlBillingRunwayError(
            f"How long the money lasts is unknown: spending began on {window[start]}, and {MIN_HISTORY_DAYS} complete "
            f"days are needed. There will be enough on {window[start] + timedelta(days=MIN_HISTORY_DAYS)}. {_NO_FIGURE}"
        )
    mean = sum(history, Fraction()) / len(history)
    stretches = [sum(history[at : at + STRETCH_DAYS], Fraction()) for at in range(len(history) - STRETCH_DAYS + 1)]
    # If the same amount is spent on every third day only, no stretch is above the mean.
    cautious = max(mean, max(stretches) / STRETCH_DAYS)
    extra = others or Fraction()
    return Runway(
        *(balance, window[start], window[-1], cautious + extra, mean + extra),
        others=others,
        auto_debit_status=auto_debit_status,
        read_at=read_at,
    )


def _rounded_up(credits: Fraction) -> Amount:
    try:
        return Amount(math.ceil(credits))
    except AimlBillingThresholdError:
        raise AimlBillingRunwayError("No account can hold as much as this would take.") from None
