"""GetCostReportOperator in DAG runs: every charge of the window is in exactly one row."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from support import KEY

from airflow_provider_aimlbilling.money.request_id import encode_request_id
from airflow_provider_aimlbilling.sandbox import Fault, Sandbox

DAY = datetime(2026, 11, 2, tzinfo=timezone.utc)
HEAD = """
    from airflow_provider_aimlbilling.operators.cost_report import GetCostReportOperator

"""
WINDOW = "start='2026-11-01', end='2026-11-05T00:00:00Z'"


def report(run_dag: Any, arguments: str) -> Any:
    return run_dag(f"{HEAD}    GetCostReportOperator(task_id='gate', {arguments})")


def spend(sandbox: Sandbox, usd: str, dag: str | None, hours: float, model: str = "a") -> None:
    text = dag and encode_request_id(dag, "run", "task", -1, 1)
    sandbox.spend(f"{usd} USD", model, at=DAY + timedelta(hours=hours), client_request_id=text)


def test_costs_are_rows_by_day_dag_and_model(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("50 USD")
    for charge in [
        *(("1.25", "nightly", 1), ("0.5", "nightly", 2), ("3", "nightly", 25), ("0.25", "hourly", 3)),
        *(("7", None, 4), ("9", "nightly", -49), ("9", "nightly", 73)),
    ]:
        spend(sandbox, *charge)
    spend(sandbox, "2", "nightly", 1, model="b")
    run = report(run_dag, WINDOW)
    rows, summary = run.xcom(), run.xcom(key="summary")
    assert [
        (row["ChargePeriodStart"], row["x_dag_id"], row["x_model"], row["BilledCost"], row["ConsumedQuantity"])
        for row in rows
    ] == [
        ("2026-11-02T00:00:00Z", None, "a", "7.00", 1),
        ("2026-11-02T00:00:00Z", "hourly", "a", "0.25", 1),
        ("2026-11-02T00:00:00Z", "nightly", "a", "1.75", 2),
        ("2026-11-02T00:00:00Z", "nightly", "b", "2.00", 1),
        ("2026-11-03T00:00:00Z", "nightly", "a", "3.00", 1),
    ]
    assert summary["cost_usd"] == str(sum(Decimal(row["BilledCost"]) for row in rows)) == "14.00"
    assert (summary["requests"], summary["unattributed"]["cost_usd"]) == (6, "7.00")
    assert (summary["is_lower_bound"], summary["may_be_incomplete"]) == (False, False)
    assert "28,000,000 credits (14.00 USD) for 6 requests, in 5 rows." in run.log
    assert "Requests that name no task: 14,000,000 credits (7.00 USD) for 1 request." in run.log
    assert KEY not in run.log


def test_days_are_those_of_the_time_zone(run_dag: Any, sandbox: Sandbox) -> None:
    spend(sandbox, "1", "nightly", 22)
    (utc,) = report(run_dag, WINDOW).xcom()
    (tokyo,) = report(run_dag, f"{WINDOW}, timezone='{{{{ params.zone }}}}', params={{'zone': 'Asia/Tokyo'}}").xcom()
    assert (utc["x_day"], tokyo["x_day"]) == ("2026-11-02", "2026-11-03")
    assert tokyo["ChargePeriodStart"] == "2026-11-02T15:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"{WINDOW}, timezone='Mars'", "'Mars' is not a time zone of this machine"),
        ("", "Set start."),
        ("start='0001-01-01'", "before the API had a request log"),
        ("start='2026-11-02', end='2026-11-01'", "is before its start"),
        ("start=\"{{ params.get('x') }}\", end='2026-11-02'", "start is 'None', which is not a time"),
    ],
)
def test_invalid_input_fails_before_any_request(run_dag: Any, sandbox: Sandbox, arguments: str, message: str) -> None:
    run = report(run_dag, arguments)
    assert run.state() == "failed"
    assert message in run.log
    assert not sandbox.requests


def test_a_429_in_the_middle_loses_and_doubles_no_row(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.set_balance("50 USD")
    for number in range(250):
        spend(sandbox, "0.01", "nightly", number / 10)

    def take_fault() -> Fault | None:
        return Fault(status=429, retry_after=1) if len(sandbox.requests) == 2 else None

    monkeypatch.setattr(sandbox, "take_fault", take_fault)
    run = report(run_dag, WINDOW)
    assert run.xcom(key="summary")["cost_usd"] == "2.50"
    assert sum(row["ConsumedQuantity"] for row in run.xcom()) == 250


def test_a_window_that_has_just_begun_is_an_empty_report_without_a_request(run_dag: Any, sandbox: Sandbox) -> None:
    # Rendered just before the task executes: it may take seconds to get that far.
    run = report(run_dag, "start='{{ macros.datetime.now().astimezone().isoformat() }}'")
    assert run.xcom() == []
    assert (run.xcom(key="summary")["cost_usd"], run.xcom(key="summary")["may_be_incomplete"]) == ("0.00", True)
    assert not sandbox.requests
