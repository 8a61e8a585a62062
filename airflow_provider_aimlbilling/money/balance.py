"""What the account holds, the key's own spending limit, what is left of a budget, and the auto top-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingThresholdError
from airflow_provider_aimlbilling.money.amount import EXACT, Amount, Number, format_usd, json_number
from airflow_provider_aimlbilling.money.budget import BudgetUse

_TEXT_FIELDS = ("last_updated", "auto_debit_status", "status", "status_explanation")


@dataclass(frozen=True)
class KeyLimit:
    """
    What the API key may spend in a period, which may be less than the account holds.

    :param period: ``day``, ``week`` or ``month`` (each starts at 00:00 UTC), or ``no_reset``; empty if the API reported
        none that is known.
    :param limit: credits that the key may spend per period.
    :param spent: credits that it has spent in the current period; ``None`` if the period is unknown. Charges are
        recorded late, so the actual amount may be higher.
    """

    period: str
    limit: Number
    spent: Number | None

    @property
    def remaining(self) -> Amount:
        """What the key may still spend, at most."""
        if self.spent is None:
            return Amount(self.limit)
        left = EXACT.subtract(Decimal(self.limit), Decimal(self.spent))
        return Amount(max(left, Decimal(0)))

    def __str__(self) -> str:
        if self.spent is None:
            return f"limit {Amount(self.limit).usd_text} in an unknown period, of which an unknown amount is spent"
        period = "in total" if self.period == "no_reset" else f"this {self.period}"
        return f"limit {Amount(self.limit).usd_text} {period}, spent {Amount(self.spent).usd_text}"


@dataclass(frozen=True)
class TopUp:
    """
    The account's auto top-up.

    :param is_enabled: whether it is on.
    :param threshold: balance in credits below which it buys more; ``None`` if it is off or unknown.
    :param amount: credits that it buys; ``None`` if it is off or unknown.
    :param stuck_for: how many seconds a payment has been overdue, at least; ``None`` if it is not stuck.
    """

    is_enabled: bool
    threshold: Number | None = None
    amount: Number | None = None
    stuck_for: float | None = None

    def __str__(self) -> str:
        if not self.is_enabled:
            return "auto top-up is off"
        buys = "" if self.amount is None else f" buys {Amount(self.amount).usd_text}"
        when = "" if self.threshold is None else f" when the balance is below {Amount(self.threshold).usd_text}"
        return f"auto top-up is on{':' if buys else ''}{buys}{when}"


@dataclass(frozen=True)
class Balance:
    """
    The balance of the account, with the API's own field names in snake_case.

    v1 of the API reports all fields. v2 reports the balance and, on request, the auto top-up; the rest is ``None``.

    :param balance: credits.
    :param low_balance: whether the balance is below ``low_balance_threshold``.
    :param low_balance_threshold: credits.
    :param last_updated: time of the request by the API's clock, ISO 8601. It does not say how old the figure is.
    :param auto_debit_status: whether the plan tops itself up, in the API's words; for v2 ``enabled`` or ``disabled``.
    :param status: state of the plan, in the API's words.
    :param status_explanation: the same in more detail.
    :param key_limit: the key's own spending limit; ``None`` if it has none or it was not requested.
    :param top_up: the auto top-up; ``None`` if it was not requested or could not be read.
    :param budget: what was spent of a budget; ``None`` if it was not requested.
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
    budget: BudgetUse | None = None

    @cached_property  # thousands of waiting gates may read the same balance
    def available(self) -> Amount:
        """What can be spent: the least of the balance, what the key may still spend, and what is left of the budget."""
        return min(self.funds, self.budget.left) if self.budget else self.funds

    @property
    def funds(self) -> Amount:
        """What could be spent without a budget: the balance, or what the key may still spend if that is less."""
        return min(self.amount, self.key_limit.remaining) if self.key_limit else self.amount

    @cached_property
    def amount(self) -> Amount:
        """The balance as an :class:`Amount`."""
        return Amount(self.balance)

    @property
    def is_v1(self) -> bool:
        """Whether v1 of the API reported it: v2 reports none of these fields."""
        fields = (self.low_balance, self.low_balance_threshold, self.last_updated, self.status, self.status_explanation)
        return any(value is not None for value in fields)

    @property
    def balance_usd(self) -> Decimal:
        """The balance in US dollars, exact."""
        return self.amount.usd

    def to_dict(self) -> dict[str, Any]:
        """
        Return a plain JSON dictionary, as stored in XComs and events.

        Credits are ``int`` (decimal text if the API ever reports a fraction of a credit); ``balance_usd`` is decimal
        text. ``key_limit``, ``top_up`` and ``budget`` are present only if they were requested.
        """
        data = asdict(self) | {
            "balance": json_number(self.balance),
            "balance_usd": format_usd(self.balance_usd),
            "low_balance_threshold": json_number(self.low_balance_threshold),
        }
        for name, numbers in (("key_limit", ("limit", "spent")), ("top_up", ("threshold", "amount"))):
            if data[name] is None:
                del data[name]
            else:
                data[name] |= {number: json_number(data[name][number]) for number in numbers}
        del data["budget"]
        return data | ({"budget": self.budget.to_dict()} if self.budget else {})

    @classmethod
    def from_dict(cls, data: object) -> Balance:
        """
        Read back what :meth:`to_dict` returned.

        :param data: the dictionary, from an XCom or an event.
        :raises AimlBillingContractError: if it is anything else.
        """
        if not isinstance(data, Mapping):
            raise AimlBillingContractError(f"A balance is a dictionary, not {type(data).__name__}.")
        low = data.get("low_balance_threshold")
        if not (data.get("low_balance") is None or isinstance(data["low_balance"], bool)):
            raise AimlBillingContractError("The field low_balance of the balance is not a boolean.")
        texts = {name: data.get(name) for name in _TEXT_FIELDS}
        if wrong := [name for name, text in texts.items() if not (text is None or isinstance(text, str))]:
            raise AimlBillingContractError(f"The field {wrong[0]} of the balance is not text.")
        return cls(
            balance=_stored_credits(data, "balance"),
            low_balance=data.get("low_balance"),
            low_balance_threshold=None if low is None else _stored_credits(data, "low_balance_threshold"),
            key_limit=_stored_key_limit(data.get("key_limit")),
            top_up=_stored_top_up(data.get("top_up")),
            budget=None if data.get("budget") is None else BudgetUse.from_dict(data["budget"]),
            **texts,
        )


