"""
Money, balances, and the one rule that says whether a balance is enough. Pure: no Airflow, no network, no clock.

Amounts are exact (``int`` or ``Decimal``, never binary ``float``) and always know both units:
2,000,000 credits are 1 USD, as the vendor's pricing documentation states.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingThresholdError,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.left_out import LEFT_OUT

CREDITS_PER_USD = 2_000_000

# The largest whole number that every JSON reader keeps exact (2**53), some 4.5 billion USD. A balance beyond it is a
# fault of the answer, not a fortune.
MAX_CREDITS = 2**53

# A context of our own: the caller's may round, and a sum that had to be rounded is refused instead.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])

_THRESHOLD_FORMS = "Write credits as 5000000 or '5000000 credits', dollars as '2.50 USD' or '$2.50'."
# A part of a credit must name its unit: "2.50" alone is more likely dollars, and would open almost any gate.
_CREDITS_TEXT = re.compile(r"(\d{1,30})(?:\s*credits?)?|(\d{1,30}\.\d{1,20})\s*credits?", re.ASCII | re.IGNORECASE)
_USD_TEXT = re.compile(r"(?:\$\s*(\d{1,30}(?:\.\d{1,20})?)|(\d{1,30}(?:\.\d{1,20})?)\s*USD)", re.ASCII | re.IGNORECASE)

_NO_UNIT = re.compile(r"\d+\.\d+", re.ASCII)

Number = int | Decimal

_TEXTS = ("last_updated", "auto_debit_status", "status", "status_explanation")


def _tidy(number: Decimal) -> Number:
    """Whole numbers as ``int``, which JSON carries as such; all others as ``Decimal`` without trailing zeros."""
    whole = number.to_integral_value()
    return int(whole) if whole == number else EXACT.normalize(number)


def _json_number(number: Number | None) -> int | str | None:
    """A number for JSON: ``int`` where whole, else decimal text, since a JSON number would become a binary float."""
    return number if number is None or isinstance(number, int) else format(number, "f")


def _dollars(usd: Decimal, group: str = "") -> str:
    """Dollars as text: exact, and with cents also where there are none."""
    whole, _, fraction = f"{usd:{group}f}".partition(".")
    return f"{whole}.{fraction:0<2}"


@dataclass(frozen=True, order=True)
class Amount:
    """
    An exact sum of money, zero or more.

    :param credits: the sum in credits, the API's unit.
    """

    credits: Number

    def __post_init__(self) -> None:
        if isinstance(self.credits, bool) or not isinstance(self.credits, int | Decimal):
            raise AimlBillingThresholdError(
                f"An amount is an int or a Decimal of credits, not {type(self.credits).__name__}. {_THRESHOLD_FORMS}"
            )
        number = Decimal(self.credits)
        if not number.is_finite() or not 0 <= number <= MAX_CREDITS:
            raise AimlBillingThresholdError(
                f"An amount lies between 0 and {MAX_CREDITS:,} credits; this one does not. {_THRESHOLD_FORMS}"
            )
        try:
            object.__setattr__(self, "credits", _tidy(number))
        except Inexact:
            raise AimlBillingThresholdError(f"{self.credits} has too many digits. {_THRESHOLD_FORMS}") from None

    @classmethod
    def from_usd(cls, usd: Number) -> Amount:
        """Make an amount from US dollars.

        :param usd: the sum in USD, as ``int`` or ``Decimal``.
        """
        return cls(EXACT.multiply(Decimal(usd), CREDITS_PER_USD))

    @classmethod
    def parse(cls, value: object) -> Amount:
        """
        Read an amount that a person or a template wrote.

        :param value: an :class:`Amount`; whole credits as ``int``; ``Decimal`` credits; text such as ``"5000000"``,
            ``"5000000 credits"``, ``"2.50 USD"`` or ``"$2.50"``.
        :raises AimlBillingThresholdError: for everything else: booleans, NaN, infinities, negatives, a ``float`` that
            is no whole number of credits, empty text, another currency, a template that was not rendered.
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
        hint = ""
        if isinstance(value, str) and "{{" in value:
            hint = " This is a template that was not rendered: pass it straight to the operator's threshold."
        elif isinstance(value, str) and _NO_UNIT.fullmatch(value.strip()):
            hint = f" It has no unit. Did you mean '{value.strip()} USD'?"
        elif value is None or value == "None":
            hint = " The template or XCom that should give it gave nothing."
        raise AimlBillingThresholdError(f"{shown} is no amount of money.{hint} {_THRESHOLD_FORMS}")

    @property
    def usd(self) -> Decimal:
        """The sum in US dollars, exact."""
        usd = EXACT.normalize(EXACT.divide(Decimal(self.credits), CREDITS_PER_USD))
        return usd if usd != usd.to_integral_value() else usd.quantize(Decimal(1))  # 50, not 5E+1

    def __str__(self) -> str:
        return f"{self.credits:,} credits ({_dollars(self.usd, ',')} USD)"


