"""The state of an account in a word and a sentence."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from airflow_provider_aimlbilling.money.account_state import MAX_AGE, Funds, account_state
from airflow_provider_aimlbilling.money.balance import KeyLimit

NOW = timedelta()
USD = 2_000_000


@pytest.mark.parametrize(
    ("funds", "name", "words"),
    [
        (None, "unknown", "could not be read"),
        (Funds(None), "empty", "out of credits"),
        (Funds(None, 5 * USD), "empty", "out of credits"),
        (Funds(-USD), "empty", "overdrawn by 1.00 USD"),
        (Funds(0, 0), "empty", "holds nothing"),
        (Funds(1), "fine", "threshold is not known"),
        (Funds(Decimal("0.5"), 0), "fine", "threshold of 0.00 USD"),
        (Funds(5 * USD - 1, 5 * USD), "low", "below the account's low-balance threshold of 5.00 USD"),
        (Funds(5 * USD, 5 * USD), "fine", "not below the account's low-balance threshold of 5.00 USD"),
        (Funds(5 * USD, USD, KeyLimit("month", USD, USD)), "empty", "the key has spent its limit"),
        (Funds(5 * USD, USD, KeyLimit("month", USD, 2 * USD)), "empty", "the key has spent its limit"),
        (Funds(5 * USD, USD, KeyLimit("month", USD, USD - 1)), "fine", "not below"),
        (Funds(5 * USD, USD, KeyLimit("", USD, None)), "fine", "not below"),
        (Funds(USD, 2 * USD, KeyLimit("day", USD, 0)), "low", "below"),
    ],
)
def test_the_state_says_whether_the_account_can_pay(funds: Funds | None, name: str, words: str) -> None:
    state = account_state(funds, NOW)
    assert state.name == name
    assert words in state.text
    assert state.text.lower().startswith(f"{name}: "), "the state must not depend on colour"


@pytest.mark.parametrize("funds", [Funds(None), Funds(0), Funds(5 * USD, USD), Funds(1, USD)])
def test_old_figures_say_nothing_about_now(funds: Funds) -> None:
    assert account_state(funds, MAX_AGE).name != "unknown"
    assert account_state(funds, MAX_AGE + timedelta(seconds=1)).name == "unknown"
