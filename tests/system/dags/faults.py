"""Everything that can go wrong with a key, for a search of all logs."""

from datetime import datetime

from airflow.sdk import DAG

from airflow_provider_aimlbilling.operators.balance import BalanceCheckOperator, GetBalanceOperator
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG("faults", start_date=datetime(2026, 1, 1), schedule=None):
    options = {"deferrable": True, "poke_interval": 1, "timeout": 900}
    faulty = {"aimlbilling_conn_id": "faulty"}
    BalanceSensor(task_id="refused_at_once", aimlbilling_conn_id="wrong_key", **options)
    BalanceSensor(task_id="newline_in_key", aimlbilling_conn_id="newline", **options)
    BalanceSensor(task_id="refused_while_waiting", threshold="500 USD", **faulty, **options)
    # Not sooner: schedulers of 3.x fail a task that is due again before its executor has reported the last poke.
    BalanceSensor(
        task_id="rescheduled",
        threshold="500 USD",
        mode="reschedule",
        poke_interval=15,
        timeout=5,
        soft_fail=True,
        **faulty,
    )
    BalanceCheckOperator(task_id="check", threshold="500 USD", **faulty)
    GetBalanceOperator(task_id="balance", **faulty)
