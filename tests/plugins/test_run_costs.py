"""What runs cost: which reports count, and what an odd one does."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from airflow.utils.session import create_session
from page_rows import MINUTE, NOW, change, copies, counted_queries, date_xcoms, only, push
from support import Run

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.run_cost import RunCost
from airflow_provider_aimlbilling.plugins.page.run_costs import ReportedCost, run_costs
from airflow_provider_aimlbilling.sandbox import Sandbox

WEEK = timedelta(days=7)
REPORT = RunCost("", "", NOW).to_dict(end=NOW, may_be_incomplete=True)


def found(*dag_ids: str, since: datetime = NOW - WEEK, limit: int = 100) -> tuple[list[ReportedCost], int]:
    with create_session() as session:
        return run_costs(session, only(*dag_ids), since, limit)


@pytest.fixture
def reporter(run: Run) -> Run:
    """Let the task be one that reports on a run."""
    change(run, operator="GetRunCostOperator")
    date_xcoms(run, NOW)
    return run


def report(run: Run, **fields: Any) -> dict[str, Any]:
    return REPORT | {"dag_id": run.dag_run.dag_id, "run_id": run.dag_run.run_id, "cost_credits": "5000000"} | fields


def test_a_real_report(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.operators.run_cost import GetRunCostOperator

        GetRunCostOperator(task_id="gate", estimate="0.10 USD")
        """
    )
    (reported,), left_out = found(run.dag_run.dag_id)
    assert (reported.dag_id, reported.run_id) == (run.dag_run.dag_id, run.dag_run.run_id)
    assert (reported.cost, reported.requests, reported.estimate) == (None, 0, Amount.parse("0.10 USD"))
    assert (reported.may_be_incomplete, reported.is_lower_bound, left_out) == (True, False, 0)
    assert datetime.now(timezone.utc) - reported.read_at < timedelta(minutes=10)


def test_a_task_that_is_no_report_is_skipped(run: Run) -> None:
    push(run, "return_value", report(run))
    assert found(run.dag_run.dag_id) == ([], 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"dag_id": 5},
        {"dag_id": ""},
        {"run_id": "x" * 300},
        {"requests": "7"},
        {"requests": 1.5},
        {"requests": -1},
        {"cost_credits": 5},
        {"cost_credits": "NaN"},
        {"cost_credits": "-1"},
        {"cost_credits": "5 USD"},
        {"cost_credits": "1E999999999"},
        {"cost_credits": "9" * 500},
        {"is_lower_bound": None},
        {"may_be_incomplete": "no"},
        {"estimate": {"estimated_credits": "x"}},
        {"estimate": {"estimated_credits": 5}},
        {"other": float("nan")},  # SQLite fails at it, and the other databases do not store it
    ],
)
def test_an_odd_report_is_skipped(reporter: Run, changes: dict[str, Any]) -> None:
    push(reporter, "return_value", report(reporter))
    assert len(found(reporter.dag_run.dag_id)[0]) == 1
    push(reporter, "return_value", report(reporter) | changes)
    assert found(reporter.dag_run.dag_id) == ([], 0)


@pytest.mark.parametrize("value", [None, 5, "s3://bucket/key", [1], {}, "x" * 3_000_000])
def test_an_xcom_that_is_no_report_is_skipped(reporter: Run, value: Any) -> None:
    push(reporter, "return_value", value)
    assert found(reporter.dag_run.dag_id) == ([], 0)


def test_the_last_report_on_a_run_counts(reporter: Run) -> None:
    copies(reporter, 3)
    for index in range(3):
        cost = report(reporter, cost_credits=str(index))
        push(reporter, "return_value", cost, map_index=index, at=NOW - index * MINUTE)
    (reported,), left_out = found(reporter.dag_run.dag_id)
    assert (reported.cost, reported.read_at, left_out) == (Amount(0), NOW, 0)


def test_the_most_expensive_runs_come_first_and_unknown_costs_last(reporter: Run) -> None:
    costs = ["5", None, "7000000000.5", "0", "40"]
    copies(reporter, len(costs))
    for index, cost in enumerate(costs):
        push(reporter, "return_value", report(reporter, cost_credits=cost, run_id=str(index)), map_index=index)
    reported, left_out = found(reporter.dag_run.dag_id)
    assert [row.run_id for row in reported] == ["2", "4", "0", "3", "1"]
    assert reported[0].cost == Amount(Decimal("7000000000.5"))
    assert left_out == 0
    assert [row.run_id for row in found(reporter.dag_run.dag_id, limit=2)[0]] == ["2", "4"]
    assert found(reporter.dag_run.dag_id, limit=2)[1] == 3


def test_a_report_shows_only_if_its_own_dag_and_that_of_the_run_may_be_read(reporter: Run) -> None:
    own = reporter.dag_run.dag_id
    push(reporter, "return_value", report(reporter, dag_id="another"))
    assert found(own) == ([], 0)
    assert found("another") == ([], 0)
    assert [row.dag_id for row in found(own, "another")[0]] == ["another"]


def test_only_reports_since_then_count(reporter: Run) -> None:
    push(reporter, "return_value", report(reporter))
    date_xcoms(reporter, NOW - WEEK)
    assert len(found(reporter.dag_run.dag_id, since=NOW - WEEK)[0]) == 1
    assert found(reporter.dag_run.dag_id, since=NOW - WEEK + MINUTE) == ([], 0)


def test_a_thousand_reports_take_two_queries(reporter: Run) -> None:
    push(reporter, "return_value", report(reporter))
    copies(reporter, 1000)
    with counted_queries() as queries:
        assert len(found(reporter.dag_run.dag_id)[0]) == 1
    assert len(queries) == 2
