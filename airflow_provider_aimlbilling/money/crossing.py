"""Detects when a balance crosses a threshold: once for each fall or recovery, with hysteresis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingError,
    AimlBillingThresholdError,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import EXACT, Amount, in_both_units
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.gate import Gate

CROSSINGS = ("below", "above", "both")


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

    def __str__(self) -> str:
        return f"{self.direction} {self.threshold.usd_text}"


def parse_crossings(direction: str, thresholds: object, hysteresis: object) -> tuple[Crossing, ...]:
    """
    Create the rules from the arguments in a DAG file, the one that is crossed last first.

    :param direction: ``"below"``, ``"above"`` or ``"both"``, which makes rules for the falls: a recovery is what arms
        one of these again.
    :param thresholds: as :meth:`Crossing.parse` reads it, or a list of several.
    :param hysteresis: as :meth:`Crossing.parse` reads it; the same for all.
    :raises AimlBillingThresholdError: as in :meth:`Crossing.parse`; the list is empty, or has an amount twice.
    :raises ValueError: the direction is unknown.
    """
    if direction not in CROSSINGS:
        raise ValueError(f"crossing is 'below', 'above' or 'both', not {direction!r}.")
    levels = thresholds if isinstance(thresholds, list | tuple) else [thresholds]
    rules = [Crossing.parse("above" if direction == "above" else "below", level, hysteresis) for level in levels]
    if not rules or len({rule.threshold for rule in rules}) < len(rules):
        raise AimlBillingThresholdError("The list of thresholds is empty, or has the same amount twice.")
    return tuple(sorted(rules, key=lambda rule: rule.threshold, reverse=direction == "above"))


def crossing_event(
    crossed: Sequence[Crossing], reading: Balance | InsufficientBalanceError, direction: str
) -> dict[str, Any]:
    """
    Return the event for one reading as a plain JSON dictionary.

    :param crossed: the rules that the reading crosses, in the order of :func:`parse_crossings`.
    :param reading: what a poll returned.
    :param direction: in which direction: ``"below"``, or ``"above"`` for a recovery.
    """
    if direction != crossed[0].direction:  # a recovery passes the levels in the other order
        crossed = crossed[::-1]
    last = crossed[0]
    verb = "fell below" if direction == "below" else "recovered to"
    others = f" (and {', '.join(rule.threshold.usd_text for rule in crossed[1:])})" if crossed[1:] else ""
    now = f"{reading.amount.usd_text} left" if isinstance(reading, Balance) else str(reading).removesuffix(".")
    return {
        "crossing": direction,
        **in_both_units("threshold", last.threshold),
        **in_both_units("hysteresis", last.hysteresis),
        "passed": [in_both_units("threshold", rule.threshold) for rule in crossed],
        "balance": reading.to_dict() if isinstance(reading, Balance) else None,
        "reason": f"Balance {verb} {last.threshold.usd_text}{others}: {now}.",
    }


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
