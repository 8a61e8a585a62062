"""
# Hold the rest when the money is gone

Ten jobs that each cost something, guarded one by one: the check stands in the same task as the spending.

**What to expect:** with enough on the account all ten run. When it holds less than the threshold, the jobs that are
left are skipped before they spend anything, and `count` says how many ran. Put the jobs into a pool of few slots:
jobs that begin at the same moment all see the same money.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_aimlbilling.guard import require_balance

with DAG(
    dag_id="aimlbilling_guard_mapped_jobs",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:

    @task(pre_execute=require_balance("0.50 USD", skip_if_insufficient=True), max_active_tis_per_dag=1)
    def ai_job(number: int) -> int:
        # Here the money is spent.
        return number

    @task(trigger_rule="all_done")
    def count(done: list[int] | None) -> int:
        return len(list(done)) if done is not None else 0  # Airflow 2 gives None for jobs that were all skipped

    count(ai_job.expand(number=list(range(10))))
