"""Operators that read or gate without waiting: what each one does with each response, in a real DAG run."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_aimlbilling.sandbox import Sandbox

GATES = {
    "check": "gate = BalanceCheckOperator(task_id='gate', threshold='2 USD')",
    "short circuit": "gate = BalanceShortCircuitOperator(task_id='gate', threshold='2 USD')",
    "branch": (
        "gate = BalanceBranchOperator(task_id='gate', threshold='2 USD', "
        "follow_task_ids_if_sufficient='rich', follow_task_ids_if_insufficient=['poor'])"
    ),
}
DOWNSTREAM = """
@task
def rich(): ...
@task
def poor(): ...
@task(trigger_rule="none_failed_min_one_success")
def join(): ...
gate >> [rich(), poor()] >> join()
"""
INSUFFICIENT = {"below the threshold": {}, "out of credits": {"status": 403}}
STATES = {  # gate, rich, poor, join
    ("check", True): ("success", "success", "success", "success"),
    ("check", False): ("failed", "upstream_failed", "upstream_failed", "upstream_failed"),
    ("short circuit", True): ("success", "success", "success", "success"),
    ("short circuit", False): ("success", "skipped", "skipped", "skipped"),
    ("branch", True): ("success", "success", "skipped", "success"),
    ("branch", False): ("success", "skipped", "success", "success"),
}


def states(run: Any) -> tuple[str, ...]:
    return tuple(run.state(name) for name in ("gate", "rich", "poor", "join"))


@pytest.mark.parametrize("gate", GATES)
def test_gates_open_when_the_balance_meets_the_threshold(run_dag: Any, sandbox: Sandbox, gate: str) -> None:
    run = run_dag(GATES[gate] + DOWNSTREAM)
    assert states(run) == STATES[gate, True]
    assert run.xcom(key="verdict")["clears"] is True
    assert run.xcom(key="verdict")["balance"]["balance"] == 5_000_000
    assert run.xcom() == (None if gate == "branch" else run.xcom(key="verdict")["balance"])


@pytest.mark.parametrize("why", INSUFFICIENT)
@pytest.mark.parametrize("gate", GATES)
def test_gates_stay_closed_when_the_balance_is_insufficient(
    run_dag: Any, sandbox: Sandbox, gate: str, why: str
) -> None:
    sandbox.set_balance("1.50 USD")
    if INSUFFICIENT[why]:
        sandbox.fail(**INSUFFICIENT[why])
    run = run_dag(GATES[gate] + DOWNSTREAM)
    assert states(run) == STATES[gate, False]
    verdict = run.xcom(key="verdict")
    assert verdict["clears"] is False
    assert verdict["threshold_credits"] == 4_000_000
    if why == "below the threshold":
        assert verdict["shortfall_credits"] == 1_000_000
        assert verdict["balance"]["balance"] == 3_000_000
    else:
        assert verdict["shortfall_credits"] is None
        assert verdict["balance"] is None
        assert "run out of credits" in verdict["reason"]
    if gate == "check":
        assert "InsufficientBalanceError" in run.log


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("spent", ["3 USD", "3.01 USD"])
def test_gates_stay_closed_when_too_little_of_the_budget_is_left(
    run_dag: Any, sandbox: Sandbox, gate: str, spent: str
) -> None:
    sandbox.set_balance("50 USD")
    sandbox.spend(spent)
    run = run_dag(GATES[gate].replace("threshold", "budget='5 USD per month', threshold") + DOWNSTREAM)
    enough = spent == "3 USD"
    assert states(run) == STATES[gate, enough]
    verdict = run.xcom(key="verdict")
    assert (verdict["clears"], verdict["short_of"]) == (enough, None if enough else "budget")
    assert verdict["balance"]["budget"]["spent_usd"] == ("3.00" if enough else "3.01")


@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 429, "retry_after": 99}, {"body": b"[]"}])
@pytest.mark.parametrize("gate", GATES)
def test_gates_fail_when_the_balance_is_unknown(
    run_dag: Any, sandbox: Sandbox, gate: str, fault: dict[str, Any]
) -> None:
    sandbox.fail(**fault)
    run = run_dag(GATES[gate] + DOWNSTREAM)
    assert states(run) == ("failed", "upstream_failed", "upstream_failed", "upstream_failed")
    assert run.xcom(key="verdict") is None


def test_a_temporary_error_is_retried(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=503, times=2)
    assert run_dag(GATES["check"]).state() == "success"
    assert len(sandbox.requests) == 3


def test_short_circuit_can_respect_downstream_trigger_rules(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance(0)
    gate = GATES["short circuit"].replace("threshold", "ignore_downstream_trigger_rules=False, threshold")
    run = run_dag(gate + DOWNSTREAM.replace("none_failed_min_one_success", "none_failed"))
    assert states(run) == ("success", "skipped", "skipped", "success")


def test_short_circuit_does_not_skip_teardowns(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance(0)
    run = run_dag(
        GATES["short circuit"]
        + """
