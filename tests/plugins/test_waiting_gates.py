"""The gates that wait: which ones are found, and what is known about them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.utils.session import create_session
from page_rows import (
    MINUTE,
    NOW,
    change,
    copies,
    counted_queries,
    defer,
    only,
    push,
    reschedule,
    trigger_row,
)
from support import AIRFLOW, Run

from airflow_provider_aimlbilling.plugins.page.waiting_gates import WaitingGate, waiting_gates
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger


def found(*runs: Run, limit: int = 500) -> tuple[list[WaitingGate], int]:
    with create_session() as session:
        return waiting_gates(session, only(*(run.dag_run.dag_id for run in runs)), limit)


def the_gate(run: Run) -> WaitingGate:
    (gate,), left_out = found(run)
    assert left_out == 0
    assert (gate.dag_id, gate.run_id, gate.task_id) == (run.dag_run.dag_id, run.dag_run.run_id, "gate")
    assert gate.map_index is None
    return gate


@pytest.mark.parametrize(
    "state", ["success", "failed", "skipped", "up_for_retry", "scheduled", "queued", "removed", None]
)
def test_a_gate_in_another_state_does_not_wait(run: Run, state: str | None) -> None:
    change(run, state=state)
    assert found(run) == ([], 0)


def test_a_deferred_gate_tells_what_its_trigger_was_given(run: Run) -> None:
    trigger = BalanceTrigger(
        "another", "6000000 credits", 60, 1.0, respect_key_limit=True, budget="5 USD per day", last_seen="low"
    )
    defer(run, trigger, start_date=NOW - MINUTE, trigger_timeout=NOW + timedelta(hours=1))
    gate = the_gate(run)
    assert (gate.state, gate.since) == ("deferred", NOW - MINUTE)
    assert gate.deadline == NOW + timedelta(hours=1) - timedelta(minutes=2) - timedelta(minutes=5)
    facts = gate.facts
    assert (facts.connection_id, facts.asks, facts.budget_text) == ("another", "3.00 USD", "5.00 USD per day")
    assert (facts.respects_key_limit, facts.last_seen) == (True, "low")
    assert gate.verdict is not None  # of the worker, before it deferred


def test_a_rescheduled_gate_waits_since_its_first_poke(run: Run) -> None:
    reschedule(run, [NOW - 30 * MINUTE, NOW - 20 * MINUTE, NOW - MINUTE])
    gate = the_gate(run)
    assert (gate.state, gate.since, gate.deadline) == ("up_for_reschedule", NOW - 30 * MINUTE, None)
    facts = gate.facts
    assert (facts.connection_id, facts.asks) == ("aimlbilling_default", "2.00 USD")
    assert (facts.budget_text, facts.respects_key_limit) == ("200.00 USD per month", None)
    assert gate.verdict is not None
    assert gate.verdict.had_key_limit is False
    assert str(gate.verdict.budget) == "200.00 USD left of the budget of 200.00 USD per month"


@pytest.mark.parametrize(
    "operator", ["BalanceSensor", "BalanceCheckOperator", "BalanceShortCircuitOperator", "BalanceBranchOperator"]
)
def test_a_running_gate_is_found_by_its_operator(run: Run, operator: str) -> None:
    change(run, state="running", operator=operator, start_date=NOW)
    gate = the_gate(run)
    assert (gate.state, gate.since, gate.facts.asks) == ("running", NOW, "2.00 USD")


def test_a_running_task_that_is_no_gate_is_not_found(run: Run) -> None:
    change(run, state="running", operator="PythonOperator")
    assert found(run) == ([], 0)


def test_a_task_that_waits_for_another_trigger_is_not_found(run: Run) -> None:
    other = trigger_row({"threshold": "5"}, "airflow_provider_aimlbilling.triggers.run_cost.RunCostTrigger")
    change(run, state="deferred", trigger_id=other)
    assert found(run) == ([], 0)


@pytest.mark.parametrize(
    ("threshold", "asks"),
    [
        ("2.5 USD", "2.50 USD"),
        ("{{ params.need }}", "{{ params.need }}"),
        (None, "the account's own low-balance threshold"),
    ],
)
def test_a_gate_that_starts_in_the_triggerer(run: Run, threshold: str | None, asks: str) -> None:
    """Its trigger has no deadline. It follows from Airflow's own timeout, as the trigger derives it."""
    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
    from airflow_provider_aimlbilling.waiting.deferral import deferral_timeout

    arguments: dict[str, Any] = {"threshold": threshold, "aimlbilling_conn_id": "a", "deadline": None}
    arguments |= {"poke_interval": 30.0, "end_from_trigger": True}
    if AIRFLOW.startswith("3.3") and threshold != "{{ params.need }}":
        options: dict[str, Any] = {} if threshold is None else {"threshold": threshold}
        sensor = BalanceSensor(
            task_id="x", aimlbilling_conn_id="a", deferrable=True, start_from_trigger=True, poke_interval=30, **options
        )
        arguments = sensor.start_trigger_args.trigger_kwargs
    timeout = NOW + deferral_timeout(3600, 30)
    defer(run, arguments, start_date=NOW, trigger_timeout=timeout)
    gate = the_gate(run)
    assert (gate.facts.asks, gate.facts.connection_id) == (asks, "a")
    assert (gate.facts.gate is None) is (asks == threshold)
    assert gate.deadline == NOW + timedelta(hours=1)
    assert gate.facts.respects_key_limit is False
    assert gate.facts.budget_text is None


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"threshold": ["5"], "aimlbilling_conn_id": 5, "poke_interval": "x", "budget": {"a": 1}, "last_seen": 5},
        {"threshold": True, "aimlbilling_conn_id": None, "poke_interval": float("nan"), "budget": ""},
        {"threshold": "9" * 99, "aimlbilling_conn_id": "a" * 999, "poke_interval": 1e308, "budget": "5 USD per year"},
        {"threshold": "NaN USD", "aimlbilling_conn_id": "{{ params.a }}", "poke_interval": True},
    ],
)
def test_odd_arguments_of_a_trigger_are_not_known(run: Run, arguments: dict[str, Any]) -> None:
    defer(run, arguments, trigger_timeout=NOW)
    gate = the_gate(run)
    assert gate.facts.connection_id is None
    assert gate.deadline is None
    assert gate.facts.budget is None
    assert (gate.facts.gate is None) is (arguments != {})
    assert len(gate.facts.asks) <= 100


