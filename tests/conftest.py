"""Fixtures for all tests: a billing sandbox, a migrated database, and a runner of DAGs."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support import AIRFLOW, DAGS, HOME, KEY, Run, for_this_airflow, sleep_briefly_in_dag_test

from airflow_provider_aimlbilling.sandbox import Sandbox

# Tests that need neither Airflow nor its version. The matrix runs them in one cell: see CONTRIBUTING.md.
PURE = ("client", "money", "sandbox")

# They take ten minutes and need servers of their own: make test-distributed.
collect_ignore = ["distributed"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", type=int, metavar="N", help="of each test, run at most N sets of its parameters")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if most := config.getoption("--sample"):
        keep_sample(config, items, most)
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in PURE:
            item.add_marker("pure")
        if item.get_closest_marker("pure") and "database" in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(f"{item.nodeid} uses Airflow's database, so it is not a pure test.")


def keep_sample(config: pytest.Config, items: list[pytest.Item], most: int) -> None:
    """Keep at most so many items of each test: those of the lowest checksums, which differ between Airflows."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)

    def checksum(item: pytest.Item) -> int:
        return zlib.crc32(f"{AIRFLOW} {item.nodeid}".encode())

    kept = {item.nodeid for sets in tests.values() for item in sorted(sets, key=checksum)[:most]}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve an account that holds 2.50 USD. The default connection points to it."""
    with Sandbox("2.50 USD", key=KEY) as account:
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", account.connection(timeout=2))
        yield account


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Migrate Airflow's database. A migration takes seconds, so the workers of one test run share its result."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    migrated = shared / "airflow.db"
    with (shared / "airflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not migrated.exists():
            airflow = Path(sys.executable).with_name("airflow")
            subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True)
            shutil.copyfile(HOME / "airflow.db", migrated)
    shutil.copyfile(migrated, HOME / "airflow.db")
    if find_spec("airflow.sdk"):
        # dag.test() builds an API server for each task, which takes seconds before Airflow 3.3. The tests share one.
        from airflow.sdk.execution_time import supervisor

        supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)


_HEAD = """
from datetime import datetime
from airflow.sdk import DAG, Param, task
from airflow_provider_aimlbilling.operators.balance import *
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG(
    {dag_id!r}, start_date=datetime(2026, 1, 1), schedule={schedule}, params={{"need": "2 USD"}}, {options}
) as dag:
"""


class DagRunner:
    """Runs a DAG with ``dag.test()``, in this process."""

    _numbers = itertools.count()

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, body: str, options: str = "", schedule: str = "None", **test_arguments: Any) -> Run:
        """Run a DAG with these tasks."""
        # A name is never used twice: Airflow is slow to notice that a DAG has changed.
        dag_id = f"case_{next(self._numbers)}"
        head = _HEAD.format(dag_id=dag_id, options=options, schedule=schedule)
        return self.source(dag_id, head + textwrap.indent(textwrap.dedent(body), "    "), **test_arguments)

    def file(self, path: Path, **test_arguments: Any) -> Run:
        """Run a copy of a DAG file."""
        return self.source(path.stem, path.read_text(), **test_arguments)

    def source(self, name: str, source: str, **test_arguments: Any) -> Run:
        """Run the source of a DAG file, written for Airflow 3, as the only file in the DAGs folder."""
        for old in DAGS.glob("*.py"):
            old.unlink()
        path = DAGS / f"{name}.py"
        path.write_text(for_this_airflow(source))
        self._capfd.readouterr()
        dag = runpy.run_path(str(path))["dag"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "sleep", sleep_briefly_in_dag_test())
            dag_run = dag.test(**test_arguments)
        out, err = self._capfd.readouterr()
        # Some versions colour and wrap their log. 3.0 also prints Airflow's own messages, connections included.
        lines = re.sub(r"\x1b\[[0-9;]*m", "", out + err).splitlines()
        return Run(dag_run, " ".join(" ".join(line for line in lines if "[debug " not in line).split()))


@pytest.fixture
def run_dag(database: None, capfd: pytest.CaptureFixture[str]) -> DagRunner:
    return DagRunner(capfd)
