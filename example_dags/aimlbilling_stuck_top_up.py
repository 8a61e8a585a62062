"""
# Do not wait for a payment that will not come

Auto top-up is on, and the card has expired: the balance stays below its mark, and a gate would wait for a day in vain.

**What to expect:** `gate` waits as any gate does. When auto top-up is on, the balance has been below auto top-up's own
mark for half an hour, and the ledger shows no payment, it fails at once and says to look at the means of payment.
Without auto top-up it waits until its time is up.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

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
        print("Here the money is spent.")

    gate >> ai_job()
