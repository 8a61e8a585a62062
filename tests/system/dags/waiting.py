"""Ten gates that wait for a top-up."""

from datetime import datetime

from airflow.sdk import DAG

from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG("ten_gates", start_date=datetime(2026, 1, 1), schedule=None):
    for number in range(10):
        BalanceSensor(
            task_id=f"gate_{number}",
            threshold=f"{number + 1} USD",
            aimlbilling_conn_id="stored",
            deferrable=True,
            poke_interval=1,
        )
