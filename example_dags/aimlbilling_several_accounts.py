"""
# One gate for several accounts

A mapped gate: one task instance per connection, each with its team's threshold.

**What to expect:** the gate has two mapped task instances, for `aimlbilling_research` and `aimlbilling_production`.
Each one succeeds when its own account reaches its own threshold. `summary` runs when both have succeeded, and receives
both balances. Create the connections `aimlbilling_research` and `aimlbilling_production` first.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

ACCOUNTS = [
    {"aimlbilling_conn_id": "aimlbilling_research", "threshold": "0.50 USD"},
    {"aimlbilling_conn_id": "aimlbilling_production", "threshold": "5 USD"},
]

with DAG(
    dag_id="aimlbilling_several_accounts",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    gates = BalanceSensor.partial(task_id="gate", deferrable=True, poke_interval=10, timeout=3600).expand_kwargs(
        ACCOUNTS
    )

    @task
    def summary(balances: list[dict[str, Any]]) -> list[str]:
        return [f"{balance['balance_usd']} USD" for balance in balances]

    summary(gates.output)