def _stored_key_limit(stored: object) -> KeyLimit | None:
    if stored is None:
        return None
    if not isinstance(stored, Mapping) or not isinstance(stored.get("period"), str):
        raise AimlBillingContractError("The field key_limit of the balance was not written by this version.")
    spent = None if stored.get("spent") is None else _stored_credits(stored, "spent")
    return KeyLimit(stored["period"], _stored_credits(stored, "limit"), spent)


def _stored_top_up(stored: object) -> TopUp | None:
    if stored is None:
        return None
    if not isinstance(stored, Mapping) or not isinstance(stored.get("is_enabled"), bool):
        raise AimlBillingContractError("The field top_up of the balance was not written by this version.")
    if not stored["is_enabled"]:
        return TopUp(is_enabled=False)
    stuck = stored.get("stuck_for")
    if isinstance(stuck, bool) or not isinstance(stuck, int | float | None):
        raise AimlBillingContractError("The field stuck_for of the balance is not a number of seconds.")
    known = {name: _stored_credits(stored, name) for name in ("threshold", "amount") if stored.get(name) is not None}
    return TopUp(True, **known, stuck_for=stuck)


def _stored_credits(data: Mapping[Any, Any], name: str) -> Number:
    stored = data.get(name)
    try:
        return Amount(Decimal(stored) if isinstance(stored, str) else stored).credits  # type: ignore[arg-type]
    except (AimlBillingThresholdError, InvalidOperation):
        raise AimlBillingContractError(f"The field {name} of the balance is not a number of credits.") from None
