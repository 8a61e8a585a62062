"""How long the money lasts: a range that is exact, cautious about bursts, and refused without history."""

from __future__ import annotations

import json
import random
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pytest

from airflow_provider_aimlbilling.exceptions import AimlBillingRunwayError
from airflow_provider_aimlbilling.money.amount import MAX_CREDITS, Amount
from airflow_provider_aimlbilling.money.runway import Runway, estimate_runway

TODAY = date(2026, 11, 26)
READ_AT = datetime(2026, 11, 26, 9, tzinfo=timezone.utc)


def spent(*newest_last: int | Decimal) -> dict[date, Amount]:
    """Return spending by day, in credits, up to yesterday. A day without spending has no entry, as in the API."""
    days = {TODAY - timedelta(days=ago): credits for ago, credits in enumerate(reversed(newest_last), start=1)}
    return {day: Amount(credits) for day, credits in days.items() if credits}


def runway(balance: int, *newest_last: int | Decimal, others: Fraction | None = None) -> Runway:
    return estimate_runway(Amount(balance), spent(*newest_last), TODAY, read_at=READ_AT, others=others)


def test_the_range_is_from_the_worst_three_days_in_a_row_to_the_mean() -> None:
    found = runway(1000, 10, 0, 10, 100, 200, 60, 10, 30)
    assert (found.cautious, found.mean) == (Fraction(360, 3), Fraction(420, 8))
    assert (found.shortest_days, found.longest_days) == (Decimal("8.3"), Decimal("19.0"))


def test_the_shortest_time_is_never_longer_than_the_longest() -> None:
    """Spending on every third day has a mean above that of any three days in a row."""
    found = runway(1000, 100, 0, 0, 100, 0, 0, 100)
    assert found.cautious == found.mean == Fraction(300, 7)
    chance = random.Random(7)
    for _ in range(300):
        days = [chance.choice([0, 0, 1, 7, 100]) for _ in range(chance.randint(7, 28))]
        days[0] = 1
        found = runway(10**6, *days)
        assert found.shortest_days <= found.longest_days


def test_days_are_rounded_down_and_thresholds_up() -> None:
    found = runway(100, *[Decimal("0.7")] * 7)
    assert found.threshold_for(3) == Amount(3)  # 2.1
    assert found.threshold_for("0.5") == Amount(1)  # 0.35
    assert found.shortest_days == Decimal("142.8")  # 142.857…
    thirds = runway(100, *[1, 0, 0, 0] * 7)
    assert thirds.threshold_for(3) == Amount(1), "exactly three thirds, not a credit more"
    assert runway(0, 1, 1, 1, 1, 1, 1, 1).shortest_days == 0


def test_a_threshold_lasts_as_long_as_it_says() -> None:
    chance = random.Random(3)
    for _ in range(200):
        days = [chance.randint(1, 10**9) for _ in range(28)]
        wanted = chance.choice([1, 3, Decimal("2.5"), 30])
        threshold = runway(0, *days).threshold_for(wanted)
        assert runway(int(threshold.credits), *days).shortest_days >= wanted
        assert runway(int(threshold.credits) - 1, *days).shortest_days < wanted


def test_a_new_account_does_not_look_cheap() -> None:
    """Days before the first spending do not count; later ones without any do."""
    found = runway(1000, *[0] * 20, 10, 0, 0, 0, 0, 0, 0, 10)
    assert (found.history_days, found.mean) == (8, Fraction(20, 8))
    assert (found.first_day, found.last_day) == (TODAY - timedelta(days=8), TODAY - timedelta(days=1))


def test_today_and_days_before_the_window_do_not_count() -> None:
    days = spent(*[10] * 28)
    outside = {TODAY: Amount(9999), TODAY - timedelta(days=29): Amount(9999)}
    found = estimate_runway(Amount(100), days | outside, TODAY, read_at=READ_AT)
    assert (found.cautious, found.mean, found.history_days) == (10, 10, 28)


@pytest.mark.parametrize("days", range(1, 7))
def test_less_than_a_week_of_history_is_refused_with_the_day_on_which_it_will_do(days: int) -> None:
    enough = TODAY + timedelta(days=7 - days)
    with pytest.raises(AimlBillingRunwayError, match=f"7 complete days are needed.*enough on {enough}"):
        runway(100, *[5] * days)
    assert runway(100, *[5] * 7).history_days == 7


@pytest.mark.parametrize("days", [{}, {TODAY: Amount(5)}, {TODAY - timedelta(days=3): Amount(0)}])
def test_without_spending_there_is_no_figure(days: dict[date, Amount]) -> None:
    with pytest.raises(AimlBillingRunwayError, match="nothing was spent in the 28 days before 2026-11-26"):
        estimate_runway(Amount(100), days, TODAY, read_at=READ_AT)


@pytest.mark.parametrize("days", [0, "0", -1, "soon", None, True, float("nan"), "", 10**29, Decimal("Infinity")])
def test_an_impossible_number_of_days_is_refused(days: object) -> None:
    with pytest.raises(AimlBillingRunwayError):
        runway(100, *[MAX_CREDITS // 2] * 7).threshold_for(days)


def test_what_others_spend_is_part_of_both_rates() -> None:
    alone, shared = (runway(1000, *[10] * 6, 40, others=others) for others in (None, Fraction(5, 2)))
    assert (shared.cautious - alone.cautious, shared.mean - alone.mean) == (Fraction(5, 2), Fraction(5, 2))
    assert (alone.to_dict()["spending_of"], shared.to_dict()["spending_of"]) == ("key", "account")


def test_the_result_is_plain_json_in_both_units() -> None:
    found = estimate_runway(
        Amount(10_000_000), spent(*[2_000_000] * 7, 1), TODAY, read_at=READ_AT, auto_debit_status="disabled"
    )
    assert found.to_dict() == {
        "shortest_days": "5.0",
        "longest_days": "5.7",
        "balance_credits": 10_000_000,
        "balance_usd": "5.00",
        "cautious_per_day_credits": 2_000_000,
        "cautious_per_day_usd": "1.00",
        "mean_per_day_credits": 1_750_001,
        "mean_per_day_usd": "0.8750005",
        "others_per_day_credits": None,
        "others_per_day_usd": None,
        "spending_of": "key",
        "first_day": "2026-11-18",
        "last_day": "2026-11-25",
        "history_days": 8,
        "auto_debit_status": "disabled",
        "read_at": "2026-11-26T09:00:00+00:00",
        "summary": (
            "5.00 USD lasts 5.0 to 5.7 days: spending of the key was up to 1.00 USD a day over three days in a row, "
            "and 0.8750005 USD on average, in 8 days. Auto top-up: disabled."
        ),
    }
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