def test_a_trigger_of_another_fernet_key_does_not_hide_the_gate(run: Run) -> None:
    from airflow.models.trigger import Trigger
    from sqlalchemy import update

    number = trigger_row(BalanceTrigger("a", "5", 1, None))
    change(run, state="deferred", trigger_id=number)
    with create_session() as session:
        session.execute(update(Trigger).where(Trigger.id == number).values(encrypted_kwargs="gAAAAAbroken"))
    assert the_gate(run).facts.asks == "not known"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "s3://bucket/key",
        7,
        [1],
        {"clears": False},
        {"clears": "no", "reason": 5, "balance": []},
        float("nan"),
        {"clears": False, "reason": "x" * 100_000},
    ],
)
def test_an_xcom_that_is_no_verdict_is_skipped(run: Run, value: Any) -> None:
    push(run, "verdict", value)
    change(run, state="running")
    gate = the_gate(run)
    assert gate.verdict is None
    assert gate.facts.asks == "2.00 USD"


def test_gates_of_other_dags_neither_show_nor_count(run: Run) -> None:
    change(run, state="running")
    asked: list[str] = []
    with create_session() as session:

        def none_of_them(names: Any) -> set[str]:
            asked.extend(names)
            return set()

        assert waiting_gates(session, none_of_them) == ([], 0)
        assert waiting_gates(session, only("another")) == ([], 0)
    assert run.dag_run.dag_id in asked


def test_the_longest_waits_come_first_and_the_rest_is_counted(run: Run) -> None:
    copies(run, 9, changes=lambda index: {"state": "running", "start_date": NOW - index * MINUTE})
    gates, left_out = found(run, limit=4)
    assert [gate.map_index for gate in gates] == [8, 7, 6, 5]
    assert left_out == 5
    assert found(run, limit=9)[1] == 0


def test_five_hundred_gates_take_as_many_queries_as_one(run: Run) -> None:
    numbers = [trigger_row(BalanceTrigger("a", f"{index + 1} USD", 60, 1.0)) for index in range(500)]
    copies(run, 500, changes=lambda index: {"state": "deferred", "trigger_id": numbers[index], "trigger_timeout": NOW})
    with counted_queries() as queries:
        gates, left_out = found(run)
    assert (len(gates), left_out) == (500, 0)
    assert {gate.facts.asks for gate in gates} == {f"{index + 1}.00 USD" for index in range(500)}
    assert len(queries) == 2
