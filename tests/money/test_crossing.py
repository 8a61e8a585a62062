"""The rule of a watcher: each fall and each recovery fires once, exact to one credit."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from itertools import pairwise, product
from typing import Any

import pytest

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.crossing import Crossing, crossing_event, parse_crossings

LOW, BETWEEN, HIGH = Balance(1_999_999), Balance(2_000_000), Balance(3_000_000)
UNKNOWN = AimlBillingUnavailable("No answer.")
LETTERS = {"l": LOW, "b": BETWEEN, "h": HIGH, "f": UNKNOWN}


def rule(direction: str, threshold: object = 2_000_000, hysteresis: object = 1_000_000) -> Crossing:
    return Crossing.parse(direction, threshold, hysteresis)


def fires_at(crossing: Crossing, letters: str) -> list[int]:
    """Return at which of a sequence of readings the rule fires."""
    armed, at = None, []
    for number, letter in enumerate(letters):
        armed, crossed = crossing.evaluate(armed, LETTERS[letter])
        if crossed:
            at.append(number)
    return at


def expected_falls(letters: str) -> list[int]:
    """Return the same by a regular expression: errors say nothing, and "between" says nothing except at the start."""
    simplified = re.sub("^(f*)b", r"\1h", letters)
    return [match.end() - 1 for match in re.finditer("h[fb]*l", simplified)]


@pytest.mark.parametrize("length", range(7))
def test_each_fall_fires_once_in_every_sequence_of_readings(length: int) -> None:
    below = rule("below")
    for letters in map("".join, product(LETTERS, repeat=length)):
        at = fires_at(below, letters)
        assert at == expected_falls(letters), letters
        assert all(letters[number] == "l" for number in at)
        for earlier, later in pairwise(at):
            assert "h" in letters[earlier:later], f"{letters}: not armed in between"


@pytest.mark.parametrize("length", range(7))
def test_each_recovery_fires_once_in_every_sequence_of_readings(length: int) -> None:
    """It is a fall upside down: HIGH fires, and LOW arms."""
    above = rule("above", 3_000_000, 1_000_000)
    for letters in map("".join, product(LETTERS, repeat=length)):
        assert fires_at(above, letters) == expected_falls(letters.translate(str.maketrans("lh", "hl"))), letters


def test_reaching_the_threshold_is_enough() -> None:
    """Exact to one credit."""
    for credits, armed in ((1_999_999, False), (2_000_000, True)):
        assert rule("below").evaluate(None, Balance(credits)) == (armed, False)
        assert rule("above").evaluate(None, Balance(credits)) == (not armed, False)
        assert rule("below").evaluate(True, Balance(credits)) == (armed, not armed)
        assert rule("above").evaluate(True, Balance(credits)) == (not armed, armed)
    for credits, again in ((2_999_999, False), (3_000_000, True)):
        assert rule("below").evaluate(False, Balance(credits)) == (again, False)
    for credits, again in ((1_000_000, False), (999_999, True)):
        assert rule("above").evaluate(False, Balance(credits)) == (again, False)


def test_fractions_of_a_credit_count() -> None:
    fine = rule("below", Decimal("0.3"), Decimal("0.1"))
    assert fine.evaluate(True, Balance(Decimal("0.29999999999999999999"))) == (False, True)
    assert fine.evaluate(False, Balance(Decimal("0.39999999999999999999"))) == (False, False)
    assert fine.evaluate(False, Balance(Decimal("0.4"))) == (True, False)


@pytest.mark.parametrize("hysteresis", [0, 1_000_000])
def test_out_of_credits_is_below_any_threshold(hysteresis: int) -> None:
    empty = InsufficientBalanceError("out of credits")
    for threshold in (1_000_001, 10**15):
        assert rule("below", threshold, hysteresis).evaluate(True, empty) == (False, True)
        assert rule("below", threshold, hysteresis).evaluate(False, empty) == (False, False)
        assert rule("above", threshold, hysteresis).evaluate(True, empty) == (True, False)
        assert rule("above", threshold, hysteresis).evaluate(False, empty) == (True, False)


@pytest.mark.parametrize("reading", [None, UNKNOWN, AimlBillingAuthError("401")])
@pytest.mark.parametrize("armed", [None, True, False])
@pytest.mark.parametrize("direction", ["below", "above"])
def test_a_reading_without_a_balance_changes_nothing(reading: Any, armed: Any, direction: str) -> None:
    assert rule(direction).evaluate(armed, reading) == (armed, False)


def test_an_event_describes_the_crossing() -> None:
    fell = crossing_event([rule("below")], Balance(500_000), "below")
    assert fell == {
        "crossing": "below",
        "threshold_credits": 2_000_000,
        "threshold_usd": "1.00",
        "hysteresis_credits": 1_000_000,
        "hysteresis_usd": "0.50",
        "passed": [{"threshold_credits": 2_000_000, "threshold_usd": "1.00"}],
        "balance": Balance(500_000).to_dict(),
        "reason": "Balance fell below 1.00 USD: 0.25 USD left.",
    }
    recovered = crossing_event([rule("above", Decimal("0.5"), 0)], HIGH, "above")
    assert (recovered["crossing"], recovered["threshold_credits"]) == ("above", "0.5")
    assert recovered["reason"] == "Balance recovered to 0.00000025 USD: 1.50 USD left."
    empty = crossing_event(
        [rule("below")], InsufficientBalanceError("The account is out of credits: top it up."), "below"
    )
    assert empty["balance"] is None
    assert empty["reason"].endswith("1.00 USD: The account is out of credits: top it up.")
    for event in (fell, recovered, empty):
        assert json.loads(json.dumps(event)) == event


def test_an_event_names_all_levels_and_the_one_that_was_crossed_last() -> None:
    """A fall passes the highest level first, and a recovery the lowest. "both" watches the falls of each level."""
    levels = parse_crossings("both", ["20 USD", "50 USD", "5 USD"], "1 USD")
    assert [level.direction for level in levels] == ["below"] * 3
    fell = crossing_event(levels[:2], Balance(4_000_000), "below")
    assert (fell["crossing"], fell["threshold_usd"]) == ("below", "5.00")
    assert [level["threshold_usd"] for level in fell["passed"]] == ["5.00", "20.00"]
    assert fell["reason"] == "Balance fell below 5.00 USD (and 20.00 USD): 2.00 USD left."
    recovered = crossing_event(levels, Balance(120_000_000), "above")
    assert (recovered["crossing"], recovered["threshold_usd"]) == ("above", "50.00")
    assert [level["threshold_usd"] for level in recovered["passed"]] == ["50.00", "20.00", "5.00"]
    assert recovered["reason"] == "Balance recovered to 50.00 USD (and 20.00 USD, 5.00 USD): 60.00 USD left."
