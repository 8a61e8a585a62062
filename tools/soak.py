"""
Let a real triggerer poll for a thousand gates, with faults and top-ups at random, and count what goes wrong.

usage: make soak ARGS="--minutes 30 --gates 1000 --seed 1"

It needs the programs of a PostgreSQL server. It prints the table of benchmarks/README.md, and fails if a gate opened
that should not have, or did not open although it should have, or if a task failed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployment import Deployment, _free_port
from environment import make, wheel
from postgres import Postgres

from airflow_provider_aimlbilling.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build" / "soak"
KEY = "soak-key"
CONNECTIONS = 20
INTERVAL = 5  # seconds between polls
EMPTY, ENOUGH = "0.10 USD", "2 USD"  # below and above the threshold of all gates
LOST_AFTER = 20  # polls without faults after which a gate should have opened; resumed tasks queue for a worker
SAMPLES = 4  # of the triggerer's memory, descriptors and threads, besides the one at the start
FIGURES = [
    f"{what} of the {kind}" for kind in ("supervisor", "other processes") for what in ("MB", "descriptors", "threads")
]
FAULTS: tuple[dict[str, Any], ...] = (
    {"status": 503},
    {"status": 429, "retry_after": 3},
    {"reset": True},
    {"delay": 8},
    {"body": b"<html>"},
)

DAG = """
from datetime import datetime
from airflow.sdk import DAG
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

for account in range({connections}):
    with DAG(f"soak_{{account:02}}", start_date=datetime(2026, 1, 1), schedule=None, max_active_tasks=4000):
        for number in range({gates}):
            BalanceSensor(
                task_id=f"gate_{{number:03}}",
                threshold="1 USD",
                aimlbilling_conn_id=f"account_{{account:02}}",
                deferrable=True,
                start_from_trigger=True,
                poke_interval={interval},
                timeout=86400,
            )
"""


class SoakDeployment(Deployment):
    """The same with another database."""

    database: Postgres

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Query the database."""
        return self.database.query("airflow", sql, *values)

    def triggerer(self) -> dict[str, int]:
        """
        Return memory (MB), descriptors and threads of the triggerer.

        Its first process supervises and writes the logs. Of the others, one runs the triggers, and one serves logs.
        """
        leader, found = self._processes["triggerer"].pid, dict.fromkeys(FIGURES, 0)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) != leader:  # the session
                    continue
                status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
                kind = "supervisor" if process.name == str(leader) else "other processes"
                found[f"MB of the {kind}"] += int(status["VmRSS"].split()[0]) // 1024
                found[f"descriptors of the {kind}"] += len(list((process / "fd").iterdir()))
                found[f"threads of the {kind}"] += int(status["Threads"])
            except (OSError, KeyError):  # it has just ended
                continue
        return found


@dataclass
class Soak:
    """
    One run of it.

    :param airflow: the deployment.
    :param accounts: the accounts of the connections.
    :param gates: how many gates each account has.
    :param chance: the source of everything random.
    """

    airflow: SoakDeployment
    accounts: list[Sandbox]
    gates: int
    chance: random.Random
    runs: list[str] = field(default_factory=list)
    opened: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    faults: int = 0
    requests: int = 0

    def states(self, run: str) -> dict[str, int]:
        """Return how many gates of a run are in each state."""
        rows = self.airflow.query("select state, count(*) as n from task_instance where run_id = ? group by state", run)
        return dict(rows)

    def start(self, account: int) -> str:
        """Start the gates of an account."""
        return self.airflow.trigger(f"soak_{account:02}")

    def wait_for_all(self) -> None:
        """Wait until all gates are deferred."""
        for run in self.runs:
            self.airflow.wait_for(
                "the gates to be deferred", lambda run=run: self.states(run) == {"deferred": self.gates}, seconds=600
            )

    def disturb(self) -> None:
        """Let some requests of an account fail."""
        # Fewer than what ends a wait: an answer that is not as documented ends it once it has lasted for minutes.
        self.chance.choice(self.accounts).fail(times=self.chance.randrange(1, 20), **self.chance.choice(FAULTS))
        self.faults += 1

    def open_one(self) -> None:
        """Top an account up, check that all of its gates open and no other gate does, and start new ones."""
        number = self.chance.randrange(len(self.accounts))
        account, run = self.accounts[number], self.runs[number]
        if self.states(run) != {"deferred": self.gates}:
            self.wrong.append(f"{run}: {self.states(run)} before the top-up")
        account.recover()
        account.set_balance(ENOUGH)
        # In polls, not in seconds: after so many, a gate that has not opened has missed its wake-up.
        before, deadline = len(account.requests), time.monotonic() + 300
        while self.states(run) != {"success": self.gates}:
            if len(account.requests) > before + LOST_AFTER or time.monotonic() > deadline:
                self.lost.append(f"{run}: {self.states(run)} after the top-up")
                break
            time.sleep(1)
        self.opened += self.states(run).get("success", 0)
        account.set_balance(EMPTY)
        self.requests += len(account.requests)
        account.requests.clear()
        self.runs[number] = self.start(number)
        self.airflow.wait_for(
            "new gates", lambda: self.states(self.runs[number]) == {"deferred": self.gates}, seconds=600
        )

    def check_end(self) -> None:
        """Check that the gates that should wait do."""
        for account in self.accounts:
            account.recover()
        for run in self.runs:
            if self.states(run) != {"deferred": self.gates}:
                self.wrong.append(f"{run}: {self.states(run)} at the end")


