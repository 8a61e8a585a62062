"""An Airflow home of its own for each test run, set before anything imports Airflow; and what runs a DAG in it."""

from __future__ import annotations

import functools
import itertools
import os
import re
import runpy
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HOME = Path(tempfile.mkdtemp(prefix="aimlbilling-tests-"))
DAGS = HOME / "dags"
DAGS.mkdir()

for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "_AIRFLOW"))]:
    del os.environ[name]
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME / 'airflow.db'}",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(HOME / "logs"),
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    # Requests of the tests go to this machine, whatever the proxy that the machine itself uses.
    "NO_PROXY": "127.0.0.1,localhost",
}

from airflow_provider_aimlbilling.sandbox import Sandbox  # noqa: E402 - after the environment is set

KEY = "k3y-Zq8wVx2Lr7Tn5Mb9"
AIRFLOW = version("apache-airflow")
# In 3.0 dag.test() breaks on the second poke of any rescheduled sensor. The system test has one.
RESCHEDULES = not AIRFLOW.startswith("3.0")


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve an account with 2.50 USD, and name it in the default connection."""
    with Sandbox("2.50 USD", key=KEY) as account:
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", account.connection(timeout=2))
        yield account


_HEAD = """
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG, Param, task
from airflow_provider_aimlbilling.operators.balance import *
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG(
    {dag_id!r}, start_date=datetime(2026, 1, 1), schedule={schedule}, params={{"need": "2 USD"}}, {options}
) as dag:
"""


_numbers = itertools.count()


@dataclass
class Run:
    """How a DAG run ended."""

    dag_run: Any
    log: str

    def state(self, task_id: str = "gate", map_index: int = -1) -> str:
        return str(self._ti(task_id, map_index).state)

    def xcom(self, task_id: str = "gate", key: str = "return_value", map_index: int = -1) -> Any:
        ti = self._ti(task_id, map_index)
        return ti.xcom_pull(task_ids=task_id, key=key, map_indexes=map_index)

    def _ti(self, task_id: str, map_index: int) -> Any:
        return self.dag_run.get_task_instance(task_id, map_index=map_index)


@pytest.fixture(scope="session")
def database() -> None:
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True)
    if find_spec("airflow.sdk"):
        # dag.test() builds a whole API server for each task, which takes seconds before 3.3. One does for all.
        from airflow.sdk.execution_time import supervisor

        supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)


@pytest.fixture
def run_dag(database: None, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    def run(body: str, options: str = "", schedule: str = "None", **test_arguments: Any) -> Run:
        for old in DAGS.glob("*.py"):
            old.unlink()
        dag_id = f"case_{next(_numbers)}"  # never twice: Airflow is slow to see that a DAG has changed
        path = DAGS / f"{dag_id}.py"
        path.write_text(
            _HEAD.format(dag_id=dag_id, options=options, schedule=schedule)
            + textwrap.indent(textwrap.dedent(body), "    ")
        )
        return run_file(path, **test_arguments)

    def run_file(path: Path, **test_arguments: Any) -> Run:
        capfd.readouterr()
        dag = runpy.run_path(str(path))["dag"]
        dag_run = dag.test(**test_arguments)
        out, err = capfd.readouterr()
        # Some versions colour and wrap what they log, and 3.0 also prints Airflow's own messages, connections included.
        lines = re.sub(r"\x1b\[[0-9;]*m", "", out + err).splitlines()
        return Run(dag_run, " ".join(" ".join(line for line in lines if "[debug " not in line).split()))

    run.file = run_file  # type: ignore[attr-defined]
    return run
