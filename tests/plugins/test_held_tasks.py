"""The tasks that a gate or a guard has held: which ones count, and how indexes of a mapped task are summed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow.utils.session import create_session
from page_rows import MINUTE, NOW, change, copies, counted_queries, only, push
from support import Run

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.plugins.page.held_tasks import HeldTask, held_tasks
from airflow_provider_aimlbilling.sandbox import Sandbox

DAY = timedelta(hours=24)
REFUSAL = Gate(Amount.parse("3 USD")).decide(Balance(5_000_000)).to_dict()
REASON = "0.50 USD missing: balance 2.50 USD, needs 3.00 USD"


def found(*runs: Run, since: datetime = NOW - DAY, limit: int = 200) -> tuple[list[HeldTask], int]:
    with create_session() as session:
        return held_tasks(session, only(*(run.dag_run.dag_id for run in runs)), since, limit)


def test_real_gates_and_guards(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def open(): require_balance("2 USD")

        @task
        def guarded(): require_balance("3 USD")

        @task
        def mapped(price): require_balance(price, skip_if_insufficient=True)

        @task
        def job(): pass

        open(), guarded(), mapped.expand(price=["1 USD", "3 USD", "4 USD"])
        BalanceCheckOperator(task_id="check", threshold="3 USD")
        BalanceCheckOperator(task_id="good", threshold="2 USD")
        BalanceShortCircuitOperator(task_id="circuit", threshold="3 USD") >> job()
        BalanceBranchOperator(
            task_id="branch", threshold="3 USD",
            follow_task_ids_if_sufficient="left", follow_task_ids_if_insufficient="right",
        ) >> [task(lambda: 1, task_id="left")(), task(lambda: 1, task_id="right")()]
        BalanceSensor(task_id="soft", threshold="3 USD", poke_interval=1, timeout=1, soft_fail=True)
        BalanceSensor(task_id="hard", threshold="3 USD", poke_interval=1, timeout=1)
        """
    )
    tasks, left_out = found(run)
    assert left_out == 0
    assert {task.task_id: (task.outcome, task.held, task.of) for task in tasks} == {
        "guarded": ("failed", 1, 1),
        "mapped": ("skipped", 2, 3),
        "check": ("failed", 1, 1),
        "circuit": ("skipped", 1, 1),
        "branch": ("branched", 1, 1),
        "soft": ("skipped", 1, 1),
        "hard": ("failed", 1, 1),
    }
    reasons = {task.task_id: task.reason for task in tasks}
    assert reasons.pop("mapped") in (REASON, "1.50 USD missing: balance 2.50 USD, needs 4.00 USD")
    assert set(reasons.values()) == {REASON}


def test_instances_are_summed_by_outcome_with_the_last_reason(run: Run) -> None:
    copies(run, 20, changes=lambda index: {"state": "success" if index == 0 else "skipped" if index < 18 else "failed"})
    for index in range(1, 20):
        push(run, "aimlbilling_verdict", REFUSAL | {"reason": f"of {index}"}, map_index=index, at=NOW - index * MINUTE)
    tasks, _ = found(run)
    assert [(task.outcome, task.held, task.of, task.reason, task.last_at) for task in tasks] == [
        ("skipped", 17, 20, "of 1", NOW - MINUTE),
        ("failed", 2, 20, "of 18", NOW - 18 * MINUTE),
    ]


@pytest.mark.parametrize("state", ["running", "deferred", "up_for_reschedule", "up_for_retry", "success", None])
def test_a_task_that_goes_on_or_succeeded_is_not_held(run: Run, state: str | None) -> None:
    for key in ("verdict", "aimlbilling_verdict"):
        push(run, key, REFUSAL)
    change(run, state=state)
    assert found(run) == ([], 0)


def test_only_what_was_held_since_then_counts(run: Run) -> None:
    change(run, state="failed")
    push(run, "verdict", REFUSAL, at=NOW - DAY)
    assert len(found(run, since=NOW - DAY)[0]) == 1
    assert found(run, since=NOW - DAY + timedelta(seconds=1)) == ([], 0)


@pytest.mark.parametrize("key", ["verdict", "aimlbilling_verdict"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        "s3://bucket/key",
        '{"clears": false}',
        [{"clears": False}],
        {"clears": False},
        {"clears": False, "x": float("nan")},
        REFUSAL | {"clears": True},
        REFUSAL | {"clears": "false"},
        REFUSAL | {"reason": ["x"]},
        REFUSAL | {"balance": "x"},
        REFUSAL | {"reason": "x" * 100_000},
        {"nested": REFUSAL},
        [REFUSAL],
    ],
)
def test_an_xcom_that_is_no_refusal_is_skipped(run: Run, key: str, value: Any) -> None:
    change(run, state="failed")
    push(run, key, value)
    assert found(run)[0] == []


@pytest.mark.parametrize(
    "budget",
    [
        5,
        {"period": "day"},
        {"period": "day", "time_zone": "x", "since": "2026-01-01", "until": "2026-01-02", "amount_credits": 1}
        | {"spent_credits": 1},
        {"period": "day", "time_zone": "UTC", "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
        | {"amount_credits": "1E999999", "spent_credits": float("nan")},
    ],
)
def test_an_odd_budget_does_not_hide_the_refusal(run: Run, budget: Any) -> None:
    change(run, state="failed")
    push(run, "verdict", REFUSAL | {"balance": {"balance": 5, "budget": budget}})
    assert len(found(run)[0]) == 1


def test_hostile_text_is_cut_and_cleaned(run: Run) -> None:
    change(run, state="failed")
    push(run, "verdict", REFUSAL | {"reason": "<script>alert(1)</script>\x1b[31m\u202e\x00" + "x" * 5_000})
    (task,), _ = found(run)
    assert len(task.reason) == 500
    assert not set(task.reason) & set("<>\x1b\u202e\x00")


def test_tasks_of_other_dags_neither_show_nor_count(run: Run) -> None:
    change(run, state="failed")
    push(run, "verdict", REFUSAL)
    with create_session() as session:
        assert held_tasks(session, only("another"), NOW - DAY) == ([], 0)


def test_ten_thousand_instances_take_three_queries(run: Run) -> None:
    push(run, "aimlbilling_verdict", REFUSAL)
    copies(run, 10_000, changes=lambda index: {"state": "skipped" if index else "success"})
    with counted_queries() as queries:
        (task,), _ = found(run)
    assert (task.held, task.of) == (9_999, 10_000)
    assert len(queries) == 3


def test_the_last_ones_come_first_and_the_rest_is_counted(run: Run) -> None:
    for key, minutes in (("verdict", 1), ("aimlbilling_verdict", 2)):
        push(run, key, REFUSAL | {"reason": key}, at=NOW - minutes * MINUTE)
    change(run, state="failed")
    tasks, left_out = found(run, limit=1)
    assert ([task.reason for task in tasks], left_out) == (["verdict"], 1)