@task
def work(): ...
@task
def up(): ...
@task
def down(): ...
setup, job = up().as_setup(), work()
clean = down().as_teardown(setups=setup)
setup >> gate >> job >> clean
"""
    )
    assert (run.state("work"), run.state("down")) == ("skipped", "success")


@pytest.mark.parametrize("misspelt", ["'rich'", "'poor'"])
def test_branch_checks_both_lists_on_every_run(run_dag: Any, sandbox: Sandbox, misspelt: str) -> None:
    """Otherwise, the list for too little money would be checked only when the money is gone."""
    run = run_dag(GATES["branch"].replace(misspelt, "'nobody'") + DOWNSTREAM)
    assert run.state() == "failed"
    assert "'nobody' is neither a task nor a task group of the DAG" in run.log
    assert sandbox.requests == []


@pytest.mark.parametrize(("balance", "followed"), [("9 USD", "large"), (0, "small")])
def test_branch_follows_a_task_group(run_dag: Any, sandbox: Sandbox, balance: object, followed: str) -> None:
    sandbox.set_balance(balance)
    run = run_dag(
        """
from airflow.sdk import task_group
@task
def work(): ...
@task_group
def large():
    first = work.override(task_id='first')()
    first >> work.override(task_id='second')()
@task_group
def small():
    work.override(task_id='first')()
BalanceBranchOperator(
    task_id='gate', threshold='1 USD', follow_task_ids_if_sufficient='large', follow_task_ids_if_insufficient=['small']
) >> [large(), small()]
"""
    )
    other = "small" if followed == "large" else "large"
    assert (run.state(f"{followed}.first"), run.state(f"{other}.first")) == ("success", "skipped")


def test_get_balance_returns_plain_json(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag("GetBalanceOperator(task_id='gate')")
    balance = run.xcom()
    assert balance["balance"] == 5_000_000
    assert balance["balance_usd"] == "2.50"
    assert balance["low_balance"] is False
    assert balance["low_balance_threshold"] == 10_000
    assert balance["auto_debit_status"] == "disabled"
    assert "2.50 USD" in run.log


@pytest.mark.parametrize(("status", "error"), [(403, "InsufficientBalanceError"), (401, "AimlBillingAuthError")])
def test_get_balance_fails_when_no_balance_is_returned(run_dag: Any, sandbox: Sandbox, status: int, error: str) -> None:
    sandbox.fail(status=status)
    run = run_dag("GetBalanceOperator(task_id='gate')")
    assert run.state() == "failed"
    assert error in run.log


def test_gates_push_no_xcom_when_told_not_to(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag("BalanceCheckOperator(task_id='gate', threshold=1, do_xcom_push=False)")
    assert run.state() == "success"
    assert run.xcom(key="verdict") is None
