"""An event of an earlier try decides nothing: each try of a gate asks for itself."""

from __future__ import annotations

from collections.abc import Callable

from deployment import Deployment

from airflow_provider_aimlbilling.sandbox import Sandbox


def test_another_try_asks_again(
    deployment: Deployment,
    accounts: dict[str, Sandbox],
    runs: dict[str, str],
    has_noticed: Callable[..., bool],
) -> None:
    run = runs["tries"]
    ti = "select state, try_number from task_instance where run_id = ? and task_id = ?"

    def wait_for(task: str, *outcomes: tuple[str, int]) -> str:
        what = f"{task} to be one of {outcomes}"
        deployment.wait_for(what, lambda: deployment.query(ti, run, task)[:1] in [[one] for one in outcomes], 240)
        return str(deployment.query(ti, run, task)[0][0])

    def end_first_try(task: str) -> bool:
        """Wait until the worker has died. Return whether the task has to be cleared, because Airflow does not retry."""
        return wait_for(task, ("up_for_retry", 1), ("failed", 1)) == "failed"

    for task in ("dies", "refused"):
        wait_for(task, ("deferred", 1))
    accounts["dies"].top_up("5 USD")
    accounts["refused"].fail(status=401)
    to_clear = ["dies"] if end_first_try("dies") else []
    accounts["dies"].set_balance(0)  # well before the retry, which comes after 30 seconds
    to_clear += ["refused"] if end_first_try("refused") else []
    accounts["refused"].recover()
    accounts["refused"].set_balance("5 USD")
    if to_clear:  # Airflow 3.0 does not retry a task whose process was killed
        # While the scheduler ends the run, it would not notice that its tasks were cleared.
        ended = "select 1 from dag_run where run_id = ? and state = 'failed'"
        if len(to_clear) == 2:
            deployment.wait_for("the run to end", lambda: deployment.query(ended, run), seconds=120)
        cleared = {"dry_run": False, "dag_run_id": run, "task_ids": to_clear, "reset_dag_runs": True}
        deployment.post("/api/v2/dags/tries/clearTaskInstances", cleared)
    wait_for("dies", ("deferred", 2))  # the account was topped up in its first try, and is empty again
    wait_for("refused", ("success", 2))  # the key was refused in its first try, and works again
    deployment.wait_for("the scheduler to notice", lambda: has_noticed("tries", "dies", 2), 60)
    accounts["dies"].top_up("5 USD")
    wait_for("dies", ("success", 2))
