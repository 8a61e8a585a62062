"""Gates and a task on an account whose API sends hostile text."""

from datetime import datetime

from airflow.sdk import DAG

from airflow_provider_aimlbilling.operators.balance import GetBalanceOperator
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG("hostile", start_date=datetime(2026, 1, 1), schedule=None):
    waiting = {"threshold": "1 USD", "aimlbilling_conn_id": "hostile", "deferrable": True, "poke_interval": 1}
    BalanceSensor(task_id="deferred", **waiting)
    BalanceSensor(task_id="in_triggerer", start_from_trigger=True, **waiting)
    BalanceSensor(task_id="times_out", timeout=5, **waiting)
    GetBalanceOperator(task_id="balance", aimlbilling_conn_id="hostile")
