"""The rule that decides whether a balance is enough, and the verdicts that it returns."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingThresholdError,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance, KeyLimit
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
