"""Spending by day and model, and one time limit for several calls."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_aimlbilling.client import AimlBillingClient
from airflow_provider_aimlbilling.client.usage_groups import UNKNOWN_MODEL, midnight, model_spending
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingUnavailable
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.usage import Spend, Usage
from airflow_provider_aimlbilling.sandbox import Sandbox

BERLIN = ZoneInfo("Europe/Berlin")
START = midnight(date(2026, 10, 20), BERLIN)
END = datetime(2026, 10, 26, 10, 30, tzinfo=timezone.utc)
USD = 2_000_000


def usage(*groups: dict[str, object], total: int = 3 * USD, end: datetime = END) -> Usage:
    return Usage(START, end, Spend(Amount(total), 1), {}, groups)


def test_spending_is_by_day_and_model_and_today_counts() -> None:
    groups = [
        {"day": "2026-10-20", "model": "a", "spend": Decimal(1)},
        {"day": "2026-10-26", "model": "a", "spend": Decimal("0.5")},
        {"day": "2026-10-26", "model": "a", "spend": Decimal("0.5")},  # of the next part of the window
        {"day": "2026-10-26", "model": None, "spend": Decimal(1)},
    ]
    assert model_spending(usage(*groups), START, END, BERLIN) == {
        (date(2026, 10, 20), "a"): Amount(USD),
        (date(2026, 10, 26), "a"): Amount(USD),
        (date(2026, 10, 26), UNKNOWN_MODEL): Amount(USD),
    }


@pytest.mark.parametrize("day", ["2026-10-19", "2026-10-27"])
def test_a_day_that_was_not_asked_for_is_refused(day: str) -> None:
    with pytest.raises(AimlBillingContractError, match="which was not asked for"):
        model_spending(usage({"day": day, "model": "a", "spend": Decimal(3)}), START, END, BERLIN)


def test_usage_may_end_a_little_early_where_that_is_said() -> None:
    early = usage(total=0, end=END - timedelta(minutes=5))
    assert model_spending(early, START, END, BERLIN, timedelta(minutes=5)) == {}
    with pytest.raises(AimlBillingContractError, match="answered for"):
        model_spending(early, START, END, BERLIN)


def test_calls_in_a_time_limit_share_it_and_cannot_extend_it(sandbox: Sandbox, client: AimlBillingClient) -> None:
    with client.time_limit(3600):
        outer = client._api.deadline
        client.get_balance(max_seconds=7200)
        assert client._api.deadline == outer
        with client.time_limit(0), pytest.raises(AimlBillingUnavailable, match="no time left"):
            client.get_top_up()
        client.get_top_up()
    assert client._api.deadline == math.inf
