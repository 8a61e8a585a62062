"""Gates whose first try ends after the trigger has fired, and whose second try must not believe that event."""

from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_aimlbilling.sensors.balance import BalanceSensor


def die_at_the_first_try(context, result=None):
    if context["ti"].try_number == 1:
        raise MemoryError("the worker died")


with DAG("tries", start_date=datetime(2026, 1, 1), schedule=None):
    options = {"threshold": "2 USD", "deferrable": True, "poke_interval": 1, "timeout": 300}
    options |= {"retries": 1, "retry_delay": timedelta(seconds=10)}
    BalanceSensor(task_id="dies", aimlbilling_conn_id="dies", post_execute=die_at_the_first_try, **options)
    BalanceSensor(task_id="refused", aimlbilling_conn_id="refused", **options)

with DAG("vault", start_date=datetime(2026, 1, 1), schedule=None):
    options = {"threshold": "2 USD", "poke_interval": 1, "timeout": 300, "aimlbilling_conn_id": "vault"}
    BalanceSensor(task_id="deferred", deferrable=True, **options)
    BalanceSensor(task_id="poke", **options)
