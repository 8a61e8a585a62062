"""Gates on six accounts, jobs behind some of them, tasks whose worker is killed, a watcher, and twenty connections."""

import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_aimlbilling.guard import require_balance
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger

ACCOUNTS = ["one_triggerer", "both_triggerers", "stores", "servers", "api", "key"]
MARKS = Path(os.environ["MARKS"])
options = {"threshold": "1 USD", "deferrable": True, "poke_interval": 2, "timeout": 3600}


def spend(account):
    """Spend the price of a job."""
    build_opener(ProxyHandler({})).open(Request(f"{os.environ['SPEND_URL']}/{account}?0", method="POST"))


for account in ACCOUNTS:
    with DAG(f"wait_{account}", start_date=datetime(2026, 1, 1), schedule=None, max_active_tasks=32):
        gates = [
            BalanceSensor(
                task_id=f"gate_{number}", aimlbilling_conn_id=account, start_from_trigger=number % 2 == 1, **options
            )
            for number in range(10)
        ]
        if account == "key":

            @task(
                pre_execute=require_balance(
                    "0.25 USD", aimlbilling_conn_id="key", skip_if_insufficient=True, count_running=True, max_wait=30
                )
            )
            def job(number):
                time.sleep(1)
                spend("key")

            jobs = job.expand(number=list(range(8)))
            for gate in gates:
                gate >> jobs

with DAG("deadline", start_date=datetime(2026, 1, 1), schedule=None):
    for number in range(2):
        BalanceSensor(
            task_id=f"gate_{number}",
            aimlbilling_conn_id="empty",
            start_from_trigger=number == 1,
            soft_fail=True,
            **options | {"timeout": 45},
        )


class HeldSensor(BalanceSensor):
    """A gate that stays in ``execute_complete`` of its first try."""

    def execute_complete(self, context, event=None):
        if context["ti"].try_number == 1:
            (MARKS / "completing").touch()
            time.sleep(600)
        return super().execute_complete(context, event)


with DAG("workers", start_date=datetime(2026, 1, 1), schedule=None, max_active_tasks=8):
    retried = {"retries": 3, "retry_delay": timedelta(seconds=3)}
    HeldSensor(task_id="completes", aimlbilling_conn_id="completes", **options, **retried)
    BalanceSensor(task_id="pokes", aimlbilling_conn_id="slow", **options | {"deferrable": False}, **retried)

    @task(pre_execute=require_balance("0.25 USD", aimlbilling_conn_id="slow"), **retried)
    def guarded():
        spend("slow")

    guarded()

with DAG("counted", start_date=datetime(2026, 1, 1), schedule=None, max_active_tasks=8):

    @task(
        pre_execute=require_balance(
            "0.25 USD", aimlbilling_conn_id="counted", skip_if_insufficient=True, count_running=True, max_wait=30
        ),
        **retried,
    )
    def counted_job(number, ti=None):
        if ti.try_number == 1:  # its worker is killed between the guard and the request that spends
            (MARKS / f"counted_{number}").touch()
            time.sleep(600)
        spend("counted")

    counted_job.expand(number=[0, 1])

below = BalanceEventTrigger("1 USD", "below", aimlbilling_conn_id="watched", poke_interval=2)
with DAG(
    "fell",
    start_date=datetime(2026, 1, 1),
    schedule=[Asset("fell", watchers=[AssetWatcher(name="below", trigger=below)])],
):

    @task
    def react():
        return "reacted"

    react()

with DAG("connections", start_date=datetime(2026, 1, 1), schedule=None, max_active_tasks=32):
    for number in range(20):
        BalanceSensor(task_id=f"gate_{number:02}", aimlbilling_conn_id=f"account_{number:02}", **options)
