"""What the estimate of how long the money lasts is made from: a day without an answer is not one without spending."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_aimlbilling.client import AimlBillingClient
from airflow_provider_aimlbilling.client.usage_groups import daily_spending
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingUnavailable
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.sandbox import Sandbox

END = datetime(2026, 11, 20, tzinfo=timezone.utc)
START = END - timedelta(days=28)


def read(sandbox: Sandbox, client: AimlBillingClient, **changes: Any) -> dict[date, Amount]:
    """Return the spending by day from an answer of the API with these fields."""
    groups = [{"day": f"2026-11-{day}", "spend": 1} for day in range(13, 20)]
    times = {"start": START.isoformat(), "end": END.isoformat()}
    answer = {**times, "currency": "USD", "spend": 7, "requests": 7, "models": [], "groups": groups}
    sandbox.fail(body=json.dumps({**answer, **changes}).encode())
    usage = client.get_usage(start=START, end=END, group_by="day", tz="UTC")
    return daily_spending(usage, START, END, timezone.utc)


@pytest.mark.parametrize("changes", [{}, {"spend": 7.0000000001}, {"spend": 7.000001, "new": 1}])
def test_the_days_are_read_exactly(sandbox: Sandbox, client: AimlBillingClient, changes: dict[str, Any]) -> None:
    assert read(sandbox, client, **changes) == {date(2026, 11, day): Amount(2_000_000) for day in range(13, 20)}


def test_a_day_in_two_parts_is_added_up(sandbox: Sandbox, client: AimlBillingClient) -> None:
    groups = [{"day": "2026-11-19", "model": model, "spend": 3.5} for model in "ab"]
    assert read(sandbox, client, groups=groups) == {date(2026, 11, 19): Amount(14_000_000)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": (START + timedelta(days=1)).isoformat()}, "are not days without spending"),
        ({"end": (END - timedelta(hours=1)).isoformat()}, "are not days without spending"),
        ({"spend": 8}, "A day may be missing"),
        ({"groups": []}, "A day may be missing"),
        ({"groups": [{"day": "2026-11-20", "spend": 7}]}, "which was not asked for"),
        ({"groups": [{"day": "2026-10-22", "spend": 7}]}, "which was not asked for"),
        ({"groups": [{"day": "0001-01-01", "spend": 7}]}, "which was not asked for"),
        ({"groups": [{"day": "yesterday", "spend": 7}]}, "a date in the field 'day'"),
        ({"groups": [{"spend": 7}]}, "no field 'day'"),
        ({"groups": [{"day": "2026-11-19"}]}, "no field 'spend'"),
        ({"groups": [{"day": "2026-11-19", "spend": True}]}, "in the field 'spend'"),
        ({"groups": [{"day": "2026-11-19", "spend": float("nan")}]}, "in the field 'spend'"),
        ({"groups": [5]}, "a list of objects"),
    ],
)
def test_an_answer_that_does_not_cover_the_window_is_refused(
    sandbox: Sandbox, client: AimlBillingClient, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(AimlBillingContractError, match=message):
        read(sandbox, client, **changes)


def test_a_day_before_the_calendar_of_a_time_zone_is_refused(sandbox: Sandbox, client: AimlBillingClient) -> None:
    answer = {"start": START.isoformat(), "end": END.isoformat(), "currency": "USD", "spend": 7, "requests": 7}
    sandbox.fail(body=json.dumps({**answer, "groups": [{"day": "0001-01-01", "spend": 7}]}).encode())
    usage = client.get_usage(start=START, end=END, group_by="day")
    with pytest.raises(AimlBillingContractError, match="which was not asked for"):
        daily_spending(usage, START, END, ZoneInfo("Europe/Berlin"))


def test_an_estimate_takes_two_requests(sandbox: Sandbox, client: AimlBillingClient) -> None:
    """Four with an earlier balance. Only the balance and the usage of a key are needed."""
    sandbox.set_balance("100 USD")
    now = datetime.now(timezone.utc)
    for ago in range(1, 12):
        sandbox.spend("1 USD", at=now - timedelta(days=ago))
    client.get_runway()
    paths = [request.path.partition("?")[0] for request in sandbox.requests]
    assert paths == ["/v1/billing/balance", "/v2/usage/detail"]
    client.get_runway(earlier=(now - timedelta(days=1), Amount(10**9)))
    paths = [request.path.partition("?")[0] for request in sandbox.requests[4:]]
    assert paths == ["/v2/billing/transactions", "/v2/usage"]


def test_an_earlier_balance_of_zero_says_nothing_about_others(sandbox: Sandbox, client: AimlBillingClient) -> None:
    """The account may have been overdrawn, so the difference is not what others spent."""
    sandbox.set_balance("100 USD")
    now = datetime.now(timezone.utc)
    for ago in range(1, 12):
        sandbox.spend("1 USD", at=now - timedelta(days=ago))
    assert client.get_runway(earlier=(now - timedelta(days=1), Amount(0))).others is None


def test_an_unknown_balance_is_not_a_balance_of_zero(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.fail(status=503)
    with pytest.raises(AimlBillingUnavailable):
        client.get_runway()


def test_an_unknown_time_zone_is_refused_before_any_request(sandbox: Sandbox, client: AimlBillingClient) -> None:
    for zone in ("Mars/Olympus", "", "../UTC", None):
        with pytest.raises(ValueError, match="IANA name"):
            client.get_runway(tz=zone)  # type: ignore[arg-type]
    assert not sandbox.requests
