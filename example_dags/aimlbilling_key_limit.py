"""
# Stay within the key's own limit

A key may have a limit of its own for a day, a week or a month. The wallet can be full, and the job fails all the
same.

**What to expect:** `check` compares 1 USD with the smaller of the balance and what the key may still spend. If the
key is the one that is short, `check` fails and says so; its period begins anew at 00:00 UTC. A key without a limit
has only the wallet to mind.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, task

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
        print("Here the money is spent.")

    BalanceCheckOperator(task_id="check", threshold="1 USD", respect_key_limit=True) >> ai_job()
