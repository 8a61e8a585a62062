"""
The built wheel in an environment of its own, on a real scheduler, triggerer and, from 3.0 on, DAG processor and API.

Ten gates wait deferred, the account is topped up, and all ten succeed with the balance as XCom. Gates that ask to start
in the triggerer never see a worker where Airflow can do that, and go through one where it cannot. Runs with faults are
then searched for the key.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import AIRFLOW, KEY

import airflow_provider_aimlbilling
from airflow_provider_aimlbilling.links import BILLING_PAGE
from airflow_provider_aimlbilling.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import environment  # noqa: E402
from deployment import Deployment  # noqa: E402

DAGS = """
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG, Asset, task
from airflow_provider_aimlbilling.operators.balance import BalanceCheckOperator, GetBalanceOperator
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

with DAG("ten_gates", start_date=datetime(2026, 1, 1), schedule=None):
    for number in range(10):
        BalanceSensor(
            task_id=f"gate_{number}", threshold=f"{number + 1} USD", aimlbilling_conn_id="stored",
            deferrable=True, poke_interval=2,
        )

with DAG("faults", start_date=datetime(2026, 1, 1), schedule=None):
    options = {"deferrable": True, "poke_interval": 1, "timeout": 300}
    BalanceSensor(task_id="refused_at_once", aimlbilling_conn_id="wrong_key", **options)
    BalanceSensor(task_id="newline_in_key", aimlbilling_conn_id="newline", **options)
    BalanceSensor(task_id="refused_while_waiting", threshold="500 USD", **options)
    # Not sooner: schedulers of 3.x fail a task that is due again before its executor has reported the last poke.
    BalanceSensor(
        task_id="rescheduled", threshold="500 USD", mode="reschedule", poke_interval=15, timeout=5, soft_fail=True
    )
    BalanceCheckOperator(task_id="check", threshold="500 USD")
    GetBalanceOperator(task_id="balance")

options = {"start_from_trigger": True, "deferrable": True, "poke_interval": 2, "timeout": 300}
with DAG("no_worker", start_date=datetime(2026, 1, 1), schedule=None, params={"need": "1 USD", "worth": 2_000_000}):
    BalanceSensor(task_id="literal", threshold="1 USD", **options)
    BalanceSensor(task_id="credits", threshold=2_000_000, **options)
    BalanceSensor(task_id="params", threshold="{{ params.need }}", **options)
    BalanceSensor(task_id="number_in_params", threshold="{{ params.worth }}", **options)
    BalanceSensor(task_id="own_params", threshold="{{ params.mine }}", params={"mine": "1 USD"}, **options)
    BalanceSensor(task_id="conf", threshold="{{ dag_run.conf['wanted'] }}", **options)
    BalanceSensor(task_id="variable", threshold="{{ var.value.budget }}", **options)
    BalanceSensor(
        task_id="connection", threshold=1, aimlbilling_conn_id="{{ params.account }}",
        params={"account": "poor"}, **options,
    )
    BalanceSensor(task_id="low_balance", aimlbilling_conn_id="poor", **options)
    BalanceSensor(task_id="no_xcom", threshold="1 USD", do_xcom_push=False, **options)
    BalanceSensor(task_id="fails_aloud", threshold="1 USD", on_failure_callback=print, **options)
    BalanceSensor(task_id="backs_off", threshold="1 USD", exponential_backoff=True, **options)

with DAG("needs_worker", start_date=datetime(2026, 1, 1), schedule=None, params={"need": "1 USD"}):
    @task
    def price():
        return "1 USD"

    from_xcom = price()
    BalanceSensor(task_id="xcom", threshold=from_xcom, **options)
    BalanceSensor(task_id="pulled", threshold="{{ ti.xcom_pull('price') }}", **options) << from_xcom
    BalanceSensor(task_id="macro", threshold="{{ macros.json.loads('2000000') }}", **options)
    BalanceSensor(task_id="outlet", threshold="1 USD", outlets=[Asset("paid")], **options)
    BalanceSensor(task_id="callback", threshold="1 USD", on_success_callback=print, **options)
    BalanceSensor.partial(task_id="mapped", **options).expand(threshold=["1 USD", "500 USD"])

