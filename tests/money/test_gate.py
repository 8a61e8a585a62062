"""The rule that decides whether a balance is enough, and the verdicts that it returns."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingThresholdError,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance, KeyLimit
from airflow_provider_aimlbilling.money.budget import Budget, BudgetUse
from airflow_provider_aimlbilling.money.gate import Gate

FULL = Balance(5_000_000, False, 10_000, "2026-11-22T10:00:00Z", "disabled", "current", "fine")


@pytest.mark.parametrize(("threshold", "clears"), [(4_999_999, True), (5_000_000, True), (5_000_001, False), (0, True)])
def test_reaching_the_threshold_is_enough(threshold: int, clears: bool) -> None:
    verdict = Gate(Amount(threshold)).decide(FULL)
    assert verdict.clears is clears
    assert verdict.shortfall == (None if clears else Amount(1))


def test_a_verdict_states_balance_threshold_and_shortfall_in_both_units() -> None:
    verdict = Gate(Amount.parse("3 USD")).decide(FULL)
    assert verdict.reason == ("0.50 USD missing: balance 2.50 USD, needs 3.00 USD")
    assert json.loads(json.dumps(verdict.to_dict())) == {
        "clears": False,
        "reason": verdict.reason,
        "threshold_credits": 6_000_000,
        "threshold_usd": "3.00",
        "available_credits": 5_000_000,
        "available_usd": "2.50",
        "shortfall_credits": 1_000_000,
        "shortfall_usd": "0.50",
        "short_of": "balance",
        "balance": FULL.to_dict(),
    }


@pytest.mark.parametrize(
    ("balance", "limit", "remedy"),
    [
        (5_000_000, None, "top up the account"),
        (9_000_000, 1, "raise the key's limit"),
        (5_000_000, 1, "top up the account and raise the key's limit"),
    ],
)
def test_a_refusal_says_what_to_do(balance: int, limit: int | None, remedy: str) -> None:
    key_limit = None if limit is None else KeyLimit("day", limit, 0)
    message = Gate(Amount.parse("3 USD")).decide(Balance(balance, key_limit=key_limit)).refusal("team_a")
    assert message.endswith(f"To run this, {remedy} (connection 'team_a').")


def test_a_balance_that_contradicts_its_own_low_balance_does_not_open_the_gate() -> None:
    assert not Gate().decide(Balance(0, False, 10_000)).clears
    reported_low = Gate().decide(Balance(20_000, True, 10_000))
    assert not reported_low.clears
    assert "missing" not in reported_low.reason, "that would be untrue"


def test_out_of_credits_counts_as_below_any_threshold_and_invents_no_figure() -> None:
    verdict = Gate(Amount(0)).decide(InsufficientBalanceError("answered 403"))
    assert not verdict.clears
    assert verdict.balance is None
    assert verdict.shortfall is None
    assert verdict.to_dict()["balance"] is None


def test_without_a_threshold_low_balance_decides_but_not_on_v2() -> None:
    assert Gate().decide(FULL).clears
    low = Balance(9_000, True, 10_000)
    assert not Gate().decide(low).clears
    assert Gate().decide(low).shortfall == Amount(1_000)
    with pytest.raises(AimlBillingThresholdError, match="api_version v2 does not report it"):
        Gate().decide(Balance(5_000_000))
    with pytest.raises(AimlBillingContractError, match="no usable lowBalance"):
        Gate().decide(Balance(5_000_000, status="current"))  # v1, so another answer may have it


def test_a_threshold_that_renders_to_none_does_not_fall_back_to_low_balance() -> None:
    assert Gate.for_threshold(None, optional=True) == Gate()
    assert Gate.for_threshold("1 USD", optional=True) == Gate(Amount(2_000_000)), "set on the task after its creation"
    with pytest.raises(AimlBillingThresholdError, match="was empty"):
        Gate.for_threshold(None, optional=False)


def test_the_verdict_names_what_was_too_low() -> None:
    gate = Gate(Amount(8))
    limited = KeyLimit("week", 20, 13)
    assert gate.decide(Balance(balance=10)).short_of is None
    assert gate.decide(Balance(balance=7)).short_of == "balance"
    assert gate.decide(Balance(balance=10, key_limit=limited)).short_of == "key_limit"
    assert gate.decide(Balance(balance=5, key_limit=limited)).short_of == "both"
    assert gate.decide(Balance(balance=7, key_limit=KeyLimit("week", 20, 12))).short_of == "balance"
    assert gate.decide(Balance(balance=10, key_limit=KeyLimit("week", 20, 12))).clears


def test_without_a_threshold_the_key_s_limit_counts_too() -> None:
    balance = Balance(balance=10, low_balance=False, low_balance_threshold=8)
    assert Gate().decide(balance).clears
    assert not Gate().decide(replace(balance, key_limit=KeyLimit("week", 20, 13))).clears


def test_a_threshold_is_rounded_up_to_the_next_credit() -> None:
    """A template that calculates with floats leads to fractions of a credit."""
    gate = Gate.for_threshold(f"{25 * 0.0000021} USD", optional=False)
    assert gate.threshold == Amount(105)
    assert Gate.for_threshold(105, optional=False).threshold == Amount(105)
    assert not gate.decide(Balance(104)).clears
    assert gate.decide(Balance(105)).clears


USD = 2_000_000


def budget(left: int, amount: int = 20) -> BudgetUse:
    """Return a budget in USD per month, of which so many are left in November 2026."""
    since, until = datetime(2026, 11, 1, tzinfo=timezone.utc), datetime(2026, 12, 1, tzinfo=timezone.utc)
    return BudgetUse(Budget(Amount(amount * USD), "month"), since, until, Amount((amount - left) * USD))


@pytest.mark.parametrize(
    ("balance", "key", "left", "short_of"),
    [
        (5, 5, 5, None),
        (5, None, 5, None),
        (4, None, 5, "balance"),
        (5, None, 4, "budget"),
        (4, None, 4, "balance and budget"),
        (5, 4, 5, "key_limit"),
        (4, 4, 5, "both"),
        (5, 4, 4, "key_limit and budget"),
        (4, 4, 4, "balance and key_limit and budget"),
    ],
)
def test_what_is_available_is_the_least_of_balance_key_limit_and_budget(
    balance: int, key: int | None, left: int, short_of: str | None
) -> None:
    limit = None if key is None else KeyLimit("day", key * USD, 0)
    verdict = Gate(Amount(5 * USD)).decide(Balance(balance * USD, key_limit=limit, budget=budget(left)))
    assert verdict.clears is (short_of is None)
    assert verdict.short_of == short_of
    assert verdict.available == Amount(min(balance, left, *([] if key is None else [key])) * USD)
    assert verdict.shortfall == (None if verdict.clears else Amount(USD))


def test_the_reason_begins_with_the_smallest_figure() -> None:
    gate = Gate(Amount(5 * USD))
    assert gate.decide(Balance(50 * USD, budget=budget(3))).reason == (
        "2.00 USD missing: 3.00 USD left of the budget of 20.00 USD per month, balance 50.00 USD, needs 5.00 USD"
    )
    assert gate.decide(Balance(4 * USD, budget=budget(12))).reason == (
        "1.00 USD missing: balance 4.00 USD, 12.00 USD left of the budget of 20.00 USD per month, needs 5.00 USD"
    )
    opened = gate.decide(Balance(9 * USD, budget=budget(6), key_limit=KeyLimit("day", 8 * USD, USD)))
    assert opened.reason == (
        "6.00 USD left of the budget of 20.00 USD per month, the key may still spend 7.00 USD (limit 8.00 USD this "
        "day, spent 1.00 USD), balance 9.00 USD, needs 5.00 USD"
    )


@pytest.mark.parametrize(
    ("needed", "balance", "remedy"),
    [
        (5, 50, "raise the budget or wait for its next period, which begins at 2026-12-01 00:00+00:00"),
        (21, 50, "raise the budget"),
        (5, 4, "top up the account, and raise the budget or wait for its next period, which begins at 2026-12-01 "),
    ],
)
def test_a_refusal_because_of_the_budget_says_when_the_next_period_begins(
    needed: int, balance: int, remedy: str
) -> None:
    message = Gate(Amount(needed * USD)).decide(Balance(balance * USD, budget=budget(3))).refusal("team_a")
    assert f"To run this, {remedy}" in message


def test_without_a_threshold_low_balance_decides_and_the_budget_must_have_something_left() -> None:
    """The account's own threshold is about the account, so the budget is not compared with it."""
    healthy = Balance(50 * USD, low_balance=False, low_balance_threshold=10 * USD)
    opened = Gate().decide(replace(healthy, budget=budget(1)))
    assert (opened.clears, opened.short_of, opened.shortfall, opened.available) == (True, None, None, Amount(USD))
    used_up = Gate().decide(replace(healthy, budget=budget(0)))
    assert (used_up.clears, used_up.short_of, used_up.shortfall, used_up.available) == (
        False,
        "budget",
        None,
        Amount(0),
    )
    assert used_up.reason.startswith("0.00 USD left of the budget of 20.00 USD per month, balance 50.00 USD")
    assert "low" not in used_up.reason.replace("low-balance", "")
    assert "raise the budget or wait" in used_up.refusal("team_a")
    low = Balance(9 * USD, low_balance=True, low_balance_threshold=10 * USD, budget=budget(0))
    assert Gate().decide(low).short_of == "balance and budget"
    assert Gate().decide(low).shortfall == Amount(USD)
    assert not Gate().decide(replace(low, budget=budget(5))).clears
    with pytest.raises(AimlBillingThresholdError, match="v2 does not report it"):
        Gate().decide(Balance(50 * USD, budget=budget(5)))