def soak(minutes: float, gates: int, seed: int) -> bool:
    """Run it and print the table. Return whether nothing went wrong."""
    each = gates // CONNECTIONS
    packages = [str(wheel(BUILD / "dist")), "asyncpg", "psycopg2-binary"]
    python = make(BUILD / "venv", "3.3.2", packages)
    dags = BUILD / "dags"
    dags.mkdir(exist_ok=True)
    (dags / "soak.py").write_text(DAG.format(connections=CONNECTIONS, gates=each, interval=INTERVAL))
    with ExitStack() as stack:
        accounts = [stack.enter_context(Sandbox(EMPTY, key=KEY)) for _ in range(CONNECTIONS)]
        database = stack.enter_context(Postgres(_free_port()))
        database.create("airflow")
        SoakDeployment.database = database
        env = {f"AIRFLOW_CONN_ACCOUNT_{n:02}": account.connection(timeout=5) for n, account in enumerate(accounts)} | {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url("airflow"),
            "AIRFLOW__TRIGGERER__CAPACITY": "5000",
            "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "200",
        }
        airflow = stack.enter_context(SoakDeployment(BUILD / "home", python, dags, env))
        run = Soak(airflow, accounts, each, random.Random(seed))
        run.runs = [run.start(number) for number in range(CONNECTIONS)]
        run.wait_for_all()
        time.sleep(3 * INTERVAL)
        samples, began, rounds = [airflow.triggerer()], time.monotonic(), 0
        while (passed := time.monotonic() - began) < minutes * 60:
            if passed >= len(samples) * minutes * 60 / SAMPLES:
                samples.append(airflow.triggerer())
            for _ in range(run.chance.randrange(1, 6)):
                run.disturb()
                time.sleep(run.chance.random() * INTERVAL)
            run.open_one()
            rounds += 1
        run.check_end()
        time.sleep(3 * INTERVAL)
        samples.append(airflow.triggerer())
        run.requests += sum(len(account.requests) for account in accounts)
        seconds = time.monotonic() - began
    report(run, rounds, seconds, samples)
    return not run.wrong and not run.lost


def report(run: Soak, rounds: int, seconds: float, samples: list[dict[str, int]]) -> None:
    """Print the figures."""
    gates = run.gates * len(run.accounts)
    rows = [
        ("gates that wait, on 20 connections", gates),
        ("minutes", f"{seconds / 60:.0f}"),
        ("requests", run.requests),
        ("faults", run.faults),
        ("top-ups", rounds),
        ("gates that opened", run.opened),
        ("wrong outcomes", len(run.wrong)),
        ("lost wake-ups", len(run.lost)),
        *(
            (f"{name}, from the start to the end", ", ".join(str(sample[name]) for sample in samples))
            for name in FIGURES
        ),
    ]
    print("\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]))
    for problem in run.wrong + run.lost:
        print(problem, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--gates", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.exit(not soak(arguments.minutes, arguments.gates, arguments.seed))


if __name__ == "__main__":
    main()
