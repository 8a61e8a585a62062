"""Which top-up releases the gates that wait, and what it is said to release."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import pytest

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance, KeyLimit
from airflow_provider_aimlbilling.money.budget import Budget, BudgetUse
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.money.top_up_needed import KnownBalance, WaitingFor, top_up_needed

LIMIT = KeyLimit("month", 10_000_000, 9_000_000)  # 0.50 USD left
V1 = KnownBalance(Balance(5_000_000, False, 10_000, "2026-11-22T10:00:00Z"))  # 2.50 USD
WITH_LIMIT = KnownBalance(Balance(5_000_000, False, 10_000, "2026-11-22T10:00:00Z", key_limit=LIMIT))
LIMIT_UNKNOWN = KnownBalance(V1.balance, key_limit_known=False)


def gate(threshold: str, **options: object) -> WaitingFor:
    return WaitingFor(Gate(Amount.parse(threshold)), **options)  # type: ignore[arg-type]


def budget(left: str) -> BudgetUse:
    since, until = (datetime(2026, month, 1, tzinfo=timezone.utc) for month in (11, 12))
    spent = Amount.from_usd(200 - Amount.parse(left).usd)
    return BudgetUse(Budget.parse("200 USD per month"), since, until, spent)


LIMITED = gate("2 USD", respects_key_limit=True)
SPENT = gate("2 USD", has_budget=True, budget=budget("1 USD"))
TEMPLATE = WaitingFor(None)


@pytest.mark.parametrize(
    ("waits", "known", "amount", "text"),
    [
        ([], V1, None, "No gate is waiting."),
        ([], None, None, "No gate is waiting."),
        ([gate("3 USD")], V1, "0.50 USD", "1 gate is waiting; a top-up of 0.50 USD releases it."),
        (
            [gate("3 USD"), gate("15.10 USD"), gate("4 USD"), gate("4 USD")],
            V1,
            "12.60 USD",
            "4 gates are waiting; a top-up of 12.60 USD releases all of them.",
        ),
        (
            [gate("3 USD"), LIMITED],
            WITH_LIMIT,
            "0.50 USD",
            "2 gates are waiting; a top-up of 0.50 USD releases 1 of them. 1 waits for the key's limit, which a "
            "top-up does not raise.",
        ),
        ([LIMITED], WITH_LIMIT, None, "1 gate is waiting. 1 waits for the key's limit, which a top-up does not raise."),
        (
            [SPENT, SPENT, LIMITED, gate("2 USD", respects_key_limit=True, has_budget=True, budget=budget("1 USD"))],
            WITH_LIMIT,
            None,
            "4 gates are waiting. 2 wait for a budget, which a top-up does not raise. 1 waits for the key's limit, "
            "which a top-up does not raise. 1 waits for the key's limit and a budget, which a top-up does not raise.",
        ),
        # Also short of the balance: a top-up is not enough.
        ([gate("9 USD", respects_key_limit=True)], WITH_LIMIT, None, "1 gate is waiting. 1 waits for the key's limit, "
         "which a top-up does not raise."),
        ([gate("2 USD")], V1, None,
         "1 gate is waiting. It opens at the next poll, because the balance is high enough."),
        (
            [gate("2 USD"), gate("2 USD"), gate("3 USD")],
            V1,
            "0.50 USD",
            "3 gates are waiting; a top-up of 0.50 USD releases 1 of them. 2 open at the next poll, because the "
            "balance is high enough.",
        ),
        ([gate("3 USD"), TEMPLATE], V1, "0.50 USD", "2 gates are waiting; a top-up of 0.50 USD releases 1 of them. "
         "It is not known whether it also releases 1 more."),
        ([TEMPLATE], V1, None, "1 gate is waiting. It is not known what it needs."),
        ([TEMPLATE, TEMPLATE], V1, None, "2 gates are waiting. It is not known what 2 of them need."),
        ([gate("2 USD"), TEMPLATE], V1, None, "2 gates are waiting. 1 opens at the next poll, because the balance "
         "is high enough. It is not known what 1 of them needs."),
        (
            [gate("3 USD"), TEMPLATE],
            None,
            None,
            "2 gates are waiting. The balance is not known, so the top-up is not known either.",
        ),
    ],
)  # fmt: skip
def test_the_top_up_and_its_words(
    waits: list[WaitingFor], known: KnownBalance | None, amount: str | None, text: str
) -> None:
    needed = top_up_needed(waits, known)
    assert needed.amount == (None if amount is None else Amount.parse(amount))
    assert needed.text == text
    assert needed.waiting == len(waits)


def test_a_top_up_of_exactly_that_amount_opens_all_gates_and_one_credit_less_does_not() -> None:
    waits = [gate("3 USD"), gate("7.1234565 USD"), gate("2.5000005 USD")]
    needed = top_up_needed(waits, V1)
    assert needed.amount == Amount(9_246_913)
    opened = [
        [wait.verdict(KnownBalance(Balance(5_000_000 + credits))).clears for wait in waits]  # type: ignore[union-attr]
        for credits in (9_246_912, 9_246_913)
    ]
    assert opened == [[True, False, True], [True, True, True]]


def test_fractions_of_a_credit_stay_exact() -> None:
    balance = KnownBalance(Balance(Decimal("4999999.25")))
    assert top_up_needed([gate("2.50 USD")], balance).amount == Amount(Decimal("0.75"))


def test_a_top_up_pays_for_an_overdraft_first() -> None:
    known = KnownBalance(Balance(0), overdrawn=2_500_000)
    verdict = gate("3 USD").verdict(known)
    assert verdict is not None
    assert known.missing(verdict) == Amount.parse("4.25 USD")
    assert known.reason(verdict) == "4.25 USD missing: overdrawn by 1.25 USD, needs 3.00 USD"
    assert top_up_needed([gate("3 USD")], known).amount == Amount.parse("4.25 USD")


def test_the_accounts_own_mark_is_a_threshold_as_well() -> None:
    low = KnownBalance(Balance(4_000, True, 10_000, "2026-11-22T10:00:00Z"))
    assert top_up_needed([WaitingFor(Gate())], low).amount == Amount(6_000)
    contradicting = KnownBalance(Balance(20_000, True, 10_000, "2026-11-22T10:00:00Z"))
    assert (
        top_up_needed([WaitingFor(Gate())], contradicting).text == "1 gate is waiting. It is not known what it needs."
    )
    v2 = KnownBalance(Balance(4_000))
    assert top_up_needed([WaitingFor(Gate())], v2).amount is None


@pytest.mark.parametrize(
    ("wait", "known", "is_known"),
    [
        (gate("3 USD", respects_key_limit=True), LIMIT_UNKNOWN, False),
        (gate("3 USD", respects_key_limit=None), LIMIT_UNKNOWN, False),
        (gate("3 USD", respects_key_limit=False), LIMIT_UNKNOWN, True),
        (gate("3 USD", respects_key_limit=None), WITH_LIMIT, False),  # the limit would hold it, if it counts
        (gate("0.40 USD", respects_key_limit=None), WITH_LIMIT, True),  # it would not hold it
        (gate("3 USD", respects_key_limit=None), V1, True),  # the key has no limit
        (gate("3 USD", respects_key_limit=True), V1, True),
        (gate("3 USD", has_budget=True), V1, False),  # what is left of it is not known
        (gate("3 USD", has_budget=True, budget=budget("9 USD")), V1, True),
    ],
)
def test_nothing_is_claimed_about_a_limit_or_a_budget_that_is_not_known(
    wait: WaitingFor, known: KnownBalance, is_known: bool
) -> None:
    assert (wait.verdict(known) is not None) is is_known
    assert ("not known" in top_up_needed([wait], known).text) is not is_known


def test_a_debt_on_top_of_the_largest_threshold_is_not_known() -> None:
    """The author of one DAG must not fail the page for everyone who shares the account."""
    overdrawn = KnownBalance(Balance(0), overdrawn=5)
    needed = top_up_needed([gate("9007199254740992"), gate("3 USD")], overdrawn)
    assert needed.amount == Amount(6_000_005)
    verdict = gate("9007199254740992").verdict(overdrawn)
    assert verdict is not None
    assert overdrawn.missing(verdict) is None
    assert overdrawn.reason(verdict)
