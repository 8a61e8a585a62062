"""
# Read the balance and pass it on

Reads the account's balance and passes it to the next task.

**What to expect:** `balance` succeeds, and its XCom is the balance; `report` prints it in credits and USD. If the
account is out of credits or the API refuses the key, `balance` fails and says what to do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.operators.balance import GetBalanceOperator

with DAG(
    dag_id="aimlbilling_push_balance",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    balance = GetBalanceOperator(task_id="balance")

    @task
    def report(seen: dict[str, Any]) -> str:
        line = f"The account holds {seen['balance']} credits, which is {seen['balance_usd']} USD."
        print(line)
        return line

    report(balance.output)
