"""
# Price the job, wait until the account can pay for it, run it

The real question is not "is there some money" but "can this account pay for this job". The price comes from the
vendor's live catalogue, with a margin for what nobody can know before.

**What to expect:** `price` asks for the one model and says what the job will cost; its XCom `estimate` has the rates.
`gate` opens when the account holds that. Trigger the DAG with more `documents` and it waits for more. A model whose
price is variable, or a unit that the catalogue does not have, fails `price` with a list of what is known.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG(
    dag_id="aimlbilling_price_then_run",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    # Of the sandbox; the vendor's catalogue has the real ones.
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
        # 2,000 tokens of each document go in, and at most 500 come out.
        work={"input token": "{{ params.documents * 2000 }}", "output token": "{{ params.documents * 500 }}"},
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
        print("Here the money is spent.")

    gate >> summarize()
