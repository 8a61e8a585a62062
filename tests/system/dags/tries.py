"""Gates whose first try ends after the trigger has fired, and whose second try must not believe that event."""

import os
import signal
from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_aimlbilling.sensors.balance import BalanceSensor


def die_when_the_first_try_resumes(context):
    """Die as a worker that runs out of memory does. An exception would be another case: Airflow handles it itself."""
    ti = context["ti"]
    of_server = getattr(ti, "_ti_context_from_server", None)
    if ti.try_number == 1 and (getattr(ti, "next_method", None) or getattr(of_server, "next_method", None)):
        os.kill(os.getpid(), signal.SIGKILL)


with DAG("tries", start_date=datetime(2026, 1, 1), schedule=None):
    options = {"threshold": "2 USD", "deferrable": True, "poke_interval": 1, "timeout": 900}
    options |= {"retries": 1, "retry_delay": timedelta(seconds=30)}
    options |= {"pre_execute": die_when_the_first_try_resumes}
    BalanceSensor(task_id="dies", aimlbilling_conn_id="dies", **options)
    BalanceSensor(task_id="refused", aimlbilling_conn_id="refused", **options)

with DAG("vault", start_date=datetime(2026, 1, 1), schedule=None):
    options = {"threshold": "2 USD", "poke_interval": 1, "timeout": 900, "aimlbilling_conn_id": "vault"}
    BalanceSensor(task_id="deferred", deferrable=True, **options)
    BalanceSensor(task_id="poke", **options)
