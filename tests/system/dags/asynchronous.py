"""An asynchronous task with many guards and Airflow's own asynchronous calls at once. One of the guards refuses."""

import asyncio
from datetime import datetime

from airflow.sdk import DAG, BaseHook, task

from airflow_provider_aimlbilling.guard import arequire_balance

with DAG("asynchronous", start_date=datetime(2026, 1, 1), schedule=None):

    @task
    async def guarded():
        guards = [arequire_balance("1 USD", aimlbilling_conn_id="guarded") for _ in range(20)]
        guards += [arequire_balance("{{ var.value.budget }}", aimlbilling_conn_id="guarded")]
        guards += [arequire_balance("0.10 USD", aimlbilling_conn_id="guarded")]
        look_ups = [BaseHook.aget_connection("guarded") for _ in range(20)]
        results = await asyncio.gather(*guards, *look_ups, return_exceptions=True)
        return [type(result).__name__ for result in results]

    guarded()
