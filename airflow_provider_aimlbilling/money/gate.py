"""The one rule that decides whether a balance is enough, and the verdict that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingThresholdError,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import EXACT, Amount, in_both_units
from airflow_provider_aimlbilling.money.balance import Balance

_ONE_CENT = Amount.from_usd(Decimal("0.01"))


@dataclass(frozen=True)
class Verdict:
    """
    What the rule decided about one reading.

    :param clears: whether the gate opens.
    :param threshold: the amount that was required; ``None`` if the API's refusal decided.
    :param reading: the balance, or the API's refusal because the account is out of credits.
    :param note: what the threshold is, if that needs saying.
    :param of_account: whether the threshold is the account's own low-balance threshold.
    """

    clears: bool
    threshold: Amount | None
    reading: Balance | InsufficientBalanceError
    note: str = ""
    of_account: bool = False

    @property
    def balance(self) -> Balance | None:
        """What the account held; ``None`` if the API only said that it is out of credits."""
        return self.reading if isinstance(self.reading, Balance) else None

    @property
    def reason(self) -> str:
        """The reason in plain words, for the person on call: first what is missing, then all figures in USD."""
        balance = self.balance
        if balance is None or self.threshold is None:
            return str(self.reading).removesuffix(".")
        figures = [(balance.amount, f"balance {balance.amount.usd_text}")]
        if balance.key_limit and balance.funds < balance.amount:
            figures.append((balance.funds, f"the key may still spend {balance.funds.usd_text} ({balance.key_limit})"))
        if balance.budget:
            figures.append((balance.budget.left, str(balance.budget)))
        held = ", ".join(text for _, text in sorted(figures, key=lambda figure: figure[0]))
        needed = f"needs {self.threshold.usd_text}"
        if self.note:
            needed += f" ({self.note})"
        if self.shortfall:
            return f"{self.shortfall.usd_text} missing: {held}, {needed}"
        if self.clears or self.too_low == ("budget",):
            return f"{held}, {needed}"
        return f"{held}, {needed}, but the API reports it as low"

    def refusal(self, conn_id: str) -> str:
        """
        Return the message for a task that must not run: what is missing, and what to do about it.

        :param conn_id: id of the connection.
        """
        remedies = {"balance": "top up the account", "key_limit": "raise the key's limit"}
        remedy = " and ".join(remedies[name] for name in self.too_low if name in remedies)
        if "budget" in self.too_low:
            remedy = f"{remedy}{', and ' if remedy else ''}{self._budget_remedy()}"
        reason = self.reason
        return f"{reason[0].upper()}{reason[1:]}. To run this, {remedy} (connection {conn_id!r})."

    def _budget_remedy(self) -> str:
        use = self.balance.budget if self.balance else None
        if use is None or (self.needed and self.needed > use.budget.amount):
            return "raise the budget"  # that of the next period would not be enough either
        return f"raise the budget or wait for its next period, which begins at {use.until.isoformat(' ', 'minutes')}"

    @property
    def needed(self) -> Amount | None:
        """What the job needs; ``None`` if that is unknown: the account's own threshold is not about the job."""
        return None if self.of_account else self.threshold

    @property
    def available(self) -> Amount | None:
        """What could be spent; ``None`` if that is unknown."""
        return self.balance.available if self.balance else None

    @property
    def too_low(self) -> tuple[str, ...]:
        """What was too low, of ``balance``, ``key_limit`` and ``budget``; empty if the gate opens."""
        balance, threshold = self.balance, self.threshold
        if self.clears or balance is None or threshold is None:
            return () if self.clears else ("balance",)
        names = []
        if balance.amount < threshold or (self.of_account and balance.low_balance):
            names.append("balance")
        if balance.key_limit and balance.key_limit.remaining < threshold:
            names.append("key_limit")
        if balance.budget and not balance.budget.covers(self.needed):
            names.append("budget")
        return tuple(names)

    @property
    def short_of(self) -> str | None:
        """
        What was too low: ``balance``, ``key_limit``, ``both`` (of these two) or ``budget``; ``None`` if the gate opens.

        If the budget is not the only one, they are joined: ``balance and budget``.
        """
        return "both" if self.too_low == ("balance", "key_limit") else " and ".join(self.too_low) or None

    @property
    def shortfall(self) -> Amount | None:
        """The amount that is missing to reach the threshold; ``None`` if none is missing or a figure is unknown."""
        if self.threshold is None or self.balance is None:
            return None
        held = self.balance.funds if self.needed is None else self.balance.available
        if held >= self.threshold:
            return None
        return Amount(EXACT.subtract(Decimal(self.threshold.credits), Decimal(held.credits)))

    def to_dict(self) -> dict[str, Any]:
        """
        Return a plain JSON dictionary: ``clears``, ``reason``, the amounts in credits and in USD (decimal text), what
        was too low, and the whole balance.
        """
        return {
            "clears": self.clears,
            "reason": self.reason,
            **in_both_units("threshold", self.threshold),
            **in_both_units("available", self.available),
            **in_both_units("shortfall", self.shortfall),
            "short_of": self.short_of,
            "balance": self.balance.to_dict() if self.balance else None,
        }


