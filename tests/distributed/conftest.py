"""A distributed Airflow for all tests of this folder: ``make test-distributed``. The tests run in their order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environment
import pytest
from cluster import Cluster, Redis
from deployment import _free_port
from figures import Figures
from postgres import Postgres
from spend_server import SpendServer
from support import ROOT

from airflow_provider_aimlbilling.sandbox import Sandbox

KEY = "distributed-key"
BALANCES = dict.fromkeys(["one_triggerer", "both_triggerers", "stores", "servers", "api", "key"], "0.10 USD") | {
    "empty": 0,
    "completes": "0.10 USD",
    "slow": "5 USD",
    "counted": "0.55 USD",
    "watched": "2 USD",
    **{f"account_{number:02}": "0.10 USD" for number in range(20)},
}
PACKAGES = ["apache-airflow-providers-celery", "redis", "asyncpg", "psycopg2-binary"]

_figures = Figures()


@dataclass(frozen=True)
class BillingFaults:
    """
    Faults of the billing API, and what they met.

    :param thread: ends with the last of them.
    :param before: how many requests came before them.
    :param met: how many requests each of them met.
    """

    thread: threading.Thread
    before: int
    met: dict[str, int]


@pytest.fixture(scope="session")
def figures() -> Figures:
    return _figures


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(_figures.table())


@pytest.fixture(scope="session")
def accounts() -> Iterator[dict[str, Sandbox]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(Sandbox(balance, key=KEY)) for name, balance in BALANCES.items()}


@pytest.fixture(scope="session")
def spending(accounts: dict[str, Sandbox]) -> Iterator[SpendServer]:
    with SpendServer(accounts, "0.25 USD") as server:
        yield server


@pytest.fixture(scope="session")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which tasks say where they are."""
    return tmp_path_factory.mktemp("marks")


@pytest.fixture(scope="session")
def cluster(accounts: dict[str, Sandbox], spending: SpendServer, marks: Path) -> Iterator[Cluster]:
    if Postgres.programs() is None or Redis.program() is None:
        pytest.exit("Install the servers PostgreSQL and Redis (on Debian: postgresql and redis-server).", 1)
    folder = ROOT / ".build" / "distributed"
    python = environment.make(folder / "venv", "3.3.2", [str(environment.wheel(folder / "dist")), *PACKAGES])
    env = {
        "SPEND_URL": spending.url,
        "MARKS": str(marks),
        **{
            f"AIRFLOW_CONN_{name.upper()}": account.connection(timeout=30)
            for name, account in accounts.items()
            if name != "key"
        },
    }
    with Postgres(_free_port()) as database, Redis(_free_port()) as broker:
        database.create("airflow")
        dags = Path(__file__).parent / "dags"
        with Cluster(folder / "home", python, dags, env, database, broker) as running:
            running.add_connection("key", accounts["key"].connection())  # it is rotated, so it is in the database
            yield running


@pytest.fixture(scope="session")
def runs(cluster: Cluster) -> dict[str, str]:
    """Start the sixty gates and wait until all of them wait in a triggerer."""
    started = {name: cluster.trigger(f"wait_{name}") for name in list(BALANCES)[:6]}

    def all_wait() -> bool:
        rows = cluster.query("select count(*) as n from task_instance where state = 'deferred'")
        return bool(rows[0][0] >= 60)

    cluster.wait_for("sixty deferred gates", all_wait, seconds=300)
    return started


@pytest.fixture(scope="session")
def billing_faults(accounts: dict[str, Sandbox], runs: dict[str, str]) -> BillingFaults:
    """Let the billing API fail for one account, while the other tests go on."""
    account, met = accounts["api"], {"away": 0, "slow": 0, "overloaded": 0}
    before = len(account.requests)
    faults: dict[str, tuple[dict[str, Any], float]] = {
        "away": ({"reset": True}, 120),
        "slow": ({"delay": 3}, 15),
        "overloaded": ({"status": 429, "retry_after": 4}, 15),
    }

    def fail() -> None:
        for name, (fault, seconds) in faults.items():
            first, began = len(account.requests), time.monotonic()
            account.fail(**fault)
            # Other tests restart services meanwhile, so for some time nobody may poll.
            while (passed := time.monotonic() - began) < seconds or (met[name] < 3 and passed < 180):
                time.sleep(0.5)
                met[name] = len(account.requests) - first
        account.recover()

    thread = threading.Thread(target=fail, daemon=True)
    thread.start()
    return BillingFaults(thread, before, met)
