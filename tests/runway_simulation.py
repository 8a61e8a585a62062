"""Simulate 400 accounts, and count how often money for three days lasted for three days."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta, timezone

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.runway import STRETCH_DAYS, WINDOW_DAYS, estimate_runway

ACCOUNTS, DAYS, LASTS = 400, 90, 3
TODAY = date(2026, 11, 26)
READ_AT = datetime(2026, 11, 26, tzinfo=timezone.utc)


def spending(chance: random.Random) -> list[int]:
    """
    Return what one account spends on each day, in credits.

    Each account has its own level, growth, weekends and noise. Many have jobs that run for some days in a row and cost
    several times a normal day.
    """
    level = 10 ** chance.uniform(5, 8)
    growth = chance.gauss(0, 0.01)
    weekend = chance.choice([1.0, 0.6, 0.2])
    noise = chance.uniform(0.1, 0.8)
    burst_rate, burst = chance.choice([0.0, 0.03, 0.1]), 1.0
    days = []
    for day in range(DAYS):
        if burst > 1 and chance.random() < 0.4:
            burst = 1.0
        elif chance.random() < burst_rate:
            burst = chance.uniform(2, 6)
        rhythm = weekend if day % 7 >= 5 else 1.0
        days.append(round(level * (1 + growth) ** day * rhythm * burst * chance.lognormvariate(0, noise)))
    return days


def cautious(history: Sequence[int]) -> int:
    """Return the threshold that the package gives."""
    spent = {TODAY - timedelta(days=ago): Amount(credits) for ago, credits in enumerate(reversed(history), start=1)}
    runway = estimate_runway(Amount(0), spent, TODAY, read_at=READ_AT)
    return int(runway.threshold_for(LASTS).credits)


# How much money counts as enough for three days, under the words of the table in the docs.
WAYS: dict[str, Callable[[Sequence[int]], float]] = {
    "mean of the last 7 days": lambda history: LASTS * sum(history[-7:]) / 7,
    "mean of the last 28 days": lambda history: LASTS * sum(history) / WINDOW_DAYS,
    "most expensive of the last 7 days": lambda history: LASTS * max(history[-7:]),
    f"most expensive {STRETCH_DAYS} days in a row of the last 28": cautious,
}


def found() -> dict[str, tuple[int, float]]:
    """Return for each way in how many percent of cases the money lasted, and the median of money relative to need."""
    chance = random.Random(28)
    accounts = [spending(chance) for _ in range(ACCOUNTS)]
    results = {}
    for way, enough in WAYS.items():
        ratios = sorted(
            enough(days[at - WINDOW_DAYS : at]) / sum(days[at : at + LASTS])
            for days in accounts
            for at in range(WINDOW_DAYS, DAYS - LASTS + 1, LASTS)
        )
        lasted = sum(ratio >= 1 for ratio in ratios)
        results[way] = round(100 * lasted / len(ratios)), ratios[len(ratios) // 2]
    return results


def table() -> str:
    """Return the table of the docs."""
    lines = ["| money for 3 days, at the | lasted 3 days | money relative to need, median |", "| --- | --- | --- |"]
    lines += [f"| {way} | {percent} % | {median:.1f} |" for way, (percent, median) in found().items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
