"""An event of an earlier try decides nothing: each try of a gate asks for itself."""

from __future__ import annotations

from deployment import Deployment

from airflow_provider_aimlbilling.sandbox import Sandbox


def test_a_retry_asks_again(deployment: Deployment, accounts: dict[str, Sandbox], runs: dict[str, str]) -> None:
    run = runs["tries"]

    def wait_for(task: str, state: str, try_number: int) -> None:
        deployment.wait_for(
            f"{task} to be {state} in try {try_number}",
            lambda: deployment.query(
                "select 1 from task_instance where run_id = ? and task_id = ? and state = ? and try_number = ?",
                *(run, task, state, try_number),
            ),
            seconds=240,
        )

    for task in ("dies", "refused"):
        wait_for(task, "deferred", 1)
    accounts["dies"].top_up("5 USD")
    accounts["refused"].fail(status=401)
    wait_for("dies", "up_for_retry", 1)
    accounts["dies"].set_balance(0)
    wait_for("refused", "up_for_retry", 1)
    accounts["refused"].recover()
    accounts["refused"].set_balance("5 USD")
    wait_for("dies", "deferred", 2)  # the account was topped up in its first try, and is empty again
    wait_for("refused", "success", 2)  # the key was refused in its first try, and works again
    accounts["dies"].top_up("5 USD")
    wait_for("dies", "success", 2)
