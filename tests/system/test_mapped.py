"""A gate that says no holds its job on a real scheduler, where tasks are expanded while others run."""

from __future__ import annotations

from deployment import Deployment


def test_gates_hold_in_mapped_task_groups(deployment: Deployment, runs: dict[str, str]) -> None:
    run = runs["mapped_groups"]
    deployment.wait_for(
        "the run to end",
        lambda: deployment.query("select 1 from dag_run where run_id = ? and state in ('success', 'failed')", run),
        seconds=300,
    )
    rows = deployment.query("select task_id, map_index, state from task_instance where run_id = ?", run)
    states = {(task, index): state for task, index, state in rows if task.endswith("job")}
    expected = {0: "success", 1: "skipped"}  # the account holds 2.50 USD, and the indexes require 1 and 9 USD
    jobs = [f"{group}.{job}" for group in ("skipping", "branching") for job in ("job", "eager_job")]
    assert states == {(job, index): state for job in jobs for index, state in expected.items()}


def test_a_mapped_gate_is_an_import_error(deployment: Deployment, runs: dict[str, str]) -> None:
    def errors() -> str:
        return "".join(text for (text,) in deployment.query("select stacktrace from import_error"))

    deployment.wait_for("the import error", errors, seconds=60)
    assert "BalanceShortCircuitOperator cannot be mapped" in errors()
    assert "mapped_gate.py" in "".join(name for (name,) in deployment.query("select filename from import_error"))
