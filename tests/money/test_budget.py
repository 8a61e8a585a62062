"""Budgets: how they are written, when their periods begin, and what is left of them."""

from __future__ import annotations

import json
import random
import zoneinfo
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from airflow_provider_aimlbilling.exceptions import AimlBillingBudgetError, AimlBillingContractError
from airflow_provider_aimlbilling.money import time_zones as module
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.budget import PERIODS, Budget, BudgetUse

UTC = timezone.utc


def use(spent: Amount, budget: str = "10 USD per month") -> BudgetUse:
    parsed = Budget.parse(budget)
    return BudgetUse(parsed, *parsed.period_at(datetime(2026, 11, 26, tzinfo=UTC)), spent)


@pytest.mark.parametrize(
    ("text", "budget", "shown"),
    [
        ("200 USD per month", Budget(Amount(400_000_000), "month"), "200.00 USD per month"),
        ("$0.50 per day", Budget(Amount(1_000_000), "day"), "0.50 USD per day"),
        ("5000000 credits per week", Budget(Amount(5_000_000), "week"), "2.50 USD per week"),
        ("5000000 per week", Budget(Amount(5_000_000), "week"), "2.50 USD per week"),
        ("0 USD per day", Budget(Amount(0), "day"), "0.00 USD per day"),
        ("1 USD per day in UTC", Budget(Amount(2_000_000), "day"), "1.00 USD per day"),
        (
            "  1_000 USD  PER  Month  in  America/Argentina/Buenos_Aires ",
            Budget(Amount(2_000_000_000), "month", "America/Argentina/Buenos_Aires"),
            "1,000.00 USD per month in America/Argentina/Buenos_Aires",
        ),
    ],
)
def test_a_budget_is_an_amount_a_period_and_perhaps_a_time_zone(text: str, budget: Budget, shown: str) -> None:
    assert Budget.parse(text) == budget
    assert Budget.parse(budget) == budget
    assert Budget.parse(budget.text) == budget
    assert str(budget) == shown


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("200 USD", "is not a budget. Write it like '200 USD per month'"),
        ("200 USD/month", "is not a budget"),
        ("per month", "is not a budget"),
        ("200 USD per", "is not a budget"),
        ("200 USD per month Europe/Berlin", "is not a budget"),
        (200, "200 is not a budget"),
        (True, "True is not a budget"),
        (["200 USD per month"], "is not a budget"),
        (None, "was empty"),
        ("", "was empty"),
        (" None ", "was empty"),
        ("None USD per month", "no valid amount"),
        (" USD per month", "no valid amount"),
        ("-1 USD per month", "no valid amount"),
        ("200 EUR per month", "no valid amount"),
        ("2.50 per month", "Did you mean '2.50 USD'"),
        ("1e30 USD per month", "no valid amount"),
        ("{{ params.team }} USD per month", "was not rendered"),
        ("200 per month", "below one cent. A bare number means credits"),
        ("0.001 USD per month", "below one cent"),
        ("200 USD per year", "unknown period. Write it like"),
        ("200 USD per months", "unknown period"),
        ("200 USD per month in Mars/Olympus", "'Mars/Olympus' is not a time zone of this machine"),
        ("200 USD per month in Europe", "'Europe' is not a time zone"),
        ("200 USD per month in ../../etc/passwd", "is not a time zone"),
        ("200 USD per month in /etc/passwd", "is not a time zone"),
        ("200 USD per month in Europe/../UTC", "is not a time zone"),
        ("200 USD per month in tzdata.zi", "is not a time zone"),
        ("200 USD per month in Europe/Berlin\0", "is not a time zone"),
        ("200 USD per month in +02:00", "is not a time zone"),
        ("200 USD per month in localtime", "is not a time zone"),
        ("200 USD per month in Factory", "is not a time zone"),
        ("200 USD per month in right/Europe/Berlin", "is not a time zone"),
        ("0.009 USD per day", "below one cent, which is most likely a mistake. Write dollars"),
        ("200 USD per month in " + "A" * 5000, "is not a budget"),
    ],
)
def test_what_is_no_budget_is_refused_with_its_fix(value: object, message: str) -> None:
    with pytest.raises(AimlBillingBudgetError) as caught:
        Budget.parse(value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_text_that_is_too_long_for_a_budget_is_refused_without_searching_it() -> None:
    """The search would take hours for this one, and hold up all other threads."""
    with pytest.raises(AimlBillingBudgetError, match="is not a budget"):
        Budget.parse("5" + " " * 1_000_000 + "USD per")


def test_without_a_time_zone_database_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {name}")

    monkeypatch.setattr(module, "ZoneInfo", missing)
    with pytest.raises(AimlBillingBudgetError, match="install the Python package tzdata"):
        Budget.parse("1 USD per day in Europe/Berlin")
    assert Budget.parse("1 USD per day").period_at(datetime.now(UTC)), "UTC needs no database"


@pytest.mark.parametrize(
    ("budget", "moment", "since", "until"),
    [
        ("day", "2026-11-26T13:00:00.5+00:00", "2026-11-26T00:00:00+00:00", "2026-11-27T00:00:00+00:00"),
        ("day", "2026-11-26T00:00:00+00:00", "2026-11-26T00:00:00+00:00", "2026-11-27T00:00:00+00:00"),
        ("day", "2026-11-26T01:00:00+05:00", "2026-11-25T00:00:00+00:00", "2026-11-26T00:00:00+00:00"),
        ("week", "2026-11-26T13:00:00+00:00", "2026-11-23T00:00:00+00:00", "2026-11-30T00:00:00+00:00"),
        ("week", "2026-11-30T00:00:00+00:00", "2026-11-30T00:00:00+00:00", "2026-12-07T00:00:00+00:00"),
        ("month", "2026-12-31T23:59:59+00:00", "2026-12-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        ("month", "2028-02-29T12:00:00+00:00", "2028-02-01T00:00:00+00:00", "2028-03-01T00:00:00+00:00"),
        # The month begins in winter time and ends in summer time, and the other way round.
        ("month in Europe/Berlin", "2026-03-30T12:00:00Z", "2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00"),
        ("month in Europe/Berlin", "2026-10-31T22:59:59Z", "2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00"),
        ("month in Europe/Berlin", "2026-10-31T23:00:00Z", "2026-11-01T00:00:00+01:00", "2026-12-01T00:00:00+01:00"),
        ("week in Asia/Kathmandu", "2026-11-22T18:15:00Z", "2026-11-23T00:00:00+05:45", "2026-11-30T00:00:00+05:45"),
        # Days of 23 and of 25 hours.
        ("day in Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("day in America/New_York", "2026-11-01T12:00:00Z", "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"),
        # Clocks skip midnight.
        ("day in America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"),
        ("day in Asia/Beirut", "2026-03-28T21:59:59Z", "2026-03-28T00:00:00+02:00", "2026-03-29T01:00:00+03:00"),
        # Midnight occurs twice: the day begins with the first.
        ("day in America/Havana", "2026-11-01T05:30:00Z", "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"),
        # A whole day is skipped.
        ("day in Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"),
    ],
)
def test_a_period_begins_with_the_first_instant_of_its_first_day(
    budget: str, moment: str, since: str, until: str
) -> None:
    at = datetime.fromisoformat(moment.replace("Z", "+00:00").replace(".5", ".500000"))
    found = Budget.parse(f"1 USD per {budget}").period_at(at)
    assert [time.isoformat() for time in found] == [since, until]


def test_periods_follow_each_other_without_gaps_in_every_zone() -> None:
    """Each moment is in exactly one period, which begins with the first instant of a day."""
    chooser = random.Random(5)
    zones = [
        *("UTC", "Europe/Berlin", "America/Santiago", "America/Havana", "Asia/Beirut", "Atlantic/Azores"),
        *("America/Scoresbysund", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Chatham", "Africa/Casablanca"),
    ]
    for name in zones:
        zone = UTC if name == "UTC" else zoneinfo.ZoneInfo(name)

        def day(moment: datetime, zone: object = zone) -> date:
            return moment.astimezone(zone).date()  # type: ignore[arg-type]

        for period in PERIODS:
            budget = Budget(Amount(1), period, name)
            moment = datetime(2024, 1, 1, tzinfo=UTC)
            end = None
            while moment < datetime(2028, 1, 1, tzinfo=UTC):
                since, until = budget.period_at(moment)
                assert since <= moment < until
                assert end is None or since == end
                assert budget.period_at(until - timedelta(microseconds=1)) == (since, until)
                assert budget.period_at(since + (until - since) * chooser.random()) == (since, until)
                assert day(since - timedelta(seconds=1)) < day(since.astimezone(UTC))
                assert period != "week" or day(since).weekday() == 0
                assert period != "month" or day(since).day == 1
                moment = end = until.astimezone(UTC)


def test_what_is_left_and_what_was_spent_add_up_to_the_budget() -> None:
    chooser = random.Random(7)
    for _ in range(1000):
        budget = Amount(chooser.randrange(20_000, 10**12))
        spent = Amount(Decimal(chooser.randrange(10**13)) / chooser.choice([1, 10, 10**6]))
        left = BudgetUse(Budget(budget, "day"), datetime.now(UTC), datetime.now(UTC), spent).left
        if spent > budget:
            assert left == Amount(0), "never negative"
        else:
            assert Decimal(left.credits) + Decimal(spent.credits) == budget.credits


def test_the_use_of_a_budget_covers_what_is_left_of_it() -> None:
    assert use(Amount.parse("7 USD")).covers(Amount.parse("3 USD"))
    assert not use(Amount.parse("7 USD")).covers(Amount(6_000_001))
    assert use(Amount.parse("9.99 USD")).covers(None)
    assert not use(Amount.parse("10 USD")).covers(None)
    assert str(use(Amount.parse("7 USD"))) == "3.00 USD left of the budget of 10.00 USD per month"


def test_a_budget_survives_json_and_is_present_only_if_requested() -> None:
    fraction = use(Amount(Decimal("2000000.5")), "10 USD per month in Europe/Berlin")
    balance = Balance(balance=10, budget=fraction)
    stored = json.loads(json.dumps(balance.to_dict()))
    assert Balance.from_dict(stored) == balance
    assert stored["budget"] == {
        "period": "month",
        "time_zone": "Europe/Berlin",
        "since": "2026-11-01T00:00:00+01:00",
        "until": "2026-12-01T00:00:00+01:00",
        "amount_credits": 20_000_000,
        "amount_usd": "10.00",
        "spent_credits": "2000000.5",
        "spent_usd": "1.00000025",
        "left_credits": "17999999.5",
        "left_usd": "8.99999975",
    }
    assert "budget" not in Balance(balance=10).to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"period": "year"},
        {"time_zone": 1},
        {"since": "yesterday"},
        {"until": None},
        {"amount_credits": True},
        {"amount_credits": None},
        {"spent_credits": "many"},
        {"spent_credits": -1},
    ],
)
def test_a_budget_that_another_version_wrote_is_refused(change: dict[str, object]) -> None:
    stored = Balance(balance=10, budget=use(Amount(0))).to_dict()
    for wrong in (stored["budget"] | change, {}, [], "x"):
        with pytest.raises(AimlBillingContractError, match="field budget of the balance"):
            Balance.from_dict(stored | {"budget": wrong})
