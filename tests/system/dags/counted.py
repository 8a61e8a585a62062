"""Ten jobs that start together, with guards that count each other in one way or another."""

import os
import time
from datetime import datetime
from urllib.request import ProxyHandler, Request, build_opener

from airflow.sdk import DAG, task

from airflow_provider_aimlbilling.guard import keep_counted, require_balance

PRICE = "0.25 USD"
MAX_WAIT = float(os.environ.get("MAX_WAIT", "10"))  # seconds
LATE, SETTLED = 12, 15  # seconds until a late charge posts, and until a job that waits for it may end

# How the guard counts, seconds until charges post, and more arguments of the task.
WAYS = {
    "uncounted": ({}, 0, {}),
    "counted": ({"count_running": True, "max_wait": MAX_WAIT}, 0, {}),
    "counted_late": ({"count_running": True, "max_wait": MAX_WAIT}, LATE, {"pool": "three"}),
    "kept_counted": (
        {"count_running": True, "max_wait": MAX_WAIT},
        LATE,
        {"pool": "three", "post_execute": keep_counted(SETTLED)},
    ),
}

for name, (options, late, arguments) in WAYS.items():
    with DAG(name, start_date=datetime(2026, 1, 1), schedule=None) as dag:

        @task(
            pre_execute=require_balance(PRICE, aimlbilling_conn_id=name, skip_if_insufficient=True, **options),
            **arguments,
        )
        def job(number, account, late):
            time.sleep(1)
            build_opener(ProxyHandler({})).open(Request(f"{os.environ['SPEND_URL']}/{account}?{late}", method="POST"))

        job.partial(account=name, late=late).expand(number=list(range(10)))
