"""Which top-up releases the gates that wait for one account."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingThresholdError
from airflow_provider_aimlbilling.money.amount import EXACT, MAX_CREDITS, Amount, Number
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.budget import BudgetUse
from airflow_provider_aimlbilling.money.gate import Gate, Verdict


@dataclass(frozen=True)
class KnownBalance:
    """
    The last balance that was read of an account.

    :param balance: the balance, with the key's limit if it has one.
    :param key_limit_known: whether the key's limit could be read. If it could, and there is none, the key has none.
    :param overdrawn: credits by which the account is overdrawn; the balance is 0 then. A top-up pays for them first.
    """

    balance: Balance
    key_limit_known: bool = True
    overdrawn: Number = 0

    def missing(self, verdict: Verdict) -> Amount | None:
        """
        Return what is missing; ``None`` if nothing is, or that is not known.

        :param verdict: a verdict about this balance.
        """
        shortfall = verdict.shortfall
        if shortfall is None or not self.overdrawn:
            return shortfall
        return self.with_debt(Decimal(shortfall.credits))

    def with_debt(self, credits: Decimal) -> Amount | None:
        """
        Return an amount and the debt together; ``None`` if that is more than an amount can be.

        :param credits: the amount.
        """
        total = EXACT.add(credits, Decimal(self.overdrawn))
        return Amount(total) if total <= MAX_CREDITS else None

    def reason(self, verdict: Verdict) -> str:
        """
        Return the reason of a verdict in plain words.

        :param verdict: a verdict about this balance.
        """
        missing = self.missing(verdict)
        if missing is None or verdict.threshold is None or not self.overdrawn:
            return verdict.reason
        overdrawn = Amount(self.overdrawn).usd_text
        return f"{missing.usd_text} missing: overdrawn by {overdrawn}, needs {verdict.threshold.usd_text}"


@dataclass(frozen=True)
class WaitingFor:
    """
    What one gate waits for, as far as it is known.

    :param gate: its rule; ``None`` if its threshold is not known.
    :param respects_key_limit: whether the key's limit counts; ``None`` if that is not known.
    :param has_budget: whether a budget counts.
    :param budget: what was spent of that budget; ``None`` if there is none, or if that is not known.
    """

    gate: Gate | None
    respects_key_limit: bool | None = False
    has_budget: bool = False
    budget: BudgetUse | None = None

    def verdict(self, known: KnownBalance | None) -> Verdict | None:
        """
        Decide as the gate itself does; ``None`` if something that it depends on is not known.

        :param known: the account's balance; ``None`` if it is not known.
        """
        if self.gate is None or known is None or (self.has_budget and self.budget is None):
            return None
        without_limit = self._decide(replace(known.balance, key_limit=None, budget=self.budget))
        if self.respects_key_limit is False or without_limit is None:
            return without_limit
        with_limit = self._decide(replace(known.balance, budget=self.budget))
        if self.respects_key_limit and known.key_limit_known:
            return with_limit
        # It is not known whether the limit counts, or what is left of it.
        certain = known.key_limit_known and with_limit and with_limit.too_low == without_limit.too_low
        return without_limit if certain else None

    def _decide(self, balance: Balance) -> Verdict | None:
        try:
            return self.gate.decide(balance) if self.gate else None
        except (AimlBillingContractError, AimlBillingThresholdError):  # no low mark to compare with
            return None


@dataclass(frozen=True)
class TopUpNeeded:
    """
    The top-up that releases all gates which wait for the balance and for nothing else.

    :param waiting: how many gates wait.
    :param amount: the top-up; ``None`` if none of them is released by one, or that is not known.
    :param text: the same in words, with what the others wait for.
    """

    waiting: int
    amount: Amount | None
    text: str


def top_up_needed(waits: Iterable[WaitingFor], known: KnownBalance | None) -> TopUpNeeded:
    """
    Return which top-up releases the gates that wait for one account.

    :param waits: what each of its gates waits for.
    :param known: the account's balance; ``None`` if it is not known.
    """
    verdicts = [wait.verdict(known) for wait in waits]
    waiting = len(verdicts)
    if known is None or not waiting:
        text = f"{_gates(waiting)}." + (
            " The balance is not known, so the top-up is not known either." if waiting else ""
        )
        return TopUpNeeded(waiting, None, text)
    shortfalls: list[Amount] = []
    opening = unknown = 0
    limited: dict[tuple[str, ...], int] = {}
    for verdict in verdicts:
        if verdict is None:
            unknown += 1
        elif verdict.clears:
            opening += 1
        elif other := tuple(name for name in verdict.too_low if name != "balance"):
            limited[other] = limited.get(other, 0) + 1
        elif (shortfall := _shortfall(verdict, known)) is None:
            unknown += 1  # the API reports a balance as low that is not
        else:
            shortfalls.append(shortfall)
    amount = max(shortfalls, default=None)
    text = f"{_gates(waiting)}{_released(waiting, len(shortfalls), amount)}."
    sentences = [text, *_opening(opening, waiting), *_limited(limited), *_unknown(unknown, waiting, amount)]
    return TopUpNeeded(waiting, amount, " ".join(sentences))


def _shortfall(verdict: Verdict, known: KnownBalance) -> Amount | None:
    """Return how much the balance itself lacks; ``None`` if it is not below the threshold."""
    if verdict.threshold is None or verdict.balance is None or verdict.balance.amount >= verdict.threshold:
        return None
    missing = EXACT.subtract(Decimal(verdict.threshold.credits), Decimal(verdict.balance.amount.credits))
    return known.with_debt(missing)


def _gates(waiting: int) -> str:
    return (
        "No gate is waiting"
        if not waiting
        else "1 gate is waiting"
        if waiting == 1
        else f"{waiting:,} gates are waiting"
    )


def _released(waiting: int, released: int, amount: Amount | None) -> str:
    if amount is None:
        return ""
    which = f"{released:,} of them" if released < waiting else "it" if waiting == 1 else "all of them"
    return f"; a top-up of {amount.usd_text} releases {which}"


def _opening(opening: int, waiting: int) -> list[str]:
    if not opening:
        return []
    which = "It opens" if waiting == 1 else "1 opens" if opening == 1 else f"{opening:,} open"
    return [f"{which} at the next poll, because the balance is high enough."]


def _limited(limited: dict[tuple[str, ...], int]) -> list[str]:
    things = {
        ("key_limit",): "the key's limit",
        ("budget",): "a budget",
        ("key_limit", "budget"): "the key's limit and a budget",
    }
    return [
        f"{count:,} wait{'s' if count == 1 else ''} for {things[names]}, which a top-up does not raise."
        for names, count in sorted(limited.items(), key=lambda item: (-item[1], item[0]))
    ]


def _unknown(unknown: int, waiting: int, amount: Amount | None) -> list[str]:
    if not unknown:
        return []
    if amount is not None:
        return [f"It is not known whether it also releases {unknown:,} more."]
    which = "it needs" if waiting == 1 else "1 of them needs" if unknown == 1 else f"{unknown:,} of them need"
    return [f"It is not known what {which}."]
