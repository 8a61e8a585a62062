"""
Run ten jobs with money for four on real Airflow services, and count how many of them spend.

usage: make parallel ARGS="--runs 5 3.3.2"

It needs the programs of a PostgreSQL server, because jobs do not run in parallel on SQLite. It prints the table of
docs/guides/guard-parallel-jobs.md. Five runs take about a quarter of an hour for each version.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deployment import Deployment, _free_port
from environment import make, wheel
from matrix import CELLS, interpreter
from postgres import Postgres
from spend_server import SpendServer
from support import for_this_airflow

from airflow_provider_aimlbilling.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build" / "parallel"
KEY = "parallel-jobs-key"
PRICE, MONEY, JOBS = "0.25 USD", "1 USD", 10
AFFORDABLE = 4

WAYS = {
    "uncounted": "a guard in each job",
    "counted": "`count_running=True`",
    "counted_late": "`count_running=True`, pool of 3, charges post 12 s late",
    "kept_counted": "the same, and `keep_counted(15)`",
}


class ParallelDeployment(Deployment):
    """The same with another database, on which ten tasks run at once."""

    database: Postgres

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Query the database."""
        return self.database.query("airflow", sql, *values)


def measure(version: str, runs: int) -> dict[str, list[int]]:
    """Return how many jobs spent in each run, for each way."""
    folder = BUILD / version
    shutil.rmtree(folder, ignore_errors=True)
    built = wheel(BUILD / "dist")
    python = make(folder / "venv", version, [str(built), "asyncpg", "psycopg2-binary"], interpreter(CELLS[version]))
    (folder / "dags").mkdir()
    source = (ROOT / "tests" / "system" / "dags" / "counted.py").read_text()
    old = version.startswith("2.")
    (folder / "dags" / "counted.py").write_text(for_this_airflow(source, airflow_3=not old))
    found: dict[str, list[int]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        accounts = {way: stack.enter_context(Sandbox(MONEY, key=KEY)) for way in WAYS}
        spending = stack.enter_context(SpendServer(accounts, PRICE))
        database = stack.enter_context(Postgres(_free_port()))
        database.create("airflow")
        ParallelDeployment.database = database
        env = {f"AIRFLOW_CONN_{way.upper()}": account.connection() for way, account in accounts.items()} | {
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "32",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url("airflow"),
            "SPEND_URL": spending.url,
            "MAX_WAIT": "60",
            "PYTHONPATH": str(ROOT / "tests") if old else "",
        }
        airflow = stack.enter_context(ParallelDeployment(folder / "home", python, folder / "dags", env))
        airflow.run("pools", "set", "three", "3", "for late charges")
        for _ in range(runs):
            for together in (["uncounted"], ["counted"], ["counted_late", "kept_counted"]):
                for way in together:
                    accounts[way].set_balance(MONEY)
                spending.jobs.clear()
                started = {way: airflow.trigger(way) for way in together}
                for way, run in started.items():
                    airflow.wait_for(f"the run of {way}", lambda run=run: ended(airflow, run), seconds=400)
                    found[way].append(spending.jobs[way])
                print(version, {way: found[way] for way in together}, file=sys.stderr, flush=True)
    return found


def ended(airflow: Deployment, run: str) -> bool:
    """Return whether all jobs of a run have spent or were skipped."""
    states = [state for (state,) in airflow.query("select state from task_instance where run_id = ?", run)]
    if "failed" in states:
        raise RuntimeError(f"A job failed: see {airflow.home}/logs.")
    return len(states) == JOBS and set(states) <= {"success", "skipped"}


def row(version: str, way: str, counts: list[int]) -> str:
    """Return a row of the table."""
    most = max(max(counts) - AFFORDABLE, 0)
    return f"| {version} | {WAYS[way]} | {', '.join(map(str, counts))} | {most} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("versions", nargs="*", default=["2.11.2", "3.0.6", "3.3.2"])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    if Postgres.programs() is None:
        sys.exit("Install the programs of a PostgreSQL server (on Debian: postgresql).")
    lines = ["| Airflow | way | jobs that spent, by run | overspent by, at most (jobs) |", "| --- | --- | --- | --- |"]
    for version in arguments.versions:
        found = measure(version, arguments.runs)
        lines += [row(version, way, counts) for way, counts in found.items()]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