with DAG("gives_up", start_date=datetime(2026, 1, 1), schedule=None):
    BalanceSensor(task_id="skipped", threshold="500 USD", soft_fail=True, **(options | {"timeout": 4}))
    BalanceSensor(task_id="timed_out", threshold="500 USD", **(options | {"timeout": 4}))
    BalanceSensor(task_id="bad_threshold", threshold="{{ params.x }}", params={"x": "3 EUR"}, **options)
    BalanceSensor(task_id="refused", threshold="1 USD", aimlbilling_conn_id="wrong_key", **options)
"""


WATCHER = """
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG, Asset, task
from airflow.sdk import AssetWatcher
from airflow_provider_aimlbilling.triggers.crossing import BalanceEventTrigger

below = BalanceEventTrigger("1 USD", "below", "0.50 USD", aimlbilling_conn_id="watched", poke_interval=1)
fell = Asset("balance_fell", watchers=[AssetWatcher(name="below", trigger=below)])

with DAG("pause", start_date=datetime(2026, 1, 1), schedule=[fell]):
    @task
    def pause(triggering_asset_events=None):
        (event,) = [event for events in triggering_asset_events.values() for event in events]
        return {"reason": event.extra["payload"]["reason"]}

    pause()
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """Give the interpreter of an environment that holds the wheel: this one in the matrix, else a fresh one."""
    if ROOT not in Path(airflow_provider_aimlbilling.__file__).resolve().parents or "site-packages" in str(
        airflow_provider_aimlbilling.__file__
    ):
        return Path(sys.executable)
    built = environment.wheel(ROOT / ".build" / "system" / "dist")
    return environment.make(ROOT / ".build" / "system" / "venv", "3.3.2", [str(built)])


@pytest.fixture(scope="module")
def account() -> Iterator[Sandbox]:
    with Sandbox("0.50 USD", key=KEY) as served:
        yield served


@pytest.fixture(scope="module")
def watched() -> Iterator[Sandbox]:
    with Sandbox("2 USD", key=f"{KEY}-of-another") as served:
        yield served


