"""
# Price a job, wait until the account can pay for it, run it

The question is not whether there is some money left, but whether the account can pay for this job. The price comes
from the vendor's live catalogue, plus a margin for what cannot be known in advance.

**What to expect:** `price` looks up the model and returns what the job will cost; its XCom `estimate` lists the rates.
`gate` opens when the account holds that amount. Trigger the DAG with more `documents`, and it waits for more money. If
the model's price is variable, or the catalogue does not have one of the units, `price` fails and lists the known ones.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG(
    dag_id="aimlbilling_price_then_run",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    # This model exists in the sandbox only; use an id from the vendor's catalogue.
    params={
        "model": Param("sandbox/chat", type="string"),
        "documents": Param(100, type="integer", minimum=1),
    },
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    price = EstimateCostOperator(
        task_id="price",
        model="{{ params.model }}",
        # One request for each document.
        requests="{{ params.documents }}",
        input_tokens=2000,
        max_output_tokens=500,
        margin="20%",
    )

    gate = BalanceSensor(
        task_id="gate",
        threshold=price.output,
        deferrable=True,
        poke_interval=10,
        timeout=timedelta(days=1).total_seconds(),
    )

    @task
    def summarize() -> None:
        print("Spend money here.")

    gate >> summarize()
