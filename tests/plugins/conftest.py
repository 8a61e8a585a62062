"""Airflow's own API server with the billing page, in this process, clients of several users, and a run to copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from typing import Any

import pytest
from support import AIRFLOW_3_1, Run

from airflow_provider_aimlbilling.sandbox import Sandbox

# The page exists from 3.1 on. The tests of this folder import it, so older versions must not even collect them, except
# test_billing_page.py: the plugin is loaded everywhere.
collect_ignore_glob = [] if AIRFLOW_3_1 else ["test_[!b]*.py"]

BASE = "http://testserver"
ROLES = ("admin", "op", "user", "viewer")


class Clock:
    """The clock of the cache. It stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 11, 26, 12, tzinfo=timezone.utc) + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def _server_settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")  # as Airflow sets it in the API server
        users = ",".join(f"{role}:{role}" for role in ROLES)
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", users)
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "s" * 64)
        patch.setenv("AIRFLOW__API__SECRET_KEY", "t" * 64)
        yield


@pytest.fixture(scope="session")
def airflow_app(database: None, _server_settings: None) -> Any:
    """Airflow's API server. It loads the plugin by its entry point."""
    from airflow.api_fastapi.app import create_app

    return create_app(apps="core")


@pytest.fixture
def app(airflow_app: Any, clock: Clock, _server_settings: None) -> Any:
    """Airflow's API server, with a page that has read nothing yet."""
    from airflow_provider_aimlbilling.plugins.billing_page import BillingPagePlugin
    from airflow_provider_aimlbilling.plugins.page.app import build_app
    from airflow_provider_aimlbilling.plugins.page.reading_cache import ReadingCache

    (declared,) = BillingPagePlugin.fastapi_apps
    declared["app"]._app = build_app(ReadingCache(clock, clock.now))
    return airflow_app


@pytest.fixture
def token(airflow_app: Any) -> Callable[..., str]:
    """Make a token of a user with a role."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    def make(role: str = "admin", **options: Any) -> str:
        return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=role, role=role), **options)

    return make


@pytest.fixture
def client_of(app: Any, token: Callable[..., str]) -> Callable[[str], Any]:
    """Return a client that is logged in with a role."""
    from fastapi.testclient import TestClient

    return lambda role="admin": TestClient(
        app, headers={"Authorization": f"Bearer {token(role)}"}, raise_server_exceptions=False
    )


_RUNS: dict[str, Run] = {}


@pytest.fixture
def run(run_dag: Any, sandbox: Sandbox) -> Iterator[Run]:
    """
    Run a gate that opens, so that everything that Airflow stores about a task is there.

    A run takes seconds, so each test gets a copy of the same one, whose rows it may change.
    """
    from page_rows import change, copied

    if not _RUNS:
        sandbox.set_balance("20 USD")
        gate = 'BalanceSensor(task_id="gate", threshold="{{ 1 + 1 }} USD", budget="200 USD per month", poke_interval=1)'
        _RUNS["gate"] = run_dag(gate)
        assert _RUNS["gate"].state() == "success"
        sandbox.set_balance("2.50 USD")  # as for the other tests
    with copied(_RUNS["gate"]) as copy:
        change(copy, state="success")
        yield copy


assert not AIRFLOW_3_1 or find_spec("fastapi")
