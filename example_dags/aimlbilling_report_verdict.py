"""
# Report what a gate decided

Each gate pushes what it saw, and why it decided as it did, as its XCom `verdict`.

**What to expect:** `gate` waits a few seconds at most and is skipped if the account holds less than 2 USD. `report`
runs either way and returns the reason, ready for a chat message, a ticket or a dashboard. In the Airflow UI, the gate
has a *Billing page* button. Airflow's metrics include the balance as
`aimlbilling.balance_credits.aimlbilling_default`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG(
    dag_id="aimlbilling_report_verdict",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    gate = BalanceSensor(task_id="gate", threshold="2 USD", poke_interval=1, timeout=3, soft_fail=True)

    @task(trigger_rule="all_done")
    def report(verdict: dict[str, Any]) -> str:
        return f"{'Enough' if verdict['clears'] else 'Not enough'}: {verdict['reason']}"

    report(gate.output["verdict"])