@dataclass(frozen=True)
class Balance:
    """
    What the account holds now, under the API's own names in snake_case.

    v1 of the API gives all fields. v2 knows the balance alone; the rest is ``None``.

    :param balance: credits.
    :param low_balance: whether the balance is below ``low_balance_threshold``.
    :param low_balance_threshold: credits.
    :param last_updated: time of the request by the API's clock, ISO 8601. It does not say how old the figure is.
    :param auto_debit_status: whether the plan tops itself up, in the API's words.
    :param status: state of the plan, in the API's words.
    :param status_explanation: the same at more length.
    """

    balance: Number
    low_balance: bool | None = None
    low_balance_threshold: Number | None = None
    last_updated: str | None = None
    auto_debit_status: str | None = None
    status: str | None = None
    status_explanation: str | None = None

    @property
    def amount(self) -> Amount:
        """The balance as an :class:`Amount`."""
        return Amount(self.balance)

    @property
    def balance_usd(self) -> Decimal:
        """The balance in US dollars, exact."""
        return self.amount.usd

    def to_dict(self) -> dict[str, Any]:
        """
        Give a plain JSON dictionary, as XComs and events carry it.

        Credits are ``int`` (decimal text should the API ever give a part of a credit), ``balance_usd`` is decimal text.
        """
        return asdict(self) | {
            "balance": _json_number(self.balance),
            "balance_usd": _dollars(self.balance_usd),
            "low_balance_threshold": _json_number(self.low_balance_threshold),
        }

    @classmethod
    def from_dict(cls, data: object) -> Balance:
        """
        Read back what :meth:`to_dict` gave.

        :raises AimlBillingContractError: if it is anything else.
        """
        if not isinstance(data, Mapping):
            raise AimlBillingContractError(f"A balance is a dictionary, not {type(data).__name__}.")
        low = data.get("low_balance_threshold")
        if not (data.get("low_balance") is None or isinstance(data["low_balance"], bool)):
            raise AimlBillingContractError("The field low_balance of the balance is no boolean.")
        texts = {name: data.get(name) for name in _TEXTS}
        if wrong := [name for name, text in texts.items() if not (text is None or isinstance(text, str))]:
            raise AimlBillingContractError(f"The field {wrong[0]} of the balance is no text.")
        return cls(
            balance=_kept_credits(data, "balance"),
            low_balance=data.get("low_balance"),
            low_balance_threshold=None if low is None else _kept_credits(data, "low_balance_threshold"),
            **texts,
        )


def _kept_credits(data: Mapping[Any, Any], name: str) -> Number:
    kept = data.get(name)
    try:
        return Amount(Decimal(kept) if isinstance(kept, str) else kept).credits  # type: ignore[arg-type]
    except (AimlBillingThresholdError, InvalidOperation):
        raise AimlBillingContractError(f"The field {name} of the balance is no number of credits.") from None


