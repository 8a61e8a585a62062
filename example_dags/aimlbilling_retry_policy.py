"""
# Retry only what can succeed

A job that calls the AI/ML API with a client of its own. The retry policy stops retries that cannot succeed. Needs
Airflow 3.3 or later.

**What to expect:** `ai_job` succeeds, and its XCom is the result of the call. If the API answers 429 or 5xx, the task
is retried after the time that the API asked for, or else after a minute. If the key is refused or the account is out
of credits, the task fails on its first try, although it has five retries; `Retry policy decision` in its log says what
to fix.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.retry_policy import AimlApiRetryPolicy

with DAG(
    dag_id="aimlbilling_retry_policy",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:

    @task(retries=5, retry_delay=timedelta(minutes=1), retry_policy=AimlApiRetryPolicy())
    def ai_job() -> str:
        # Replace this with a model call by your own client. This call uses the same key and can fail in the same ways,
        # but costs nothing.
        url = AimlBillingHook.get_connection("aimlbilling_default").host or "https://billing.aimlapi.com"
        with AimlBillingHook().get_conn() as session:
            response = session.get(f"{url}/v1/billing/balance", timeout=60)
        response.raise_for_status()
        return str(response.json()["status"])

    ai_job()
