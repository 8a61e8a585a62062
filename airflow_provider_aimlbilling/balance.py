"""
Money, balances, and the one rule that says whether a balance is enough. Pure: no Airflow, no network, no clock.

Amounts are exact (``int`` or ``Decimal``, never binary ``float``) and always know both units:
2,000,000 credits are 1 USD, as the vendor's pricing documentation states.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cached_property
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
_SEPARATED = re.compile(r"\d[,_' ]\d", re.ASCII)

Number = int | Decimal

_TEXTS = ("last_updated", "auto_debit_status", "status", "status_explanation")


def _tidy(number: Decimal) -> Number:
    """Whole numbers as ``int``, which JSON carries as such; all others as ``Decimal`` without trailing zeros."""
    whole = number.to_integral_value()
    return int(whole) if whole == number else EXACT.normalize(number)


def json_number(number: Number | None) -> int | str | None:
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
        elif isinstance(value, float) and 0 < value < MAX_CREDITS:
            hint = f" Credits are whole, and dollars are text. Did you mean '{value} USD'?"
        elif isinstance(value, str) and _SEPARATED.search(value):
            hint = " Write it without separators."
        elif isinstance(value, Mapping):
            hint = " It is a whole result. EstimateCostOperator's own output is a sum, and so are parts of a balance."
        elif value is None or value == "None":
            hint = " The template or XCom that should give it gave nothing."
        raise AimlBillingThresholdError(f"{shown} is no amount of money.{hint} {_THRESHOLD_FORMS}")

    @property
    def usd(self) -> Decimal:
        """The sum in US dollars, exact."""
        usd = EXACT.normalize(EXACT.divide(Decimal(self.credits), CREDITS_PER_USD))
        return usd if usd != usd.to_integral_value() else usd.quantize(Decimal(1))  # 50, not 5E+1

    @property
    def text(self) -> str:
        """The sum as text that :meth:`parse` reads as the same sum, parts of a credit included."""
        return f"{Decimal(self.credits):f} credits"

    def __str__(self) -> str:
        return f"{self.credits:,} credits ({_dollars(self.usd, ',')} USD)"


@dataclass(frozen=True)
class KeyLimit:
    """
    What the API key in hand may spend in a period, which may be less than the account holds.

    :param period: ``day``, ``week`` or ``month`` (beginning at 00:00 UTC), or ``no_reset``.
    :param limit: credits that it may spend in a period.
    :param spent: credits that it has spent in this one. Charges land late, so it may be more.
    """

    period: str
    limit: Number
    spent: Number

    @property
    def remaining(self) -> Amount:
        """What the key may still spend."""
        left = EXACT.subtract(Decimal(self.limit), Decimal(self.spent))
        return Amount(max(left, Decimal(0)))

    def __str__(self) -> str:
        of_period = "in all" if self.period == "no_reset" else f"this {self.period}"
        return f"limit {Amount(self.limit)} {of_period}, spent {Amount(self.spent)}"


@dataclass(frozen=True)
class TopUp:
    """
    The account's auto top-up.

    :param is_enabled: whether it is on.
    :param threshold: credits below which the account is topped up; ``None`` where it is off.
    :param amount: credits that are bought then; ``None`` where it is off.
    :param stuck_for: seconds for which it should have paid, and did not; ``None`` where that is not so.
    """

    is_enabled: bool
    threshold: Number | None = None
    amount: Number | None = None
    stuck_for: float | None = None

    def __str__(self) -> str:
        if self.threshold is None or self.amount is None:
            return "auto top-up is off"
        return f"auto top-up is on, and buys {Amount(self.amount)} below {Amount(self.threshold)}"


@dataclass(frozen=True)
class Balance:
    """
    What the account holds now, under the API's own names in snake_case.

    v1 of the API gives all fields. v2 knows the balance and, where it is asked, the auto top-up; the rest is ``None``.

    :param balance: credits.
    :param low_balance: whether the balance is below ``low_balance_threshold``.
    :param low_balance_threshold: credits.
    :param last_updated: time of the request by the API's clock, ISO 8601. It does not say how old the figure is.
    :param auto_debit_status: whether the plan tops itself up, in the API's words; of v2 ``enabled`` or ``disabled``.
    :param status: state of the plan, in the API's words.
    :param status_explanation: the same at more length.
    :param key_limit: what the key may spend; ``None`` where it has no limit, or nobody asked.
    :param top_up: the auto top-up; ``None`` where nobody asked.
    """

    balance: Number
    low_balance: bool | None = None
    low_balance_threshold: Number | None = None
    last_updated: str | None = None
    auto_debit_status: str | None = None
    status: str | None = None
    status_explanation: str | None = None
    key_limit: KeyLimit | None = None
    top_up: TopUp | None = None

    @cached_property  # one reading is shown to thousands of waiting gates
    def available(self) -> Amount:
        """What can be spent: the balance, or what the key may still spend where that is less."""
        return min(self.amount, self.key_limit.remaining) if self.key_limit else self.amount

    @cached_property
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
        data = asdict(self) | {
            "balance": json_number(self.balance),
            "balance_usd": _dollars(self.balance_usd),
            "low_balance_threshold": json_number(self.low_balance_threshold),
        }
        # Only where they were asked for.
        for name, numbers in (("key_limit", ("limit", "spent")), ("top_up", ("threshold", "amount"))):
            if data[name] is None:
                del data[name]
            else:
                data[name] |= {number: json_number(data[name][number]) for number in numbers}
        return data

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
            key_limit=_kept_key_limit(data.get("key_limit")),
            top_up=_kept_top_up(data.get("top_up")),
            **texts,
        )


def _kept_key_limit(kept: object) -> KeyLimit | None:
    if kept is None:
        return None
    if not isinstance(kept, Mapping) or not isinstance(kept.get("period"), str):
        raise AimlBillingContractError("The field key_limit of the balance is not what this version wrote.")
    return KeyLimit(kept["period"], _kept_credits(kept, "limit"), _kept_credits(kept, "spent"))


def _kept_top_up(kept: object) -> TopUp | None:
    if kept is None:
        return None
    if not isinstance(kept, Mapping) or not isinstance(kept.get("is_enabled"), bool):
        raise AimlBillingContractError("The field top_up of the balance is not what this version wrote.")
    if not kept["is_enabled"]:
        return TopUp(is_enabled=False)
    stuck = kept.get("stuck_for")
    if isinstance(stuck, bool) or not isinstance(stuck, int | float | None):
        raise AimlBillingContractError("The field stuck_for of the balance is no number of seconds.")
    return TopUp(True, _kept_credits(kept, "threshold"), _kept_credits(kept, "amount"), stuck)


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
    :param threshold: what had to be there; ``None`` where the API alone decided.
    :param reading: what was seen: the balance, or the API's refusal for want of credits.
    :param of_account: whether the threshold is the account's own ``lowBalance`` mark.
    """

    clears: bool
    threshold: Amount | None
    reading: Balance | InsufficientBalanceError
    of_account: bool = False

    @property
    def balance(self) -> Balance | None:
        """What the account held; ``None`` where the API only said that it is out of credits."""
        return self.reading if isinstance(self.reading, Balance) else None

    @property
    def reason(self) -> str:
        """Why, in words for the person on call, with both units."""
        seen = self.balance
        if seen is None or self.threshold is None:
            return str(self.reading)
        what = f"balance {seen.amount}"
        if seen.key_limit and seen.available < seen.amount:
            what = f"what the key may still spend, {seen.available} ({seen.key_limit}; {what})"
        if self.clears:
            relation = "clears"
        elif seen.available < self.threshold:
            relation = "is below"
        else:
            relation = "is called low by the API, against its own figures and"
        asked = "the account's own low-balance threshold" if self.of_account else "threshold"
        missing = f", missing {self.shortfall}" if self.shortfall else ""
        return f"{what} {relation} {asked} {self.threshold}{missing}"

    @property
    def available(self) -> Amount | None:
        """What could be spent; ``None`` where that is unknown."""
        return self.balance.available if self.balance else None

    @property
    def short_of(self) -> str | None:
        """What was short: the ``balance``, the ``key_limit``, or ``both``."""
        seen = self.balance
        if self.clears or seen is None or self.threshold is None or seen.key_limit is None:
            return None if self.clears else "balance"
        if seen.key_limit.remaining >= self.threshold:
            return "balance"
        return "both" if seen.amount < self.threshold else "key_limit"

    @property
    def shortfall(self) -> Amount | None:
        """Threshold minus available, where that is positive; ``None`` where nothing is short or a figure is unknown."""
        if self.threshold is None or self.available is None or self.available >= self.threshold:
            return None
        return Amount(EXACT.subtract(Decimal(self.threshold.credits), Decimal(self.available.credits)))

    def to_dict(self) -> dict[str, Any]:
        """Give a plain JSON dictionary: ``clears``, ``reason``, the sums in credits, and the whole balance."""
        return {
            "clears": self.clears,
            "reason": self.reason,
            "threshold_credits": json_number(self.threshold.credits if self.threshold else None),
            "available_credits": json_number(self.available.credits if self.available else None),
            "shortfall_credits": json_number(self.shortfall.credits if self.shortfall else None),
            "short_of": self.short_of,
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
            return Verdict(False, self.threshold, reading)
        if self.threshold is not None:
            return Verdict(reading.available >= self.threshold, self.threshold, reading)
        if reading.low_balance is None or reading.low_balance_threshold is None:
            raise AimlBillingThresholdError(
                "Without a threshold the account's own lowBalance decides, and api_version v2 does not report it. "
                f"Set threshold=…, or api_version to v1 in the connection. {_THRESHOLD_FORMS}"
            )
        mark = Amount(reading.low_balance_threshold)
        # Both must agree: an answer that contradicts itself opens nothing.
        clears = not reading.low_balance and reading.available >= mark
        return Verdict(clears, mark, reading, of_account=True)
