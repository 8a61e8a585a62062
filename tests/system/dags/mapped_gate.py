"""A gate that is mapped itself. Airflow would not apply its skips, so this file must not load."""

from datetime import datetime

from airflow.sdk import DAG

from airflow_provider_aimlbilling.operators.balance import BalanceShortCircuitOperator

with DAG("mapped_gate", start_date=datetime(2026, 1, 1), schedule=None):
    BalanceShortCircuitOperator.partial(task_id="gate").expand(threshold=["9 USD", "9 USD"])
