"""
# Stop spending when the money runs out

Ten jobs that each cost money. Each one checks the balance itself, just before it spends.

**What to expect:** all jobs start together, and as many go on as the account can pay for: with 2.50 USD, five of them.
The others are skipped within half a minute, before they spend anything. `count_running=True` makes that so: without it,
jobs that start at the same moment all see the same balance, and all pass. `count` returns how many jobs ran, and its
log says how many did not, because the run itself ends in success.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.guard import require_balance

JOBS = 10

with DAG(
    dag_id="aimlbilling_guard_mapped_jobs",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:

    @task(pre_execute=require_balance("0.50 USD", count_running=True, max_wait=30, skip_if_insufficient=True))
    def ai_job(number: int) -> int:
        # Spend money here.
        return number

    @task(trigger_rule="all_done")
    def count(done: list[int] | None) -> int:
        ran = len(done) if done is not None else 0  # Airflow 2 passes None if all jobs were skipped
        if ran < JOBS:
            print(f"{JOBS - ran} of {JOBS} jobs did not run. If they were skipped, top up, and clear them.")
        return ran

    count(ai_job.expand(number=list(range(JOBS))))
