"""
One real Airflow for all system tests, with the built wheel in its own environment.

It has a scheduler, a triggerer and, from 3.0 on, a DAG processor and an API server. Its database is PostgreSQL where
the programs of a server are installed, and SQLite elsewhere. Starting it and its tasks takes most of the time, so all
DAG runs start together, each with an account of its own.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import environment
import pytest
from deployment import Deployment
from postgres import Postgres
from spend_server import SpendServer
from support import AIRFLOW_3, AIRFLOW_3_2, KEY, ROOT, RUNS_IN_PARALLEL, for_this_airflow

import airflow_provider_aimlbilling
from airflow_provider_aimlbilling.sandbox import Sandbox

BALANCES = {
    "waiting": "0.50 USD",
    "started": 0,
    "empty": 0,
    "faulty": "3 USD",
    "watched": "2 USD",
    "hostile": 0,
    "mapped": "2.50 USD",
    "dies": 0,
    "refused": 0,
    "vault": 0,
    "guarded": "0.50 USD",
    "counted": "0.50 USD",
    "costs": "5 USD",
    "budgeted": "5 USD",
}
RUNS = {
    "ten_gates": {},
    "no_worker": {"wanted": "1 USD"},
    "needs_worker": {},
    "does_not_open": {},
    "faults": {},
    "hostile": {},
    "mapped_groups": {},
    "tries": {},
} | ({"asynchronous": {}} if AIRFLOW_3_2 else {})
if RUNS_IN_PARALLEL:
    RUNS["vault"] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("system"))


@pytest.fixture(scope="session")
def accounts() -> Iterator[dict[str, Sandbox]]:
    """Serve an account for each test."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Sandbox(balance, key=KEY)) for name, balance in BALANCES.items()}


@pytest.fixture(scope="session")
def python() -> Path:
    """Return the interpreter of an environment with the wheel: in the matrix this one, otherwise a new one."""
    if "site-packages" in airflow_provider_aimlbilling.__file__:
        return Path(sys.executable)
    built = environment.wheel(ROOT / ".build" / "system" / "dist")
    return environment.make(ROOT / ".build" / "system" / "venv", "3.3.2", [str(built), "asyncpg", "psycopg2-binary"])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres | None]:
    if Postgres.programs() is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Postgres(port) as server:
        server.create("airflow")
        yield server


class PostgresDeployment(Deployment):
    """The same, with another database."""

    database: Postgres

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.database.query("airflow", sql, *values)


@pytest.fixture(scope="session")
def spending(accounts: dict[str, Sandbox]) -> Iterator[SpendServer]:
    with SpendServer(accounts, "0.25 USD") as server:
        yield server


@pytest.fixture(scope="session")
def deployment(
    python: Path,
    postgres: Postgres | None,
    accounts: dict[str, Sandbox],
    spending: SpendServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("system")
    dags = folder / "dags"
    dags.mkdir()
    for source in sorted((Path(__file__).parent / "dags").glob("*.py")):
        if (AIRFLOW_3 or source.name != "watcher.py") and (AIRFLOW_3_2 or source.name != "asynchronous.py"):
            (dags / source.name).write_text(for_this_airflow(source.read_text()))
    faulty = json.loads(accounts["faulty"].connection())
    env = {
        "AIRFLOW_CONN_AIMLBILLING_DEFAULT": accounts["started"].connection(),
        "AIRFLOW_CONN_POOR": accounts["started"].connection(),
        "AIRFLOW_CONN_EMPTY": accounts["empty"].connection(),
        "AIRFLOW_CONN_WATCHED": accounts["watched"].connection(),
        "AIRFLOW_CONN_FAULTY": accounts["faulty"].connection(),
        "AIRFLOW_CONN_HOSTILE": accounts["hostile"].connection(),
        "AIRFLOW_CONN_WRONG_KEY": json.dumps(faulty | {"password": f"{KEY}-expired"}),
        "AIRFLOW_CONN_NEWLINE": json.dumps(faulty | {"password": f"{KEY}\n"}),
        "AIRFLOW_CONN_MAPPED": accounts["mapped"].connection(),
        "AIRFLOW_CONN_DIES": accounts["dies"].connection(),
        "AIRFLOW_CONN_REFUSED": accounts["refused"].connection(),
        "AIRFLOW_CONN_COUNTED": accounts["counted"].connection(),
        "AIRFLOW_CONN_COSTS": accounts["costs"].connection(),
        "AIRFLOW_CONN_BUDGETED": accounts["budgeted"].connection(),
        "SPEND_URL": spending.url,
        "AIRFLOW_VAR_BUDGET": "1 USD",
        "AIRFLOW__SECRETS__BACKEND": "switchable_secrets.SwitchableBackend",
        "SECRETS_ARE_AWAY_WHILE_THIS_EXISTS": str(folder / "away"),
        "VAULT_CONNECTION": accounts["vault"].connection(),
        # For switchable_secrets and airflow_2.
        "PYTHONPATH": os.pathsep.join(map(str, [Path(__file__).parent, *([] if AIRFLOW_3 else [ROOT / "tests"])])),
    }
    if postgres:
        env |= {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url("airflow")}
        env |= {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor"}
        PostgresDeployment.database = postgres
    with (PostgresDeployment if postgres else Deployment)(folder / "home", python, dags, env) as running:
        # In the database, where the triggerer looks it up in another way than in the environment.
        running.add_connection("stored", accounts["waiting"].connection())
        running.add_connection("guarded", accounts["guarded"].connection())
        yield running


@pytest.fixture(scope="session")
def runs(deployment: Deployment) -> dict[str, str]:
    """Start all DAG runs. Return their ids."""
    return {dag_id: deployment.trigger(dag_id, conf) for dag_id, conf in RUNS.items()}


@pytest.fixture(scope="session")
def has_noticed(deployment: Deployment) -> Callable[..., bool]:
    """
    Return a function that tells whether the scheduler has noticed that the worker of a deferred task has ended.

    Airflow fails a task that a trigger resumes before that.
    """

    def noticed(dag_id: str, task_id: str, try_number: int = 1) -> bool:
        ended = re.compile(
            rf"TaskInstance Finished: dag_id={dag_id}, task_id={task_id},.*executor_state=success, "
            rf"try_number={try_number},"
        )
        return bool(ended.search((deployment.home / "scheduler.log").read_text(errors="replace")))

    return noticed


@pytest.fixture(scope="session")
def wait_for_logs(deployment: Deployment) -> Callable[..., str]:
    """
    Return a function that waits for texts in all log files, or in those with a part of a path, and returns these logs.

    Airflow stores the state of a task before it has written the last lines of its log. A text that does not appear
    fails the test.
    """

    def wait(part_of_path: str = "", *texts: str) -> str:
        def logs() -> str:
            paths = (path for path in deployment.home.rglob("*.log") if part_of_path in str(path) and path.is_file())
            return "".join(path.read_text(errors="replace") for path in paths)

        for text in texts:
            deployment.wait_for(f"{text!r} in the logs", lambda text=text: text in logs(), seconds=60)
        return logs()

    return wait
