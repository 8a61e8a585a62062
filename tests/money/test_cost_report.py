"""The cost report: every charge is in exactly one row, under its DAG, its day and its model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from logged_requests import LONG, row

from airflow_provider_aimlbilling.money.cost_report import CostReport
from airflow_provider_aimlbilling.money.time_zones import time_zone

START = datetime(2026, 11, 1, tzinfo=timezone.utc)
END = datetime(2026, 12, 1, tzinfo=timezone.utc)


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=timezone.utc)


def test_costs_are_reported_by_day_dag_and_model() -> None:
    rows = [
        *(row(1_000_000, dag="b", at=at(2)), row("0.5", dag="b", at=at(2), run="another")),
        *(row(7, dag="a", at=at(2), model="x"), row(9, dag="a", at=at(3))),
        *(row(2, client_request_id=None, at=at(3)), row(None, dag="a", at=at(2), model="y")),
    ]
    report = CostReport(START, END).add_all(rows)
    found = report.rows()
    assert json.loads(json.dumps(found)) == found
    assert [
        (one["x_day"], one["x_dag_id"], one["x_model"], one["BilledCost"], one["x_requests_without_cost"])
        for one in found
    ] == [
        ("2026-11-02", "a", "x", "0.0000035", 0),
        ("2026-11-02", "a", "y", None, 1),
        ("2026-11-02", "b", "chat", "0.50000025", 0),
        ("2026-11-03", None, "chat", "0.000001", 0),
        ("2026-11-03", "a", "chat", "0.0000045", 0),
    ]
    assert found[2] == {
        "ChargePeriodStart": "2026-11-02T00:00:00Z",
        "ChargePeriodEnd": "2026-11-03T00:00:00Z",
        "ChargeCategory": "Usage",
        "BilledCost": "0.50000025",
        "BillingCurrency": "USD",
        "ConsumedQuantity": 2,
        "ConsumedUnit": "Requests",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "AI/ML API",
        "ServiceProviderName": "AI/ML API",
        "x_day": "2026-11-02",
        "x_dag_id": "b",
        "x_model": "chat",
        "x_cost_credits": "1000000.5",
        "x_failed_requests": 0,
        "x_requests_without_outcome": 0,
        "x_requests_without_cost": 0,
        "x_input_tokens": 20,
        "x_output_tokens": 10,
    }
    totals = report.to_dict(may_be_incomplete=False)
    assert sum(Decimal(one["BilledCost"] or 0) for one in found) == Decimal(totals["cost_usd"])
    assert (totals["requests"], totals["is_lower_bound"], totals["requests_without_cost"]) == (6, True, 1)
    assert (totals["unattributed"]["requests"], totals["unattributed"]["cost_usd"]) == (1, "0.000001")


def test_days_are_those_of_the_time_zone_also_when_its_clock_changes() -> None:
    berlin = time_zone("Europe/Berlin")
    start = datetime(2026, 10, 24, 22, tzinfo=timezone.utc)
    hours = [start + timedelta(hours=hour) for hour in range(26)]
    found = CostReport(start, END, berlin).add_all(row(1, at=hour) for hour in hours).rows()
    assert [(one["x_day"], one["ConsumedQuantity"]) for one in found] == [("2026-10-25", 25), ("2026-10-26", 1)]
    assert (found[0]["ChargePeriodStart"], found[0]["ChargePeriodEnd"]) == (
        "2026-10-24T22:00:00Z",
        "2026-10-25T23:00:00Z",
    )


def test_a_row_covers_no_more_of_a_day_than_the_report() -> None:
    (found,) = CostReport(at(2, 6), at(2, 18)).add_all([row(at=at(2, 7))]).rows()
    assert (found["ChargePeriodStart"], found["ChargePeriodEnd"]) == ("2026-11-02T06:00:00Z", "2026-11-02T18:00:00Z")


@pytest.mark.parametrize("known", [True, False])
def test_a_dag_with_a_long_name_is_one_dag(known: bool) -> None:
    dag = LONG.replace(".", "_")
    rows = [row(1, "t" * length, dag=dag, run="r" * 60, at=at(2)) for length in (1, 20, 39, 60)]
    assert len({str(one.client_request_id).split(":")[1] for one in rows}) > 1
    (found,) = CostReport(START, END).add_all(rows).rows([dag, "another"] if known else [])
    assert found["ConsumedQuantity"] == 4
    assert (found["x_dag_id"] == dag) is known


def test_the_memory_does_not_grow_with_the_rows() -> None:
    def many() -> Iterator[Any]:
        one = row(1, at=at(2))
        for number in range(20_000):
            yield row(1, at=at(3), index=number % 100, run=f"run_{number % 50}") if number % 20 == 0 else one

    report = CostReport(START, END).add_all(many())
    assert (report.total.requests, len(report._tallies)) == (20_000, 2)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "UTC+1:00", None, 5])
def test_an_unknown_time_zone_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match=r"is not a time zone of this machine.*tzdata"):
        time_zone(name)


def test_utc_needs_no_time_zone_data() -> None:
    assert time_zone("UTC") is timezone.utc