@dataclass(frozen=True)
class Verdict:
    """
    What the rule said of one reading.

    :param clears: whether the gate opens.
    :param reason: why, in words for the person on call, with both units.
    :param threshold: what the balance had to reach; ``None`` where the API alone decided.
    :param balance: what the account held; ``None`` where the API only said that it is out of credits.
    """

    clears: bool
    reason: str
    threshold: Amount | None
    balance: Balance | None

    @property
    def shortfall(self) -> Amount | None:
        """Threshold minus balance where that is positive; ``None`` where nothing is short or a figure is unknown."""
        if self.threshold is None or self.balance is None or self.balance.amount >= self.threshold:
            return None
        return Amount(EXACT.subtract(Decimal(self.threshold.credits), Decimal(self.balance.balance)))

    def to_dict(self) -> dict[str, Any]:
        """Give a plain JSON dictionary: ``clears``, ``reason``, both sums in credits, and the whole balance."""
        return {
            "clears": self.clears,
            "reason": self.reason,
            "threshold_credits": _json_number(self.threshold.credits if self.threshold else None),
            "shortfall_credits": _json_number(self.shortfall.credits if self.shortfall else None),
            "balance": self.balance.to_dict() if self.balance else None,
        }


@dataclass(frozen=True)
class Gate:
    """
    The one rule. Sensor, operators and trigger all ask it, so they cannot disagree.

    :param threshold: what the account must hold; reaching it is enough. ``None`` leaves it to the account's own
        ``lowBalance``, which is set in the vendor's billing settings.
    """

    threshold: Amount | None = None

    @classmethod
    def for_threshold(cls, threshold: object, *, written: object, map_index: int | None) -> Gate:
        """
        Make the gate for a threshold as a task has it.

        :param threshold: as :meth:`Amount.parse` reads it, after templates were rendered.
        :param written: what the operator was made with: ``LEFT_OUT`` or ``None`` leave it to ``lowBalance``.
        :param map_index: of the task. A mapped one is made with what an XCom gave: there ``None`` was never written.
        :raises AimlBillingThresholdError: if the threshold is no sum of money, or a template or XCom gave nothing.
        """
        mapped = map_index is not None and map_index >= 0
        if threshold is None and (written is LEFT_OUT or (written is None and not mapped)):
            return cls()
        return cls(Amount.parse(threshold))

    def decide(self, reading: Balance | InsufficientBalanceError) -> Verdict:
        """
        Say whether a reading opens the gate.

        :param reading: the balance, or the API's refusal for want of credits, which counts as below any threshold.
        :raises AimlBillingThresholdError: if there is no threshold and the reading has no ``lowBalance`` (v2).
        """
        if isinstance(reading, InsufficientBalanceError):
            return Verdict(False, str(reading), self.threshold, None)
        if self.threshold is not None:
            threshold, clears, asked = self.threshold, reading.amount >= self.threshold, "threshold"
        elif reading.low_balance is None or reading.low_balance_threshold is None:
            raise AimlBillingThresholdError(
                "Without a threshold the account's own lowBalance decides, and api_version v2 does not report it. "
                f"Set threshold=…, or api_version to v1 in the connection. {_THRESHOLD_FORMS}"
            )
        else:
            threshold = Amount(reading.low_balance_threshold)
            # Both must agree: an answer that contradicts itself opens nothing.
            clears = not reading.low_balance and reading.amount >= threshold
            asked = "the account's own low-balance threshold"
        if clears:
            relation = "clears"
        elif reading.amount < threshold:
            relation = "is below"
        else:
            relation = "is called low by the API, against its own figures and"
        verdict = Verdict(clears, f"balance {reading.amount} {relation} {asked} {threshold}", threshold, reading)
        if verdict.shortfall:
            verdict = replace(verdict, reason=f"{verdict.reason}, missing {verdict.shortfall}")
        return verdict
