"""
# Tell others what a gate decided

Each gate leaves what it saw and why it decided as it did in its XCom `verdict`.

**What to expect:** `gate` waits a few seconds at most, and is skipped if the account is short of 2 USD. `tell` runs
either way and hands on the reason: to a chat, a ticket, a dashboard. The gate has a button *Billing page*, and
Airflow's metrics have the balance as `aimlbilling.balance_credits.aimlbilling_default`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG(
    dag_id="aimlbilling_tell_the_verdict",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    gate = BalanceSensor(task_id="gate", threshold="2 USD", poke_interval=1, timeout=3, soft_fail=True)

    @task(trigger_rule="all_done")
    def tell(verdict: dict[str, Any]) -> str:
        missing = verdict["shortfall_credits"]
        return f"{'Short of ' + str(missing) + ' credits' if missing else 'All well'}: {verdict['reason']}"

    tell(gate.output["verdict"])
