"""
# Report spending by model

Reports what the API key spent in a period, by model.

**What to expect:** the XCom of `usage` holds the amounts in USD and credits, and `report` prints one line per model and
a total. If the period ended less than an hour ago, the total is marked "so far", because recent charges may be missing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_aimlbilling.operators.usage import GetUsageOperator

with DAG(
    dag_id="aimlbilling_report_spending",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={
        "since": Param("2026-11-01", type="string", description="start of the period, UTC"),
        "until": Param("2026-12-01", type="string", description="end of the period, UTC"),
    },
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    usage = GetUsageOperator(task_id="usage", start="{{ params.since }}", end="{{ params.until }}")

    @task
    def report(spent: dict[str, Any]) -> list[str]:
        lines = [f"{part['model']}: {part['spend_usd']} USD in {part['requests']} requests" for part in spent["models"]]
        lines.append(f"total {spent['spend_usd']} USD{', so far' if spent['may_be_incomplete'] else ''}")
        for line in lines:
            print(line)
        return lines

    report(usage.output)
