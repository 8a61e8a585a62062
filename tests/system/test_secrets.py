"""The key is in no log, event, XCom, rendered template or database row of a real Airflow, whatever fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from deployment import Deployment
from postgres import Postgres
from support import KEY

from airflow_provider_aimlbilling.sandbox import Sandbox


def test_nothing_that_airflow_stores_contains_the_key(
    deployment: Deployment,
    postgres: Postgres | None,
    accounts: dict[str, Sandbox],
    runs: dict[str, str],
    wait_for_logs: Callable[..., str],
) -> None:
    account, run = accounts["faulty"], runs["faults"]
    waiting = {"refused_while_waiting": "deferred", "rescheduled": "skipped"}
    deployment.wait_for(
        "a deferred gate and one that timed out",
        lambda: waiting.items() <= deployment.states(run).items(),
        seconds=240,
    )
    # Some APIs quote the key in their error messages.
    account.fail(status=401, message=f"The key {KEY} is wrong, {KEY[:8]}…")
    ended = {"success", "failed", "skipped"}
    deployment.wait_for("the run to end", lambda: set(deployment.states(run).values()) <= ended, seconds=240)
    states = deployment.states(run)
    for task in ("refused_at_once", "newline_in_key", "refused_while_waiting", "check"):
        assert states[task] == "failed", task

    # The search has something to find in each place.
    log = wait_for_logs(
        "", "put a working key into the password of the connection", "Paste the key again", "497.00 USD missing"
    )
    logs = [path for path in deployment.home.rglob("*.log") if path.is_file()]
    for path in [*logs, *deployment.home.glob("airflow.db*")]:
        with suppress(FileNotFoundError):  # SQLite deletes its journal after each transaction
            assert KEY.encode() not in path.read_bytes(), path
    assert KEY[:8] not in log, "not even a part of it that would help to guess it"
    if postgres:
        database = postgres.dump("airflow")

        def stored(text: str) -> bool:  # Airflow 2 stores XComs in binary, which the dump has in hexadecimal digits
            return text in database or text.encode().hex() in database

        assert stored("497.00 USD missing")
        assert not stored(KEY)
