"""
Exact amounts of money.

Amounts are ``int`` or ``Decimal``, never binary ``float``, and convert between credits and USD. According to the
vendor's pricing documentation, 2,000,000 credits are 1 USD.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, Inexact, InvalidOperation
from typing import Any

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError

CREDITS_PER_USD = 2_000_000

# The largest integer that every JSON reader represents exactly (2**53), about 4.5 billion USD. A larger balance must be
# an error.
MAX_CREDITS = 2**53

MAX_DECIMALS = 150  # of credits; text may have 129

# Our own context, because the caller's may round. Here a result that cannot be exact raises an error.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])

_ACCEPTED_FORMS = "Write credits as 5000000 or '5000000 credits', dollars as '2.50 USD' or '$2.50'."
# A fraction of a credit must name its unit: a bare "2.50" most likely means dollars, and would open almost any gate.
# With a unit, a number may be written as Python writes it: 5.25e-05, 1_000.
_NUMBER = r"\d(?:_?\d){0,29}(?:\.\d{1,30})?(?:e[+-]?\d{1,2})?"
_CREDITS_TEXT = re.compile(rf"(\d{{1,30}})|({_NUMBER})\s*credits?", re.ASCII | re.IGNORECASE)
_USD_TEXT = re.compile(rf"\$\s*({_NUMBER})|({_NUMBER})\s*USD", re.ASCII | re.IGNORECASE)

_DECIMAL_WITHOUT_UNIT = re.compile(r"\d+\.\d+", re.ASCII)
_DIGIT_SEPARATOR = re.compile(r"\d[,_' ]\d", re.ASCII)

Number = int | Decimal


def json_number(number: Number | None) -> int | str | None:
    """Return a number for JSON: an ``int`` if it is whole, else decimal text, because JSON numbers become floats."""
    return number if number is None or isinstance(number, int) else format(number, "f")


def format_usd(usd: Decimal, group: str = "") -> str:
    """
    Format dollars exactly, with at least two decimal places.

    :param usd: amount in USD.
    :param group: thousands separator, such as ``","``.
    """
    whole, _, fraction = f"{usd:{group}f}".partition(".")
    return f"{whole}.{fraction:0<2}"


@dataclass(frozen=True, order=True)
class Amount:
    """
    An exact amount of money, zero or more.

    :param credits: the amount in credits, the API's unit.
    :raises AimlBillingThresholdError: if it is not a finite ``int`` or ``Decimal`` from 0 to ``MAX_CREDITS``.
    """

    credits: Number

    def __post_init__(self) -> None:
        if isinstance(self.credits, bool) or not isinstance(self.credits, int | Decimal):
            raise AimlBillingThresholdError(
                f"An amount is an int or a Decimal of credits, not {type(self.credits).__name__}. {_ACCEPTED_FORMS}"
            )
        number = Decimal(self.credits)
        if not number.is_finite() or not 0 <= number <= MAX_CREDITS:
            raise AimlBillingThresholdError(
                f"An amount is between 0 and {MAX_CREDITS:,} credits; this one is not. {_ACCEPTED_FORMS}"
            )
        # Written out, 1e-999999999 would fill the memory.
        if int(number.as_tuple().exponent) < -MAX_DECIMALS:
            raise AimlBillingThresholdError(f"An amount has at most {MAX_DECIMALS} decimal places. {_ACCEPTED_FORMS}")
        try:
            object.__setattr__(self, "credits", _simplest(number))
        except Inexact:
            raise AimlBillingThresholdError(f"{self.credits} has too many digits. {_ACCEPTED_FORMS}") from None

    @classmethod
    def from_usd(cls, usd: Number) -> Amount:
        """
        Make an amount from US dollars.

        :param usd: the amount in USD.
        """
        try:
            return cls(EXACT.multiply(Decimal(usd), CREDITS_PER_USD))
        except Inexact:
            raise AimlBillingThresholdError(f"{usd} USD has too many digits. {_ACCEPTED_FORMS}") from None

    @classmethod
    def parse(cls, value: object) -> Amount:
        """
        Parse an amount from a DAG file or a rendered template.

        :param value: an :class:`Amount`; whole credits as ``int``; ``Decimal`` credits; text such as ``"5000000"``,
            ``"5000000 credits"``, ``"2.50 USD"`` or ``"$2.50"``. Numbers with a unit may be written as Python writes
            them: ``"5.25e-05 USD"``, ``"1_000 credits"``.
        :raises AimlBillingThresholdError: for anything else: booleans, NaN, infinities, negative numbers, a ``float``
            that is not a whole number, empty text, another currency, a template that was not rendered.
        """
        if isinstance(value, Amount):
            return value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return cls(value)
        if isinstance(value, str):
            text = value.strip()
            if credits := _CREDITS_TEXT.fullmatch(text):
                return cls(Decimal(credits[1] or credits[2]))
            if usd := _USD_TEXT.fullmatch(text):
                return cls.from_usd(Decimal(usd[1] or usd[2]))
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}…"
        raise AimlBillingThresholdError(f"{shown} is not an amount of money.{_hint(value)} {_ACCEPTED_FORMS}")

    @property
    def usd(self) -> Decimal:
        """The amount in US dollars, exact."""
        usd = EXACT.normalize(EXACT.divide(Decimal(self.credits), CREDITS_PER_USD))
        return usd if usd != usd.to_integral_value() else usd.quantize(Decimal(1))  # 50, not 5E+1

    def rounded_up(self) -> Amount:
        """Return the next whole number of credits, so that a threshold from a binary float is never too low."""
        return Amount(int(Decimal(self.credits).to_integral_value(ROUND_CEILING)))

    @property
    def usd_text(self) -> str:
        """The amount in US dollars for people, exact: ``1,234.50 USD``."""
        return f"{format_usd(self.usd, ',')} USD"

    @property
    def text(self) -> str:
        """The amount as text that :meth:`parse` reads back unchanged, fractions of a credit included."""
        return f"{Decimal(self.credits):f} credits"

    def __str__(self) -> str:
        return f"{self.credits:,} credits ({self.usd_text})"


def in_both_units(name: str, amount: Amount | None) -> dict[str, Any]:
    """
    Return an amount for JSON, as ``<name>_credits`` and ``<name>_usd``.

    :param name: what the amount is.
    :param amount: the amount; ``None`` if it is unknown.
    """
    return {
        f"{name}_credits": None if amount is None else json_number(amount.credits),
        f"{name}_usd": None if amount is None else format_usd(amount.usd),
    }


def _simplest(number: Decimal) -> Number:
    """Return whole numbers as ``int``, which JSON keeps exact, and others as ``Decimal`` without trailing zeros."""
    whole = number.to_integral_value()
    return int(whole) if whole == number else EXACT.normalize(number)


def _hint(value: object) -> str:
    """Return a hint about what the author of an invalid value probably meant."""
    if isinstance(value, str) and "{{" in value:
        return " This template was not rendered: pass it directly as the operator's threshold."
    if isinstance(value, str) and _DECIMAL_WITHOUT_UNIT.fullmatch(value.strip()):
        return f" It has no unit. Did you mean '{value.strip()} USD'?"
    if isinstance(value, float) and 0 < value < MAX_CREDITS:
        return f" Credits are whole numbers, and dollars are text. Did you mean '{Decimal(repr(value)):f} USD'?"
    if isinstance(value, str) and _DIGIT_SEPARATOR.search(value):
        return " Write it without separators."
    if isinstance(value, Mapping):
        return " It is a whole result. Use the output of EstimateCostOperator itself, or one field of a balance."
    if value is None or value == "None":
        return " The template or XCom that should provide it was empty."
    return ""