@pytest.fixture(scope="module")
def deployment(
    python: Path, account: Sandbox, watched: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("system")
    (folder / "dags").mkdir()
    (folder / "dags" / "gates.py").write_text(DAGS)
    if AIRFLOW.startswith("3."):
        (folder / "dags" / "watcher.py").write_text(WATCHER)
    wrong = json.loads(account.connection())
    connections = {
        "AIRFLOW_CONN_AIMLBILLING_DEFAULT": account.connection(),
        "AIRFLOW_CONN_WRONG_KEY": json.dumps(wrong | {"password": f"{KEY}-expired"}),
        "AIRFLOW_CONN_POOR": account.connection(),
        "AIRFLOW_CONN_WATCHED": watched.connection(),
        "AIRFLOW_VAR_BUDGET": "1 USD",
        "AIRFLOW_CONN_NEWLINE": json.dumps(wrong | {"password": f"{KEY}\n"}),
    }
    with Deployment(folder / "home", python, folder / "dags", connections) as running:
        # In the database, where a triggerer finds it in another way than in the environment.
        running.run("connections", "add", "stored", "--conn-json", account.connection())
        yield running


def test_ten_gates_wait_and_open(deployment: Deployment, account: Sandbox) -> None:
    run = deployment.trigger("ten_gates")

    def all_are(state: str) -> bool:
        states = deployment.states(run)
        return len(states) == 10 and set(states.values()) == {state}

    deployment.wait_for("ten deferred gates", lambda: all_are("deferred"), seconds=180)
    time.sleep(5)
    before = len(account.requests)
    time.sleep(10)
    asked = len(account.requests) - before
    assert asked <= 6, "10 s at 2 s: one poll for all"
    assert all_are("deferred")

    account.top_up("100 USD")
    deployment.wait_for("ten open gates", lambda: all_are("success"), seconds=180)
    for number in range(10):
        assert deployment.xcom(run, f"gate_{number}")["balance"] == 201_000_000
        assert deployment.xcom(run, f"gate_{number}", "verdict")["threshold_credits"] == (number + 1) * 2_000_000
    if not deployment.old:  # Airflow 2 asks the operator for its links, when the page is shown
        links = "select value from xcom where run_id = ? and key = '_link_BillingPageLink'"
        found = deployment.query(links, run)
        assert len(found) == 10
        assert all(BILLING_PAGE in str(value) for (value,) in found)


def test_a_watcher_starts_a_dag_once_a_crossing(deployment: Deployment, watched: Sandbox) -> None:
    """The event reaches the run, with what the page on events says that is in it."""
    if deployment.old:
        pytest.skip("Airflow 2 has no asset watchers")

    def runs() -> list[str]:
        return [run for (run,) in deployment.query("select run_id from dag_run where dag_id = 'pause'")]

    def seen() -> None:
        """Wait until the balance as it is now has been read, and kept where Airflow keeps that."""
        asked = len(watched.requests)
        deployment.wait_for("the watcher to look", lambda: len(watched.requests) >= asked + 6, seconds=120)

    seen()
    assert runs() == []
    watched.set_balance("0.99 USD")
    (first,) = deployment.wait_for("a run", runs, seconds=120)
    deployment.wait_for("its XCom", lambda: deployment.xcom(first, "pause"), seconds=120)
    assert "The balance fell below 2,000,000 credits (1.00 USD)" in deployment.xcom(first, "pause")["reason"]
    for balance in ("1.20 USD", "0.80 USD"):  # which is not far enough for another
        watched.set_balance(balance)
        seen()
    assert runs() == [first]
    watched.set_balance("2 USD")
    seen()
    watched.set_balance("0.50 USD")
    deployment.wait_for("a second run", lambda: len(runs()) == 2, seconds=120)


def workers(deployment: Deployment, run: str) -> dict[tuple[str, int], bool]:
    """Tell of each task of a run whether it was ever handed to a worker."""
    rows = deployment.query(
        "select task_id, map_index, queued_dttm is not null from task_instance where run_id = ?", run
    )
    return {(task, index): bool(queued) for task, index, queued in rows}


def test_gates_without_a_worker(deployment: Deployment, account: Sandbox) -> None:
    """A gate that starts in the triggerer waits for the right sum and ends with the right XCom, or takes a worker."""
    account.set_balance(0)
    run, other = deployment.trigger("no_worker", {"wanted": "1 USD"}), deployment.trigger("needs_worker")
    mapped = ("mapped", 1)  # waits for more than it gets
    states = lambda run: deployment.query("select task_id, map_index, state from task_instance where run_id = ?", run)  # noqa: E731

    def all_are(state: str, run: str) -> bool:
        rows = [row for row in states(run) if row[0] != "price" and row[:2] != mapped]
        return len(rows) in (12, 6) and {row[2] for row in rows} == {state}

    deployment.wait_for("deferred gates", lambda: all_are("deferred", run) and all_are("deferred", other), seconds=180)
    account.set_balance("0.99 USD")
    time.sleep(6)
    still = {task for task, _, state in states(run) if state == "deferred"}
    assert still >= {row[0] for row in states(run)} - {"connection", "low_balance"}, "no gate opens at another's sum"
    account.set_balance("1 USD")
    deployment.wait_for("open gates", lambda: all_are("success", run) and all_are("success", other), seconds=180)

    can = not deployment.version.startswith(("2.", "3.0", "3.1", "3.2"))
    assert set(workers(deployment, run).values()) == {not can}
    assert all(workers(deployment, other).values())
    assert dict(row[:1] + row[2:] for row in states(other) if row[:2] == mapped) == {"mapped": "deferred"}
    for task, _, _ in states(run):
        xcom = deployment.xcom(run, task)
        assert (xcom is None) if task == "no_xcom" else (xcom["balance"] in (1_980_000, 2_000_000)), task
    if can:  # a gate that is cleared and waits again must not go on showing what opened it before
        account.set_balance(0)
        # Or the scheduler may call the run ended after it was cleared, and never look at it again.
        deployment.wait_for(
            "the run to end",
            lambda: deployment.query("select 1 from dag_run where run_id = ? and state = 'success'", run),
            seconds=60,
        )
        cleared = {"dry_run": False, "dag_run_id": run, "task_ids": ["literal"], "reset_dag_runs": True}
        deployment.post("/api/v2/dags/no_worker/clearTaskInstances", cleared | {"only_failed": False})
        deployment.wait_for(
            "a cleared gate to wait without its XCom",
            lambda: deployment.states(run)["literal"] == "deferred" and deployment.xcom(run, "literal") is None,
            seconds=120,
        )
    told = "".join(path.read_text() for path in deployment.home.rglob("*.log") if "needs_worker" in str(path))
    reasons = ["only a worker knows the threshold", "uses 'ti'", "uses 'macros'", "outlets", "on_success_callback"]
    reasons = [*reasons, "the task is mapped"] if can else ["it needs Airflow 3.3 or later"]
    for reason in reasons:
        assert reason in told


def test_gates_without_a_worker_end_badly_with_one(deployment: Deployment, account: Sandbox) -> None:
    """Flags and errors mean what they mean in the other modes: only success ends in the triggerer."""
    if deployment.version.startswith(("2.", "3.0", "3.1", "3.2")):
        pytest.skip("here each gate has a worker, as in the other tests")
    account.set_balance(0)
    run = deployment.trigger("gives_up")
    ended = {"skipped": "skipped", "timed_out": "failed", "bad_threshold": "failed", "refused": "failed"}
    deployment.wait_for("the gates to give up", lambda: deployment.states(run) == ended, seconds=180)
    told = "".join(path.read_text() for path in deployment.home.rglob("*.log") if "gives_up" in str(path))
    assert "The balance did not clear within 4 seconds" in told
    assert "'3 EUR' is no amount of money" in told
    assert "AimlBillingAuthError" in told


def test_no_log_event_xcom_or_template_of_a_run_with_faults_holds_the_key(
    deployment: Deployment, account: Sandbox
) -> None:
    account.set_balance("3 USD")
    run = deployment.trigger("faults")
    waiting = {"refused_while_waiting": "deferred", "rescheduled": "skipped"}
    deployment.wait_for(
        "one gate to be deferred and one to give up",
        lambda: waiting.items() <= deployment.states(run).items(),
        seconds=180,
    )
    # An API that quotes the key back, as some do.
    account.fail(status=401, message=f"The key {KEY} is wrong, {KEY[:8]}…")

    def ended() -> bool:
        return set(deployment.states(run).values()) <= {"success", "failed", "skipped"}

    deployment.wait_for("the run to end", ended, seconds=180)
    account.mend()
    states = deployment.states(run)
    for task in ("refused_at_once", "newline_in_key", "refused_while_waiting", "check"):
        assert states[task] == "failed", task

    # Looked at last, so that the search below has something to find in each place.
    logs = [path for path in deployment.home.rglob("*") if path.suffix == ".log" and path.is_file()]
    told = "".join(path.read_text(errors="replace") for path in logs)
    assert "put a working key into the password of the connection" in told
    assert "Paste the key again" in told
    assert "missing 994,000,000 credits" in told
    leaks = [path for path in [*logs, *deployment.home.glob("airflow.db*")] if KEY.encode() in path.read_bytes()]
    assert not leaks
    # Nor a part that would help to guess it.
    assert KEY[:8] not in told
