"""
# Skip, branch or fail

Three gates that do not wait. Each one reads the balance once, acts on it, and pushes what it saw and decided as its
XCom `verdict`.

**What to expect:** with 1 USD or more in the account, `nightly_extras`, `large_model` and `must_run` run. With less,
`nightly_extras` is skipped, `small_model` runs instead of `large_model`, and `check` fails, so `must_run` does not
start. If the API cannot be reached, all three gates fail after a few tries: an unknown balance counts neither as enough
nor as too little.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.operators.balance import (
    BalanceBranchOperator,
    BalanceCheckOperator,
    BalanceShortCircuitOperator,
)

with DAG(
    dag_id="aimlbilling_skip_branch_or_fail",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:

    @task
    def nightly_extras() -> None:
        print("There is money for extras.")

    @task
    def large_model() -> None:
        print("The large model answers.")

    @task
    def small_model() -> None:
        print("The small model answers, for less.")

    @task
    def must_run() -> None:
        print("The job runs.")

    BalanceShortCircuitOperator(task_id="skip", threshold="1 USD") >> nightly_extras()

    BalanceBranchOperator(
        task_id="branch",
        threshold="1 USD",
        follow_task_ids_if_sufficient="large_model",
        follow_task_ids_if_insufficient="small_model",
    ) >> [large_model(), small_model()]

    BalanceCheckOperator(task_id="check", threshold="1 USD") >> must_run()
