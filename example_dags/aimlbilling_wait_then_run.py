"""
# Wait for the money, then run the AI job

The job starts only once the account holds enough to cover what the job may cost.

**What to expect:** with enough money in the account, all three tasks succeed within seconds. With too little, `gate` is
deferred: it holds no worker slot, and its log shows the balance and the shortfall. Top up the account, and the gate
opens within `poke_interval`. After a day without enough money it fails, and reports the last balance it saw.

The job's price is a parameter: trigger the DAG with a different `threshold` to try it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG(
    dag_id="aimlbilling_wait_then_run",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={"threshold": Param("2.50 USD", type="string", description="credits, or dollars such as '2.50 USD'")},
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    gate = BalanceSensor(
        task_id="gate",
        threshold="{{ params.threshold }}",
        deferrable=True,
        poke_interval=10,
        timeout=timedelta(days=1).total_seconds(),
    )

    @task
    def ai_job(balance: dict[str, Any]) -> str:
        # Spend money here, for example by calling the AI/ML API through its OpenAI-compatible client.
        return f"ran with {balance['balance_usd']} USD in the account"

    @task
    def publish(result: str) -> None:
        print(f"The job {result}.")

    publish(ai_job(gate.output))
