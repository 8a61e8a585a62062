"""When a balance has crossed a threshold: once for each fall or recovery, with hysteresis. No Airflow, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.balance import EXACT, Amount, Balance, Gate, json_number
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingError,
    AimlBillingThresholdError,
    InsufficientBalanceError,
)


@dataclass(frozen=True)
class Crossing:
    """
    The rule of one crossing. What it has to remember of the past is whether it is armed, and the caller keeps that.

    :param direction: ``"below"``: the balance falls below the threshold; ``"above"``: it recovers to it or beyond.
    :param threshold: what is crossed; reaching it is enough to be above, as for gates.
    :param hysteresis: how far beyond the threshold the balance must have been on the other side before the next
        crossing counts, so that a balance that plays about the threshold is told once.
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
            raise AimlBillingThresholdError("A balance never crosses a threshold of 0. Set one above 0.")
        if self.direction == "below":
            arms_at = EXACT.add(threshold, hysteresis)
        elif hysteresis < threshold:
            arms_at = EXACT.subtract(threshold, hysteresis)
        else:
            raise AimlBillingThresholdError(
                f"A balance can never be below the threshold {self.threshold} by more than the hysteresis "
                f"{self.hysteresis}, so only one recovery would ever be told. Set a hysteresis below the threshold."
            )
        object.__setattr__(self, "arms_at", Amount(arms_at))

    @classmethod
    def read(cls, direction: str, threshold: object, hysteresis: object) -> Crossing:
        """
        Make the rule from what a DAG's author wrote.

        :raises AimlBillingThresholdError: if one of the sums is none, or the two do not go together.
        :raises ValueError: if the direction is unknown.
        """
        return cls(direction, _amount("threshold", threshold), _amount("hysteresis", hysteresis))

    def look(self, armed: bool | None, reading: Balance | AimlBillingError | None) -> tuple[bool | None, bool]:
        """
        Take one reading. Gives whether the rule is armed from now on, and whether this reading is the crossing.

        What says nothing of the balance changes nothing. The API's refusal for want of credits is below any threshold.

        :param armed: what the last call gave; ``None`` at first: then the reading only sets where the balance stands.
        :param reading: as a poll gives it.
        """
        if not isinstance(reading, Balance | InsufficientBalanceError):
            return armed, False
        falling = self.direction == "below"
        low = not Gate(self.threshold).decide(reading).clears
        if low is falling:  # on the side that is told
            return False, armed is True
        far_enough = Gate(self.arms_at).decide(reading).clears is falling
        return armed is not False or far_enough, False

    def event(self, reading: Balance | InsufficientBalanceError) -> dict[str, Any]:
        """Give the plain JSON dictionary that a crossing is told with."""
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
        missing = f", {verdict.shortfall} short" if verdict.shortfall else ""
        return f"The balance {crossed} {self.threshold}: the account holds {verdict.balance.amount}{missing}."

    def __str__(self) -> str:
        return f"{self.direction} {self.threshold}"


def _amount(name: str, written: object) -> Amount:
    if written is None:
        raise AimlBillingThresholdError(f"{name} must be set: a watcher knows no lowBalance of the account.")
    if isinstance(written, str) and "{" in written:
        raise AimlBillingThresholdError(f"{name} is a template, and a watcher renders none. Write the sum itself.")
    try:
        amount = Amount.parse(written)
        return Amount.parse(amount.text)  # which is how it is kept
    except AimlBillingThresholdError as error:
        raise AimlBillingThresholdError(f"{name}: {error}") from None