@dataclass(frozen=True)
class Gate:
    """
    The rule that sensor, operators, guard and trigger all use, so that they cannot disagree.

    :param threshold: what must be available; reaching it is enough. ``None`` leaves the decision to the account's own
        ``lowBalance``, whose threshold is set in the vendor's billing settings; a budget must then have something left.
    :param note: what the threshold is, if that needs saying.
    """

    threshold: Amount | None = None
    note: str = ""

    @property
    def warning(self) -> str:
        """A warning about a threshold that is most likely a mistake; empty if there is none."""
        if self.threshold is None or self.threshold >= _ONE_CENT:
            return ""
        return (
            f"The threshold {self.threshold} is below one cent. A bare number means credits; for dollars write '3 USD'."
        )

    @classmethod
    def for_threshold(cls, threshold: object, *, optional: bool) -> Gate:
        """
        Create the gate for the threshold of a running task. A fraction of a credit is rounded up to the next credit.

        :param threshold: as :meth:`Amount.parse` reads it, after templates were rendered.
        :param optional: whether ``None`` leaves the decision to ``lowBalance``. It does if the DAG's author passed
            ``None``, or nothing. It does not if a template or an XCom was empty.
        :raises AimlBillingThresholdError: if the threshold is not an amount, or a template or XCom was empty.
        """
        if threshold is None and optional:
            return cls()
        return cls(Amount.parse(threshold).rounded_up())

    def decide(self, reading: Balance | InsufficientBalanceError) -> Verdict:
        """
        Decide whether a reading opens the gate.

        :param reading: the balance, or the API's refusal because the account is out of credits. A refusal counts as
            below any threshold.
        :raises AimlBillingThresholdError: if there is no threshold, and the API version reports no ``lowBalance`` (v2).
        :raises AimlBillingContractError: if there is no threshold, and an answer of v1 has no ``lowBalance``.
        """
        if isinstance(reading, InsufficientBalanceError):
            return Verdict(False, self.threshold, reading, self.note)
        if self.threshold is not None:
            return Verdict(reading.available >= self.threshold, self.threshold, reading, self.note)
        if reading.low_balance is None or reading.low_balance_threshold is None:
            if reading.is_v1:
                raise AimlBillingContractError(
                    "The API's answer has no usable lowBalance and lowBalanceThreshold, which decide if no threshold "
                    "is set. If this persists, set threshold='2.50 USD' or the like."
                )
            raise AimlBillingThresholdError(
                "Without a threshold the account's own lowBalance decides, and api_version v2 does not report it. "
                "Set threshold='2.50 USD' or the like, or set api_version to v1 in the connection."
            )
        low_mark = Amount(reading.low_balance_threshold)
        # Both must agree: a response that contradicts itself must not open the gate.
        clears = not reading.low_balance and reading.funds >= low_mark
        if reading.budget and not reading.budget.covers(None):
            clears = False
        return Verdict(clears, low_mark, reading, "the account's own low-balance threshold", of_account=True)
