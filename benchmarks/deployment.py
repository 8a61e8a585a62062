"""
Gates on real Airflow services, with PostgreSQL and the LocalExecutor: they wait on one account until it is topped up.

CPU time is that of Airflow's services, of all processes that they start, and of PostgreSQL. This process serves the API
and does not count.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import psycopg2
from peers import PEERS, THRESHOLD, connections, dag_file
from report import Table

from airflow_provider_aimlbilling.sandbox import Sandbox

HERE = Path(__file__).parent
INTERVAL = 10.0  # seconds between two polls
SAMPLES = 3  # measurements of one interval each, while the gates wait
MAX_WAIT = 300.0  # seconds for all gates of a peer to start waiting, and again for all of them to end
IDLE = "idle Airflow"


def _tool(name: str) -> ModuleType:
    """Load a module of tools/ by its path: an import of tools/deployment.py would find this module instead."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", HERE.parent / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_tools = _tool("deployment")
Postgres: Any = _tool("postgres").Postgres
_Deployment: Any = _tools.Deployment
_free_port = _tools._free_port  # noqa: SLF001


class Services(_Deployment):
    """The deployment that the system tests use, with its database on PostgreSQL."""

    database: Any  # a Postgres

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query on Airflow's database."""
        url = self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
        with contextlib.closing(psycopg2.connect(url)) as database, database.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values)
            return cursor.fetchall()

    def start(self, dag_id: str) -> str:
        """Start a DAG run and return its id. The REST API costs less CPU than the command line."""
        parsed = "select 1 from serialized_dag where dag_id = ?"
        self.wait_for(f"{dag_id} to be parsed", lambda: self.query(parsed, dag_id), seconds=120)
        run_id = f"run_{time.time_ns()}"
        self.post(f"/api/v2/dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None})
        return run_id

    def count(self, run_id: str) -> dict[str, int]:
        """Return the number of the run's tasks in each state."""
        sql = "select coalesce(state, 'none'), count(*) from task_instance where run_id = ? group by 1"
        return {state: int(number) for state, number in self.query(sql, run_id)}

    def started_triggers(self, run_id: str) -> int:
        """Return how many of the run's triggers the triggerer has started. It opens a log file for each."""
        return sum(1 for _ in (self.home / "logs").glob(f"*/run_id={run_id}/**/*.trigger.*.log"))

    def processes(self) -> Iterator[psutil.Process]:
        """Yield the services and all their descendants."""
        for service in self._processes.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                yield from _process_tree(service.pid)

    def memory(self) -> float:
        """Return the memory of the services and their descendants in GB. Shared pages are divided among them."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
        return total / 1e9

    def cpu(self) -> float:
        """Return the CPU seconds that services and database have used, including those of children that have ended."""
        total = 0.0
        for process in [*self.processes(), *_process_tree(self.database.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total


def _process_tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def run(repeats: int, gates: list[int] | None = None, peers: list[str] | None = None) -> list[Table]:
    """
    Start separate services for each peer, and let each number of gates wait and end.

    :param repeats: how often, for each number of gates.
    :param gates: numbers of gates that wait at once.
    :param peers: only the peers whose names contain one of these texts.
    """
    numbers = gates or [10, 50, 200]
    columns = ["CPU s/min while waiting", "requests/min", "slots held", "memory (GB)"]
    columns += [
        "CPU s until all wait",
        "s until all wait",
        "CPU s to release",
        "s to last release",
        "requests during release",
        "gates failed",
    ]
    tables = {
        number: Table(
            f"deployment-{number}",
            f"{number} gates wait on one account and poll every {INTERVAL:g} s. "
            "Real services, PostgreSQL, LocalExecutor.",
            columns,
        )
        for number in numbers
    }
    # Our poke mode holds a worker, as every sensor's does, so it is only measured on request (--peers).
    chosen = peers or [name for name in PEERS if name != "BalanceSensor, poke"]
    names = [name for name in PEERS if any(part in name for part in chosen)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Postgres(_free_port()) as postgres:
        for number, name in enumerate([IDLE, *names]):
            database = f"airflow_{number}"
            postgres.create(database)
            with (
                Sandbox(0) as account,
                _create_services(Path(folder) / database, name, numbers, account, postgres) as services,
            ):
                if name == IDLE:
                    figures = _idle(services, account)
                    for table in tables.values():
                        table.add(name, *figures, *["–"] * 6)
                    continue
                # Not measured: the triggerer loads Airflow's API with the first XCom or connection that it requests.
                _run_round(services, account, 1)
                for count in numbers:
                    try:
                        rounds = [_run_round(services, account, count) for _ in range(repeats)]
                    except TimeoutError as error:  # that is a result, too
                        print(f"{count:4} × {name}: {error}", file=sys.stderr, flush=True)
                        tables[count].add(name, *["did not finish"] * len(columns))
                        break
                    cells = [[figure for one in rounds for figure in one[column]] for column in range(len(columns))]
                    tables[count].add(name, *cells)
                    print(f"{count:4} × {name}: {rounds}", file=sys.stderr, flush=True)
    return list(tables.values())


def _create_services(home: Path, name: str, numbers: list[int], account: Sandbox, postgres: Any) -> Services:
    dags = home.with_name(f"{home.name}-dags")
    dags.mkdir()
    if name != IDLE:
        (dags / "gates.py").write_text(dag_file(name, [1, *numbers], INTERVAL))
    env = connections(account) | {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url(home.name),
        "AIRFLOW__CORE__PARALLELISM": "256",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "256",
        "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "256",
        "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "30",  # Airflow's default; the tests use a shorter one
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "300",
        "PYTHONPATH": str(HERE),
    }
    services = Services(home, Path(sys.executable), dags, env)
    services.database = postgres
    return services


def _idle(services: Services, account: Sandbox) -> list[list[float]]:
    time.sleep(20)
    return _samples(services, account, None)


def _samples(services: Services, account: Sandbox, run_id: str | None) -> list[list[float]]:
    """Measure some intervals. Return CPU seconds per minute, requests per minute, worker slots held, memory in GB."""
    cpus, requests, slots = [], [], []
    for _ in range(SAMPLES):
        cpu, seen, started = services.cpu(), len(account.requests), time.monotonic()
        slots.append(services.count(run_id).get("running", 0) if run_id else 0)
        time.sleep(INTERVAL)
        minutes = (time.monotonic() - started) / 60
        cpus.append((services.cpu() - cpu) / minutes)
        requests.append((len(account.requests) - seen) / minutes)
    return [cpus, requests, slots, [services.memory()]]


def _run_round(services: Services, account: Sandbox, gates: int) -> list[list[float]]:
    """Run one DAG: its gates start to wait, wait, and end after a top-up. Return the figures of one table row."""
    account.set_balance(0)
    account.requests.clear()
    cpu, started = services.cpu(), time.monotonic()
    run_id = services.start(f"gates_{gates}")

    def all_waiting() -> bool:
        states = services.count(run_id)
        # Schedulers of Airflow 3 fail a rescheduled sensor that is due again before its last poke was reported.
        left = gates - states.get("failed", 0)
        on_workers = states.get("running", 0) + states.get("up_for_reschedule", 0)
        if on_workers == left:
            return len(account.requests) >= left
        return states.get("deferred") == left and services.started_triggers(run_id) == left

    services.wait_for(f"{gates} gates to wait", all_waiting, seconds=MAX_WAIT)
    until_waiting = services.cpu() - cpu, time.monotonic() - started
    time.sleep(5)
    waiting = _samples(services, account, run_id)
    cpu, requests, topped_up = services.cpu(), len(account.requests), datetime.now(timezone.utc)
    account.set_balance(THRESHOLD)

    def ended() -> dict[str, int] | None:
        states = services.count(run_id)
        return states if states.get("success", 0) + states.get("failed", 0) == gates else None

    failed = services.wait_for("all gates to end", ended, seconds=MAX_WAIT).get("failed", 0)
    ends = services.query("select max(end_date) from task_instance where run_id = ?", run_id)
    released = services.cpu() - cpu, (ends[0][0] - topped_up).total_seconds()
    during_release = len(account.requests) - requests
    time.sleep(5)
    return [*waiting, [until_waiting[0]], [until_waiting[1]], [released[0]], [released[1]], [during_release], [failed]]
