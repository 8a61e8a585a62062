"""
# Do not wait for a payment that will not come

Auto top-up is on, but the card has expired: the balance stays low, and an ordinary gate would wait a whole day for
nothing.

**What to expect:** `gate` waits like any other gate. It fails early if auto top-up is on, the balance has been below
auto top-up's own threshold for half an hour, and the ledger shows no payment in that time; the error says to check the
payment method. Without auto top-up, it waits until its timeout.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG(
    dag_id="aimlbilling_stuck_top_up",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    gate = BalanceSensor(
        task_id="gate",
        threshold="2 USD",
        deferrable=True,
        poke_interval=60,
        timeout=timedelta(days=1).total_seconds(),
        fail_if_topup_stuck=True,
        topup_grace=timedelta(minutes=30).total_seconds(),
    )

    @task
    def ai_job() -> None:
        print("Spend money here.")

    gate >> ai_job()
