"""
# Respect the key's own spending limit

An API key can have its own limit per day, week or month. Once that is used up, jobs fail although the account still
holds money.

**What to expect:** `check` compares 1 USD with the smaller of two amounts: the balance, and what the key may still
spend. If the key's limit is the problem, `check` fails and says so. The limit resets at 00:00 UTC when its next period
starts. For a key without a limit, only the balance counts.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.operators.balance import BalanceCheckOperator

with DAG(
    dag_id="aimlbilling_key_limit",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:

    @task
    def ai_job() -> None:
        print("Spend money here.")

    BalanceCheckOperator(task_id="check", threshold="1 USD", respect_key_limit=True) >> ai_job()
