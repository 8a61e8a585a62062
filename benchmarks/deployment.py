"""
Real services on PostgreSQL and the LocalExecutor: gates that wait on one account, are topped up, and end.

CPU is that of Airflow's services, of all that they start, and of PostgreSQL; the API is served by this process and not
counted.
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
from postgres import Postgres
from report import Table

from airflow_provider_aimlbilling.sandbox import Sandbox

HERE = Path(__file__).parent
INTERVAL = 10.0  # seconds between two polls
SAMPLES = 3  # of one interval each, while the gates wait
LONGEST = 300.0  # seconds until it is given up that all gates of a peer wait, or end


def _tool(name: str) -> ModuleType:
    """Load a module of tools/, one of which has the name of this one."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", HERE.parent / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_tools = _tool("deployment")
_Deployment: Any = _tools.Deployment
_free_port = _tools._free_port  # noqa: SLF001


class Services(_Deployment):
    """The deployment of the tests, with its database on PostgreSQL."""

    database: Postgres

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Look into the database."""
        url = self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
        with contextlib.closing(psycopg2.connect(url)) as database, database.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values)
            return cursor.fetchall()

    def start(self, dag_id: str) -> str:
        """Start a run through the REST API, which costs less than the command line."""
        parsed = "select 1 from serialized_dag where dag_id = ?"
        self.wait_for(f"{dag_id} to be parsed", lambda: self.query(parsed, dag_id), seconds=120)
        run_id = f"run_{time.time_ns()}"
        self.post(f"/api/v2/dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None})
        return run_id

    def count(self, run_id: str) -> dict[str, int]:
        """Count the run's tasks by state."""
        sql = "select coalesce(state, 'none'), count(*) from task_instance where run_id = ? group by 1"
        return {state: int(number) for state, number in self.query(sql, run_id)}

    def taken_up(self, run_id: str) -> int:
        """Count the run's triggers that the triggerer has begun to run: each has a log of its own from then on."""
        return sum(1 for _ in (self.home / "logs").glob(f"*/run_id={run_id}/**/*.trigger.*.log"))

    def processes(self) -> Iterator[psutil.Process]:
        """Give the services and all their descendants."""
        for service in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                yield from _family(service.pid)

    def memory(self) -> float:
        """Give the gigabytes that the services and their children have to themselves, shared pages divided."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
        return total / 1e9

    def cpu(self) -> float:
        """Give the seconds that the services and the database have computed, with the children that are gone."""
        total = 0.0
        for process in [*self.processes(), *_family(self.database.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def run(repeats: int, gates: list[int] | None = None, peers: list[str] | None = None) -> list[Table]:
    """Give each peer services of its own, and let it wait with each number of gates, some times over."""
    numbers = gates or [10, 50, 200]
    columns = ["CPU s/min waiting", "requests/min", "slots held", "memory, GB"]
    columns += [
        "CPU s to wait",
        "s to wait",
        "CPU s to release",
        "last release, s",
        "requests at release",
        "gates failed",
    ]
    tables = {
        number: Table(
            f"deployment-{number}",
            f"{number} gates on one account, a poll every {INTERVAL:g} s. Real services, PostgreSQL, LocalExecutor.",
            columns,
        )
        for number in numbers
    }
    # Our poke mode holds a worker as any sensor's does: it has no row of its own here, unless it is asked for.
    chosen = peers or [name for name in PEERS if name != "BalanceSensor, poke"]
    names = [name for name in PEERS if any(part in name for part in chosen)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Postgres(_free_port()) as postgres:
        for number, name in enumerate(["nothing", *names]):
            database = f"airflow_{number}"
            postgres.create(database)
            with (
                Sandbox(0) as account,
                _services(Path(folder) / database, name, numbers, account, postgres) as services,
            ):
                if name == "nothing":
                    found = _idle(services, account)
                    for table in tables.values():
                        table.add(name, *found, *["–"] * 6)
                    continue
                # Not counted: a triggerer loads Airflow's API with the first XCom or connection that it asks for.
                _round(services, account, 1)
                for gates_ in numbers:
                    try:
                        rounds = [_round(services, account, gates_) for _ in range(repeats)]
                    except TimeoutError as fault:  # a result, too
                        print(f"{gates_:4} × {name}: {fault}", file=sys.stderr, flush=True)
                        tables[gates_].add(name, *["not ended"] * len(columns))
                        break
                    cells = [[figure for one in rounds for figure in one[column]] for column in range(len(columns))]
                    tables[gates_].add(name, *cells)
                    print(f"{gates_:4} × {name}: {rounds}", file=sys.stderr, flush=True)
    return list(tables.values())


def _services(home: Path, name: str, numbers: list[int], account: Sandbox, postgres: Postgres) -> Services:
    dags = home.with_name(f"{home.name}-dags")
    dags.mkdir()
    if name != "nothing":
        (dags / "gates.py").write_text(dag_file(name, [1, *numbers], INTERVAL))
    env = connections(account) | {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url(home.name),
        "AIRFLOW__CORE__PARALLELISM": "256",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "256",
        "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "256",
        "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "30",  # Airflow's own, where the tests are in a hurry
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
    """Watch for some intervals: CPU seconds a minute, requests a minute, slots, memory."""
    cpus, requests, slots = [], [], []
    for _ in range(SAMPLES):
        cpu, seen, began = services.cpu(), len(account.requests), time.monotonic()
        slots.append(services.count(run_id).get("running", 0) if run_id else 0)
        time.sleep(INTERVAL)
        minutes = (time.monotonic() - began) / 60
        cpus.append((services.cpu() - cpu) / minutes)
        requests.append((len(account.requests) - seen) / minutes)
    return [cpus, requests, slots, [services.memory()]]


def _round(services: Services, account: Sandbox, gates: int) -> list[list[float]]:
    """Let the gates of one run begin to wait, wait, and end."""
    account.set_balance(0)
    account.requests.clear()
    cpu, began = services.cpu(), time.monotonic()
    run_id = services.start(f"gates_{gates}")

    def all_wait() -> bool:
        states = services.count(run_id)
        # Schedulers of 3.x fail a rescheduled sensor that is due again before its last poke was reported.
        left = gates - states.get("failed", 0)
        on_workers = states.get("running", 0) + states.get("up_for_reschedule", 0)
        if on_workers == left:
            return len(account.requests) >= left
        return states.get("deferred") == left and services.taken_up(run_id) == left

    services.wait_for(f"{gates} waiting gates", all_wait, seconds=LONGEST)
    to_wait = services.cpu() - cpu, time.monotonic() - began
    time.sleep(5)
    waiting = _samples(services, account, run_id)
    cpu, asked, topped_up = services.cpu(), len(account.requests), datetime.now(timezone.utc)
    account.set_balance(THRESHOLD)

    def ended() -> dict[str, int] | None:
        states = services.count(run_id)
        return states if states.get("success", 0) + states.get("failed", 0) == gates else None

    failed = services.wait_for("all gates to end", ended, seconds=LONGEST).get("failed", 0)
    ends = services.query("select max(end_date) from task_instance where run_id = ?", run_id)
    released = services.cpu() - cpu, (ends[0][0] - topped_up).total_seconds()
    at_release = len(account.requests) - asked
    time.sleep(5)
    return [*waiting, [to_wait[0]], [to_wait[1]], [released[0]], [released[1]], [at_release], [failed]]
