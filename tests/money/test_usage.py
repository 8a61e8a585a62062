"""Calculations with ledger entries and usage."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal

import pytest

from airflow_provider_aimlbilling.money.usage import Transaction, limit_period_start, stayed_below

NOW = datetime(2026, 11, 25, 13, 5, tzinfo=timezone.utc)  # a Wednesday
CREATED = datetime(2026, 2, 3, tzinfo=timezone.utc)
PERIOD_STARTS = {
    "day": datetime(2026, 11, 25, tzinfo=timezone.utc),
    "week": datetime(2026, 11, 23, tzinfo=timezone.utc),
    "month": datetime(2026, 11, 1, tzinfo=timezone.utc),
    "no_reset": CREATED,
}


@pytest.mark.parametrize("retention", PERIOD_STARTS)
def test_a_limit_s_period_starts_at_midnight_utc(retention: str) -> None:
    assert limit_period_start(retention, CREATED, NOW) == PERIOD_STARTS[retention]


def entry(type: str, credits: int) -> Transaction:
    direction = "CHARGE" if type == "MODEL_USAGE" else "TOPUP"
    return Transaction(NOW, direction, type, credits, Decimal(0), None, None)


@pytest.mark.parametrize(
    ("newest_first", "below"),
    [
        ([], True),
        ([entry("MODEL_USAGE", 10)], True),
        ([entry("MODEL_USAGE", 95)], True),
        ([entry("MODEL_USAGE", 96)], False),
        ([entry("PAYMENT", 1)], False),
        ([entry("INIT", 1)], False),
        ([entry("MODEL_USAGE", 1), entry("PAYMENT", 1)], False),
        ([entry("BONUS", 3), entry("MODEL_USAGE", 95)], True),
        ([entry("BONUS", 3), entry("MODEL_USAGE", 99)], False),
    ],
)
def test_the_ledger_shows_whether_a_balance_stayed_below_a_threshold(
    newest_first: list[Transaction], below: bool
) -> None:
    """The account holds 4 credits, and the threshold is 100. Earlier balances follow from the ledger."""
    assert stayed_below(4, 100, newest_first) is below


def test_the_ledger_is_read_only_until_the_result_is_known() -> None:
    def ledger() -> Iterator[Transaction]:
        yield entry("PAYMENT", 1)
        raise AssertionError("one entry too many was read")

    assert not stayed_below(4, 100, ledger())
