"""GetUsageOperator: by default the run's own data interval, exact, and honest about what may be missing."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from support import AIRFLOW_3, KEY

from airflow_provider_aimlbilling.sandbox import Sandbox

NOW = datetime.now(timezone.utc)
HEAD = """
    from airflow_provider_aimlbilling.operators.usage import GetUsageOperator

"""


def report(run_dag: Any, arguments: str, options: str = "", **test_arguments: Any) -> Any:
    return run_dag(f"{HEAD}    GetUsageOperator(task_id='gate', {arguments})", options, **test_arguments)


def test_the_usage_of_a_window_is_reported_by_model(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("50 USD")
    start, end = NOW - timedelta(hours=9), NOW - timedelta(hours=2)
    for hours, usd, model in ((8, "1.25 USD", "a"), (7, "0.0000005 USD", "b"), (3, "3 USD", "b"), (1, "7 USD", "a")):
        sandbox.spend(usd, model, at=NOW - timedelta(hours=hours))
    run = report(run_dag, f"start='{start.isoformat()}', end='{end.isoformat()}'")
    assert run.xcom() == {
        "start": start.isoformat(timespec="milliseconds"),
        "end": end.isoformat(timespec="milliseconds"),
        "spend_usd": "4.2500005",
        "spend_credits": "8500001",
        "requests": 3,
        "models": [
            {"model": "b", "spend_usd": "3.0000005", "spend_credits": "6000001", "requests": 2},
            {"model": "a", "spend_usd": "1.25", "spend_credits": "2500000", "requests": 1},
        ],
        "may_be_incomplete": False,
    }
    assert "spent 8,500,001 credits (4.2500005 USD) in 3 requests" in run.log
    assert KEY not in run.log


def test_the_connection_id_is_templated_and_selects_the_account(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox("9 USD", key="another-key-0123") as another:
        another.spend("1 USD", "a", at=NOW - timedelta(hours=3))
        monkeypatch.setenv("AIRFLOW_CONN_ANOTHER", another.connection())
        run = report(run_dag, "start='2026-01-01', end='2026-02-01', aimlbilling_conn_id=\"{{ 'an' + 'other' }}\"")
        assert run.state() == "success"
        assert (len(another.requests), len(sandbox.requests)) == (1, 0)


def test_the_default_window_is_the_run_s_data_interval(run_dag: Any, sandbox: Sandbox) -> None:
    day = datetime(2026, 11, 1, tzinfo=timezone.utc)
    sandbox.set_balance("50 USD")
    for hours, model in ((-1, "before"), (1, "in"), (23, "in"), (25, "after")):
        sandbox.spend("1 USD", model, at=day + timedelta(hours=hours))
    # A manual run gets the latest interval that has ended.
    date = {"logical_date" if AIRFLOW_3 else "execution_date": day + timedelta(days=1)}
    daily = "__import__('airflow.timetables.interval').timetables.interval.CronDataIntervalTimetable('@daily', 'UTC')"
    run = run_dag(f"{HEAD}    GetUsageOperator(task_id='gate')", schedule=daily, **date)
    usage = run.xcom()
    assert [(part["model"], part["spend_usd"]) for part in usage["models"]] == [("in", "2.00")]
    assert (usage["start"][:10], usage["end"][:10]) == ("2026-11-01", "2026-11-02")


@pytest.mark.parametrize(("minutes_ago", "incomplete"), [(0, True), (59, True), (61, False)])
def test_a_window_that_ended_within_the_last_hour_may_be_incomplete(
    run_dag: Any, sandbox: Sandbox, minutes_ago: int, incomplete: bool
) -> None:
    end = datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)
    run = report(run_dag, f"start='2026-11-01', end='{end.isoformat()}'")
    assert run.xcom()["may_be_incomplete"] is incomplete
    assert ("latest charges may be missing" in run.log) is incomplete


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("start='2026-11-02', end='2026-11-01'", "is before its start"),
        ("start='2126-11-02', end='2126-11-03'", "starts in the future"),
        ("start='2026-11-01', end='2026-11-01'", "is empty"),
        ("start='yesterday', end='2026-11-01'", "which is not a time"),
        ("start='', end='2026-11-01'", "which is not a time"),
        ("end='2026-11-01'", "Set start as well"),
        ("start='0001-01-01T00:00:00+05:00'", "out of range"),
        ("start=5, end='2026-11-01'", "which is not a time"),
    ],
)
def test_an_invalid_window_fails_before_any_request(
    run_dag: Any, sandbox: Sandbox, arguments: str, message: str
) -> None:
    run = report(run_dag, arguments)
    assert run.state() == "failed"
    assert message in run.log
    assert not sandbox.requests


def test_a_run_without_a_data_interval_fails_and_names_the_parameters_to_set(run_dag: Any, sandbox: Sandbox) -> None:
    """It must never report that nothing was spent in an empty window."""
    run = report(run_dag, "")
    assert run.state() == "failed"
    assert "Set start." in run.log
    assert not sandbox.requests


def test_the_hour_that_the_clock_repeats_is_told_apart(run_dag: Any, sandbox: Sandbox) -> None:
    times = "datetime(2026, 10, 25, 2, 10, fold=%d, tzinfo=__import__('zoneinfo').ZoneInfo('Europe/Berlin'))"
    usage = report(run_dag, f"start={times % 0}, end={times % 1}").xcom()
    assert (usage["start"][:16], usage["end"][:16]) == ("2026-10-25T00:10", "2026-10-25T01:10")
    backwards = report(run_dag, f"start={times % 1}, end={times % 0}")
    assert backwards.state() == "failed"
    assert "is before its start" in backwards.log


def test_the_window_ends_now_by_default(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("50 USD")
    sandbox.spend("1 USD", "a", at=datetime.now(timezone.utc) - timedelta(minutes=5))
    usage = report(run_dag, "start='2026-11-01'").xcom()
    assert (usage["spend_usd"], usage["may_be_incomplete"]) == ("1.00", True)
    assert datetime.now(timezone.utc) - datetime.fromisoformat(usage["end"]) < timedelta(minutes=2)


@pytest.mark.parametrize("seconds", [0, 60, -1800], ids=["now", "clock ahead", "half an hour ago"])
@pytest.mark.parametrize("end", [False, True])
def test_a_month_that_has_just_begun_is_reported_as_nothing_spent_so_far(
    run_dag: Any, sandbox: Sandbox, seconds: int, end: bool
) -> None:
    start = (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()
    if not end:  # rendered just before the task executes: it may take seconds to get that far
        start = f"{{{{ (macros.datetime.now().astimezone() + macros.timedelta(seconds={seconds})).isoformat() }}}}"
    run = report(run_dag, f"start='{start}'" + (f", end='{start}'" if end else ""))
    usage = run.xcom()
    assert (usage["spend_usd"], usage["spend_credits"], usage["requests"]) == ("0.00", "0", 0)
    assert (usage["models"], usage["may_be_incomplete"]) == ([], True)
    assert len(sandbox.requests) == (seconds < 0 and not end), "an empty window needs no request"


def test_an_empty_xcom_does_not_fall_back_to_the_data_interval(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.operators.usage import GetUsageOperator

        @task
        def since():
            return None

        GetUsageOperator(task_id="gate", start=since(), end="2026-11-02")
        """
    )
    assert run.state() == "failed"
    assert "start is 'None', which is not a time" in run.log
    assert not sandbox.requests


def test_start_and_end_are_templated(run_dag: Any, sandbox: Sandbox) -> None:
    run = report(run_dag, "start='{{ params.since }}', end='2026-11-02T00:00:00Z', params={'since': '2026-11-01'}")
    assert run.xcom()["start"] == "2026-11-01T00:00:00.000+00:00"
