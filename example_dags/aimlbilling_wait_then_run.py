"""
# Wait for the money, then run the AI job

The pre-flight gate: the job starts when the account holds what it may cost, and not before.

**What to expect:** with enough on the account, all three tasks succeed within seconds. With too little, `gate` is
deferred: it holds no worker slot, and its log says what the account has and what is missing. Top the account up, and
it opens within `poke_interval`. After a day without money it fails with the last balance seen.

The job's price is a parameter: trigger the DAG with another `threshold` to try it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

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
        # Here the money is spent: a call of the AI/ML API through its OpenAI-compatible client, for instance.
        return f"ran with {balance['balance_usd']} USD on the account"

    @task
    def publish(result: str) -> None:
        print(f"The job {result}.")

    publish(ai_job(gate.output))
