"""Detects when a balance crosses a threshold: once for each fall or recovery, with hysteresis."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingError,
    AimlBillingThresholdError,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import EXACT, Amount, json_number
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.gate import Gate


@dataclass(frozen=True)
class Crossing:
    """
    The rule for one crossing. The caller keeps its only state: whether the rule is armed.

    :param direction: ``"below"``: the balance falls below the threshold; ``"above"``: it recovers to the threshold or
        above.
    :param threshold: what is crossed; reaching it counts as above, as for gates.
    :param hysteresis: distance from the threshold that the balance must reach on the other side before the next
        crossing counts. Because of it, a balance hovering around the threshold fires only once.
    :raises ValueError: if the direction is unknown.
    :raises AimlBillingThresholdError: if such a crossing could never happen, or only once.
    """

    direction: str
    threshold: Amount
    hysteresis: Amount
    arms_at: Amount = field(init=False)

    def __post_init__(self) -> None:
        if self.direction not in ("below", "above"):
            raise ValueError(f"crossing is 'below' or 'above', not {self.direction!r}.")
        threshold, hysteresis = Decimal(self.threshold.credits), Decimal(self.hysteresis.credits)
        if not threshold:
            raise AimlBillingThresholdError("A balance never crosses a threshold of 0. Use one above 0.")
        if self.direction == "below":
            arms_at = EXACT.add(threshold, hysteresis)
        elif hysteresis < threshold:
            arms_at = EXACT.subtract(threshold, hysteresis)
        else:
            raise AimlBillingThresholdError(
                f"A balance can never be below the threshold {self.threshold} by more than the hysteresis "
                f"{self.hysteresis}, so only the first recovery would fire. Use a hysteresis below the threshold."
            )
        object.__setattr__(self, "arms_at", Amount(arms_at))

    @classmethod
    def parse(cls, direction: str, threshold: object, hysteresis: object) -> Crossing:
        """
        Create the rule from the arguments in a DAG file.

        :param direction: ``"below"`` or ``"above"``.
        :param threshold: as :meth:`Amount.parse` reads it, above 0.
        :param hysteresis: as :meth:`Amount.parse` reads it.
        :raises AimlBillingThresholdError: if one of them is not an amount, or the two do not fit together.
        :raises ValueError: if the direction is unknown.
        """
        return cls(direction, _parse_amount("threshold", threshold), _parse_amount("hysteresis", hysteresis))

    def evaluate(self, armed: bool | None, reading: Balance | AimlBillingError | None) -> tuple[bool | None, bool]:
        """
        Take one reading. Return whether the rule is armed from now on, and whether this reading is the crossing.

        A reading that says nothing about the balance changes nothing. The API's refusal because the account is out of
        credits is below any threshold.

        :param armed: what the last call returned; ``None`` at the first call, which never fires and only finds out on
            which side of the threshold the balance is.
        :param reading: what a poll returned.
        """
        if not isinstance(reading, Balance | InsufficientBalanceError):
            return armed, False
        falling = self.direction == "below"
        low = not Gate(self.threshold).decide(reading).clears
        if low is falling:  # the balance is on the side where the rule fires
            return False, armed is True
        far_enough = Gate(self.arms_at).decide(reading).clears is falling
        return armed is not False or far_enough, False

    def event(self, reading: Balance | InsufficientBalanceError) -> dict[str, Any]:
        """Return the event of a crossing as a plain JSON dictionary."""
        balance = reading if isinstance(reading, Balance) else None
        return {
            "crossing": self.direction,
            "threshold_credits": json_number(self.threshold.credits),
            "hysteresis_credits": json_number(self.hysteresis.credits),
            "balance": balance.to_dict() if balance else None,
            "reason": self._reason(reading),
        }

    def _reason(self, reading: Balance | InsufficientBalanceError) -> str:
        verdict = Gate(self.threshold).decide(reading)
        crossed = "fell below" if self.direction == "below" else "recovered to"
        if verdict.balance is None:
            return f"The balance {crossed} {self.threshold}: {verdict.reason}"
        short = f", short by {verdict.shortfall}" if verdict.shortfall else ""
        return f"The balance {crossed} {self.threshold}: the account holds {verdict.balance.amount}{short}."

    def __str__(self) -> str:
        return f"{self.direction} {self.threshold}"


def _parse_amount(name: str, value: object) -> Amount:
    if value is None:
        raise AimlBillingThresholdError(f"{name} is required: a watcher does not use the account's own lowBalance.")
    if isinstance(value, str) and "{" in value:
        raise AimlBillingThresholdError(
            f"{name} is a template, but watchers do not render any. Write the amount itself."
        )
    try:
        amount = Amount.parse(value)
        return Amount.parse(amount.text)  # the trigger stores this text, so it must be valid too
    except AimlBillingThresholdError as error:
        raise AimlBillingThresholdError(f"{name}: {error}") from None
