"""Gates that start in the triggerer on a real Airflow: the right threshold, the right XCom, and a worker if needed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from deployment import Deployment
from support import AIRFLOW

from airflow_provider_aimlbilling.sandbox import Sandbox

AIRFLOW_3_3 = not AIRFLOW.startswith(("2.", "3.0", "3.1", "3.2"))
# Waits for more than the account ever holds.
STAYS_CLOSED = ("mapped", 1)


def gates(deployment: Deployment, run: str) -> dict[tuple[str, int], str]:
    """Return the state of each gate of a run, by task id and map index."""
    rows = deployment.query("select task_id, map_index, state from task_instance where run_id = ?", run)
    return {(task, index): state for task, index, state in rows if task != "price"}


def used_worker(deployment: Deployment, run: str) -> set[bool]:
    """Return whether tasks of a run were ever given to a worker."""
    rows = deployment.query("select queued_dttm is not null from task_instance where run_id = ?", run)
    return {bool(queued) for (queued,) in rows}


def test_gates_open_at_their_own_threshold_without_a_worker_where_possible(
    deployment: Deployment, accounts: dict[str, Sandbox], runs: dict[str, str]
) -> None:
    account = accounts["started"]
    run, with_worker = runs["no_worker"], runs["needs_worker"]

    def all_are(state: str) -> bool:
        states, others = gates(deployment, run), gates(deployment, with_worker)
        others.pop(STAYS_CLOSED, None)
        return (len(states), len(others)) == (12, 6) and {*states.values(), *others.values()} == {state}

    deployment.wait_for("deferred gates", lambda: all_are("deferred"), seconds=240)
    account.set_balance("0.99 USD")
    opens_below_1_usd = {("connection", -1), ("low_balance", -1)}
    deployment.wait_for(
        "the gates with a lower threshold to open",
        lambda: {gate for gate, state in gates(deployment, run).items() if state == "success"} == opens_below_1_usd,
        seconds=120,
    )
    before = len(account.requests)
    deployment.wait_for("three more polls", lambda: len(account.requests) >= before + 9, seconds=60)
    assert {gate for gate, state in gates(deployment, run).items() if state != "deferred"} == opens_below_1_usd
    account.set_balance("1 USD")
    # By now the first two have succeeded.
    deployment.wait_for("open gates", lambda: all_are("success"), seconds=240)

    assert used_worker(deployment, run) == {not AIRFLOW_3_3}
    assert used_worker(deployment, with_worker) == {True}
    assert gates(deployment, with_worker)[STAYS_CLOSED] == "deferred"
    for task, _ in gates(deployment, run):
        xcom = deployment.xcom(run, task)
        if task == "no_xcom":
            assert xcom is None
        else:
            assert xcom["balance"] == (1_980_000 if (task, -1) in opens_below_1_usd else 2_000_000), task


@pytest.mark.skipif(not AIRFLOW_3_3, reason="no gate starts in the triggerer before Airflow 3.3")
def test_a_cleared_gate_waits_without_the_xcom_of_its_last_try(
    deployment: Deployment, accounts: dict[str, Sandbox], runs: dict[str, str]
) -> None:
    run = runs["no_worker"]
    accounts["started"].set_balance(0)
    # The scheduler would otherwise end the run after the gate has been cleared, and never look at it again.
    deployment.wait_for(
        "the run to end",
        lambda: deployment.query("select 1 from dag_run where run_id = ? and state = 'success'", run),
        seconds=60,
    )
    cleared = {"dry_run": False, "dag_run_id": run, "task_ids": ["literal"], "reset_dag_runs": True}
    deployment.post("/api/v2/dags/no_worker/clearTaskInstances", cleared | {"only_failed": False})
    deployment.wait_for(
        "a cleared gate to wait without its XCom",
        lambda: deployment.states(run)["literal"] == "deferred" and deployment.xcom(run, "literal") is None,
        seconds=120,
    )


def test_the_log_says_why_a_gate_uses_a_worker(
    deployment: Deployment, runs: dict[str, str], wait_for_logs: Callable[..., str]
) -> None:
    gates_ready = lambda: len(gates(deployment, runs["needs_worker"])) == 7  # noqa: E731
    deployment.wait_for("all gates", gates_ready, seconds=240)
    reasons = ["it needs Airflow 3.3 or later"]
    if AIRFLOW_3_3:
        reasons = ["can render the threshold", "uses 'ti'", "uses 'macros'", "outlets", "on_success_callback"]
        reasons += ["the task is mapped"]
    wait_for_logs("needs_worker", *reasons)


@pytest.mark.skipif(not AIRFLOW_3_3, reason="before Airflow 3.3 each gate has a worker, as in the other tests")
def test_a_gate_that_does_not_open_ends_on_a_worker(
    deployment: Deployment, runs: dict[str, str], wait_for_logs: Callable[..., str]
) -> None:
    """Flags and errors mean the same as in the other modes: only a success ends in the triggerer."""
    expected = {"skipped": "skipped", "timed_out": "failed", "bad_threshold": "failed", "refused": "failed"}
    run = runs["does_not_open"]
    deployment.wait_for("the gates to end", lambda: deployment.states(run) == expected, seconds=240)
    wait_for_logs(
        "does_not_open",
        "Timed out after 4 seconds",
        "'3 EUR' is not an amount of money",
        "AimlBillingAuthError",
    )
