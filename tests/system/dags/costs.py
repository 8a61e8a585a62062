"""Two requests to a model and their cost, which a deferred task reports; and a gate that waits for its budget."""

from datetime import datetime, timedelta

import requests
from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.operators.run_cost import GetRunCostOperator
from airflow_provider_aimlbilling.request_headers import request_headers
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG("costs", start_date=datetime(2026, 1, 1), schedule=None):

    @task(retries=2, retry_delay=timedelta(seconds=1))
    def job(words):
        connection = AimlBillingHook.get_connection("costs")
        requests.post(
            f"{connection.host}/v1/chat/completions",
            json={"model": "sandbox/chat", "messages": [{"role": "user", "content": words}], "max_tokens": 8},
            headers={"Authorization": f"Bearer {connection.password}"} | request_headers(),
            timeout=60,
        ).raise_for_status()

    job.expand(words=["A document.", "Another one."]) >> GetRunCostOperator(
        task_id="cost",
        aimlbilling_conn_id="costs",
        wait_until_settled=True,
        settle_seconds=3,
        deferrable=True,
    )

with DAG("budgeted", start_date=datetime(2026, 1, 1), schedule=None):
    BalanceSensor(
        task_id="gate",
        threshold="0.50 USD",
        budget="1 USD per month",
        aimlbilling_conn_id="budgeted",
        deferrable=True,
        poke_interval=1,
    )
