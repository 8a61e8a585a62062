"""
# Report what was spent

What the key spent since a given day, by model.

**What to expect:** `usage` has the sums in USD and credits as its XCom, and `report` prints them, one line a model.
Where the time ended less than an hour ago the report says that charges may still be missing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_aimlbilling.operators.usage import GetUsageOperator

with DAG(
    dag_id="aimlbilling_report_spending",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={
        "since": Param("2026-11-01", type="string", description="begin of the time, UTC"),
        "until": Param("2026-12-01", type="string", description="end of the time, UTC"),
    },
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    usage = GetUsageOperator(task_id="usage", start="{{ params.since }}", end="{{ params.until }}")

    @task
    def report(spent: dict[str, Any]) -> list[str]:
        lines = [f"{part['model']}: {part['spend_usd']} USD in {part['requests']} requests" for part in spent["models"]]
        lines.append(f"in all {spent['spend_usd']} USD{', so far' if spent['may_be_incomplete'] else ''}")
        for line in lines:
            print(line)
        return lines

    report(usage.output)
