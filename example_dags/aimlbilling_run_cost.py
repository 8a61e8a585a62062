"""
# What a run cost, and whether the estimate was right

Estimate a job, wait until the account can pay for it, run it, and compare the estimate with what the run really cost.
Each request carries the id of the task that sends it, so the API's log says which task spent how much.

**What to expect:** `summarize` sends one request for each document. `cost` waits until the charges have settled, and
its XCom and its log have the cost by task, map index, try and model, the estimate, and the difference. It also runs
after a failure, because failed runs cost money as well. The job uses the key of the connection; with the sandbox, it
talks to the sandbox.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import requests
from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator
from airflow_provider_aimlbilling.operators.run_cost import GetRunCostOperator
from airflow_provider_aimlbilling.request_headers import request_headers
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

MODEL = "sandbox/chat"  # it exists in the sandbox only; use an id from the vendor's catalogue
DOCUMENTS = ["A short document.", "A somewhat longer document.", "The last one."]

with DAG(
    dag_id="aimlbilling_run_cost",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    price = EstimateCostOperator(
        task_id="price", model=MODEL, requests=len(DOCUMENTS), input_tokens=8, max_output_tokens=8
    )

    gate = BalanceSensor(task_id="gate", threshold=price.output, deferrable=True, poke_interval=10, timeout=3600)

    @task(retries=2, retry_delay=timedelta(seconds=10))
    def summarize(document: str) -> str:
        connection = AimlBillingHook.get_connection("aimlbilling_default")
        response = requests.post(
            f"{connection.host or 'https://api.aimlapi.com'}/v1/chat/completions",
            json={"model": MODEL, "messages": [{"role": "user", "content": document}], "max_tokens": 8},
            headers={"Authorization": f"Bearer {connection.password}"} | request_headers(),
            timeout=60,
        )
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"])

    cost = GetRunCostOperator(
        task_id="cost",
        estimate=price.output,
        wait_until_settled=True,
        settle_seconds=120,
        deferrable=True,
        trigger_rule="all_done",
    )

    gate >> summarize.expand(document=DOCUMENTS) >> cost
