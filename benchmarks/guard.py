"""What a guard costs in a task on a real worker, which looks up the connection and counts jobs by the API server."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from deployment import Postgres, Services, _free_port
from peers import connections
from report import Table

from airflow_provider_aimlbilling.sandbox import Sandbox

CHECKS = 20  # of each kind, in turn, in one task

# The task times each check. Every guard creates its own hook and session, as the one guard of a usual task does.
DAG_FILE = f"""
import os, time
from datetime import datetime

from airflow.sdk import DAG, task

with DAG("guards", start_date=datetime(2026, 1, 1), schedule=None):
    @task
    def measure():
        import requests
        from airflow_provider_aimlbilling.guard import require_balance

        headers = {{"Authorization": "Bearer " + os.environ["BILLING_KEY"]}}
        url = os.environ["BILLING_URL"] + "/v1/billing/balance"
        checks = {{
            "baseline: requests.get": lambda: requests.get(url, headers=headers, timeout=10).json(),
            "require_balance": lambda: require_balance("1 USD"),
            "require_balance, count_running=True": lambda: require_balance("1 USD", count_running=True),
            "require_balance, and two other tasks counted": lambda: require_balance(
                "1 USD", count_running=["guards.measure", "other.one", "other.two"]
            ),
        }}
        took = {{name: [] for name in checks}}
        for number in range({CHECKS} + 1):
            for name, check in checks.items():
                wall, cpu = time.perf_counter(), time.process_time()
                check()
                if number:  # the first turn loads what all of them need
                    took[name].append([time.perf_counter() - wall, time.process_time() - cpu])
        return took

    measure()
"""


def run(repeats: int) -> list[Table]:
    """Start an Airflow, and let a task measure all ways to check. The API runs in this process."""
    table = Table(
        "guard",
        f"One check in a running task on real services: the median of {CHECKS} in each run, and over {repeats} runs.",
        ["wall (ms)", "CPU of the task (ms)"],
    )
    found: dict[str, list[tuple[float, float]]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Sandbox("5 USD") as account,
        Postgres(_free_port()) as postgres,
    ):
        postgres.create("guards")
        (dags := Path(folder) / "dags").mkdir()
        (dags / "guards.py").write_text(DAG_FILE)
        env = connections(account) | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url("guards")}
        with Services(Path(folder) / "home", Path(sys.executable), dags, env) as airflow:
            for _ in range(repeats):
                run_id = airflow.start("guards")
                took = airflow.wait_for("the checks", lambda r=run_id: airflow.xcom(r, "measure"), seconds=120)
                for name, checks in took.items():
                    medians = [1e3 * statistics.median(column) for column in zip(*checks, strict=True)]
                    found.setdefault(name, []).append((medians[0], medians[1]))
    for name, runs in sorted(found.items(), key=lambda one: statistics.median(wall for wall, _ in one[1])):
        table.add(name, [wall for wall, _ in runs], [cpu for _, cpu in runs])
    return [table]
