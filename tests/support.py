"""
What every test shares: Airflow's environment, names of versions, and the result of a DAG run.

Importing this module gives the test process its own ``AIRFLOW_HOME``. Airflow reads the environment when it is first
imported, so ``conftest.py`` imports this module before anything else. Under pytest-xdist each worker is a process, so
each has its own home.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from postgres import Postgres

ROOT = Path(__file__).resolve().parents[1]
KEY = "k3y-Zq8wVx2Lr7Tn5Mb9"
AIRFLOW = version("apache-airflow")
AIRFLOW_3 = not AIRFLOW.startswith("2.")
AIRFLOW_3_1 = AIRFLOW_3 and not AIRFLOW.startswith("3.0")
AIRFLOW_3_2 = AIRFLOW_3 and not AIRFLOW.startswith(("3.0", "3.1"))
# On Airflow 3.0, dag.test() fails at the second poke of any rescheduled sensor. A system test covers it there.
RESCHEDULES = not AIRFLOW.startswith("3.0")
# On Airflow 2 and SQLite, the system tests run one task at a time.
RUNS_IN_PARALLEL = AIRFLOW_3 or Postgres.programs() is not None
# How a sensor waits, as arguments in a DAG file.
MODES = {"poke": 'mode="poke"', "reschedule": 'mode="reschedule"', "deferrable": "deferrable=True"}
if not RESCHEDULES:
    del MODES["reschedule"]

HOME = Path(tempfile.mkdtemp(prefix="aimlbilling-tests-"))
DAGS = HOME / "dags"
DAGS.mkdir()

for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "_AIRFLOW"))]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME / 'airflow.db'}",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(HOME / "logs"),
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    # The tests only talk to this machine, even if the machine uses a proxy.
    "NO_PROXY": "127.0.0.1,localhost",
}

# Where Airflow 2.11 keeps what DAG files import from Airflow 3.
_AIRFLOW_2_IMPORTS = {
    "from airflow.sdk import": "from airflow_2 import",
    "from airflow.providers.standard.operators.python import": "from airflow.operators.python import",
    "from airflow.providers.standard.triggers.temporal import": "from airflow.triggers.temporal import",
}


def for_this_airflow(source: str, *, airflow_3: bool = AIRFLOW_3) -> str:
    """Return the source of a DAG file, written for Airflow 3, with imports that the running Airflow has."""
    if not airflow_3:
        for new, old in _AIRFLOW_2_IMPORTS.items():
            source = source.replace(new, old)
    return source


def airflow_sdk() -> ModuleType:
    """Return ``airflow.sdk``, or on Airflow 2.11 the module that stands in for it."""
    return importlib.import_module("airflow.sdk" if AIRFLOW_3 else "airflow_2")


_LOADED = """
import os, sys
{base}
before = set(sys.modules)
for number, statement in enumerate({statements!r}):
    if os.fork() == 0:
        exec(statement)
        print("loaded", number, *sorted(set(sys.modules) - before), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, statement
"""


@functools.cache
def modules_loaded_by(*statements: str, base: str) -> list[set[str]]:
    """Return for each statement the modules that it loads in a fresh interpreter on top of what ``base`` loads."""
    code = _LOADED.format(base=base, statements=statements)
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    loaded = [line.split()[2:] for line in out.splitlines() if line.startswith("loaded ")]
    assert len(loaded) == len(statements)
    return [set(names) for names in loaded]


def sleep_briefly_in_dag_test(sleep: Callable[[float], None] = time.sleep) -> Callable[[float], None]:
    """
    Return a replacement for ``time.sleep`` that is shorter in the loop of ``dag.test()`` and unchanged elsewhere.

    That loop sleeps for a second whenever no task can run at once, which is so after every task that failed.
    """

    def brief(seconds: float) -> None:
        caller = sys._getframe(1)
        in_loop = caller.f_code.co_name == "test" and caller.f_globals["__name__"].endswith(".dag")
        sleep(min(seconds, 0.05) if in_loop else seconds)

    return brief


def wait_until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait until something is true, and fail if it does not become true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not become true within {seconds} seconds"
        time.sleep(0.01)


@dataclass
class Run:
    """How a DAG run ended, and what it logged."""

    dag_run: Any
    log: str

    def state(self, task_id: str = "gate", map_index: int = -1) -> str:
        return str(self._ti(task_id, map_index).state)

    def xcom(self, task_id: str = "gate", key: str = "return_value", map_index: int = -1) -> Any:
        ti = self._ti(task_id, map_index)
        return ti.xcom_pull(task_ids=task_id, key=key, map_indexes=map_index)

    def _ti(self, task_id: str, map_index: int) -> Any:
        return self.dag_run.get_task_instance(task_id, map_index=map_index)
