"""
# Keep a team to its budget

The team has an API key of its own, in the connection `aimlbilling_default`, and may spend 20 USD per week with it.

**What to expect:** while enough of the week's budget is left, `gate` opens and `ai_job` runs. Once less than 1 USD is
left, `gate` waits without a worker, and its log says how much of the budget is left. It opens by itself when the next
week begins, on Monday at midnight in Berlin. `extras` do not wait: they are skipped if less than 5 USD is left.

The budget is a parameter: trigger the DAG with a different one to try it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_aimlbilling.operators.balance import BalanceShortCircuitOperator
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG(
    dag_id="aimlbilling_budget",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={"budget": Param("20 USD per week in Europe/Berlin", type="string")},
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:

    @task
    def ai_job() -> None:
        print("Spend money here.")

    @task
    def extras() -> None:
        print("Spend some more here.")

    gate = BalanceSensor(
        task_id="gate",
        threshold="1 USD",
        budget="{{ params.budget }}",
        deferrable=True,
        poke_interval=10,
        timeout=timedelta(days=8).total_seconds(),
    )
    gate >> ai_job()

    skip_extras = BalanceShortCircuitOperator(task_id="skip_extras", threshold="5 USD", budget="{{ params.budget }}")
    skip_extras >> extras()
