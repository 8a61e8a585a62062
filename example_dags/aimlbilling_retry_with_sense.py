"""
# Retry with sense

A job that calls the AI/ML API with a client of its own, and spends its retries on what passes by itself. Needs Airflow
3.3 or newer.

**What to expect:** `ai_job` succeeds, and its XCom is what the call gave. If the API answers 429 or 5xx, it is up for
retry for as long as the API asked, or else for a minute. With a refused key or used-up credits it fails at the first
try, though it has five retries, and `Retry policy decision` in its log says what to mend.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.retry_policy import AimlApiRetryPolicy

with DAG(
    dag_id="aimlbilling_retry_with_sense",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:

    @task(retries=5, retry_delay=timedelta(minutes=1), retry_policy=AimlApiRetryPolicy())
    def ai_job() -> str:
        # Stands in for the call of a model by the client of your choice: the same key, the same errors, and no cost.
        url = AimlBillingHook.get_connection("aimlbilling_default").host or "https://billing.aimlapi.com"
        with AimlBillingHook().get_conn() as session:
            answer = session.get(f"{url}/v1/billing/balance", timeout=60)
        answer.raise_for_status()
        return str(answer.json()["status"])

    ai_job()
