"""Each example DAG runs and ends as its docstring says."""

from __future__ import annotations

import runpy
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
import receivers
import watchers
from clock import Clock
from support import AIRFLOW, ROOT, Run

from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger
from airflow_provider_aimlbilling.waiting import watcher_state

EXAMPLES = ROOT / "example_dags"
POKE_INTERVAL = "poke_interval=10,"


@pytest.fixture
def example(run_dag: Any) -> Callable[..., Run]:
    def run(name: str, *, poll_quickly: bool = False, retry_quickly: bool = False, **arguments: Any) -> Run:
        source = (EXAMPLES / f"{name}.py").read_text()
        if retry_quickly:
            assert "timedelta(minutes=1)" in source
            source = source.replace("timedelta(minutes=1)", "timedelta(0)")
        if poll_quickly:
            assert POKE_INTERVAL in source
            source = source.replace(POKE_INTERVAL, "poke_interval=1,")
        return run_dag.source(name, source, **arguments)  # type: ignore[no-any-return]

    return run


def top_up_while_waiting(sandbox: Sandbox, amount: str) -> None:
    """Top up once the gate has read the balance and has begun to read it again."""

    def polls() -> int:
        return sum(request.path == "/v1/billing/balance" for request in sandbox.requests)

    def wait_then_top_up() -> None:
        while polls() < 2:
            time.sleep(0.02)
        sandbox.top_up(amount)

    threading.Thread(target=wait_then_top_up, daemon=True).start()


def test_push_balance(example: Any, sandbox: Sandbox) -> None:
    run = example("aimlbilling_push_balance")
    assert run.xcom("balance")["balance"] == 5_000_000
    assert run.xcom("report") == "The account holds 5000000 credits, which is 2.50 USD."


def test_wait_then_run(example: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("1 USD")
    top_up_while_waiting(sandbox, "4 USD")
    run = example("aimlbilling_wait_then_run", poll_quickly=True)
    assert [run.state(task) for task in ("gate", "ai_job", "publish")] == ["success"] * 3
    assert run.xcom("ai_job") == "ran with 5.00 USD in the account"


@pytest.mark.parametrize("rich", [True, False])
def test_skip_branch_or_fail(example: Any, sandbox: Sandbox, rich: bool) -> None:
    sandbox.set_balance("1 USD" if rich else "0.99 USD")
    run = example("aimlbilling_skip_branch_or_fail")
    states = {name: run.state(name) for name in ("nightly_extras", "large_model", "small_model", "check", "must_run")}
    assert states == (
        dict.fromkeys(states, "success") | {"small_model": "skipped"}
        if rich
        else {
            "nightly_extras": "skipped",
            "large_model": "skipped",
            "small_model": "success",
            "check": "failed",
            "must_run": "upstream_failed",
        }
    )


def test_several_accounts(example: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox("6 USD", key="production-key") as production:
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_RESEARCH", sandbox.connection())
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_PRODUCTION", production.connection())
        run = example("aimlbilling_several_accounts")
    assert run.xcom("summary") == ["2.50 USD", "6.00 USD"]


@pytest.mark.parametrize("low", [True, False])
def test_low_balance_alert(example: Any, sandbox: Sandbox, low: bool) -> None:
    sandbox.set_balance(9_000 if low else 10_000)
    run = example("aimlbilling_low_balance_alert")
    assert run.state("check") == ("failed" if low else "success")
    if not AIRFLOW.startswith(("3.0", "3.1", "3.2")):  # there dag.test() runs no callbacks
        assert ("ALERT aimlbilling_low_balance_alert" in run.log) is low
    assert ("0.0005 USD missing" in run.log) is low


@pytest.mark.parametrize(("balance", "state"), [("1.20 USD", "success"), ("1.19 USD", "deferred")])
def test_price_then_run(example: Any, sandbox: Sandbox, balance: str, state: str) -> None:
    """200,000 input tokens cost 0.50 USD, 50,000 output tokens 0.50 USD; with a margin of 20% that is 1.20 USD."""
    sandbox.set_balance(balance)
    if state == "deferred":
        top_up_while_waiting(sandbox, "0.01 USD")
    run = example("aimlbilling_price_then_run", poll_quickly=True)
    assert run.xcom("price") == "2400000 credits"
    assert [run.state(task) for task in ("gate", "summarize")] == ["success"] * 2
    assert ("Waiting: " in run.log) is (state == "deferred")


def test_guard_mapped_jobs(example: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("0.49 USD")
    run = example("aimlbilling_guard_mapped_jobs")
    assert {run.state("ai_job", index) for index in range(10)} == {"skipped"}
    assert run.xcom("count") == 0
    assert "10 of 10 jobs did not run." in run.log
    sandbox.set_balance("0.50 USD")
    assert example("aimlbilling_guard_mapped_jobs").xcom("count") == 10


@pytest.mark.parametrize("spent", ["1 USD", "1.01 USD"])
def test_key_limit(example: Any, sandbox: Sandbox, spent: str) -> None:
    sandbox.set_balance("9 USD")
    sandbox.set_key_limit("2 USD", "week")
    sandbox.spend(spent, "a")
    run = example("aimlbilling_key_limit")
    assert run.state("check") == ("success" if spent == "1 USD" else "failed")
    assert run.state("ai_job") == ("success" if spent == "1 USD" else "upstream_failed")


def test_budget(example: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 of 20 USD are spent: enough is left for the job, but not for the extras. Then the week begins again."""
    clock = Clock(monkeypatch, datetime(2026, 11, 29, 12, tzinfo=timezone.utc))
    sandbox.set_balance("100 USD")
    sandbox.spend("16 USD", "a", at=clock.now)
    run = example("aimlbilling_budget")
    assert [run.state(task) for task in ("gate", "ai_job", "extras")] == ["success", "success", "skipped"]
    sandbox.spend("3.50 USD", "a", at=clock.now)
    sandbox.requests.clear()

    def turn_the_week() -> None:
        while sum(request.path.startswith("/v2/usage") for request in sandbox.requests) < 3:
            time.sleep(0.02)
        clock.now = datetime(2026, 11, 29, 23, tzinfo=timezone.utc)  # midnight in Berlin

    threading.Thread(target=turn_the_week, daemon=True).start()
    run = example("aimlbilling_budget", poll_quickly=True)
    assert [run.state(task) for task in ("gate", "ai_job")] == ["success", "success"]
    assert "0.50 USD missing: 0.50 USD left of the budget of 20.00 USD per week in Europe/Berlin" in run.log


def test_report_spending(example: Any, sandbox: Sandbox) -> None:
    at = datetime(2026, 11, 9, tzinfo=timezone.utc)
    sandbox.spend("0.75 USD", "a", at=at)
    sandbox.spend("1 USD", "b", at=at)
    lines = example("aimlbilling_report_spending").xcom("report")
    assert lines[:2] == ["b: 1.00 USD in 1 requests", "a: 0.75 USD in 1 requests"]
    assert lines[2].startswith("total 1.75 USD")


def test_run_cost(run_dag: Any, sandbox: Sandbox) -> None:
    """The three documents have 5, 7 and 4 tokens, and so have the replies: 16 x 5 + 16 x 20 credits."""
    source = (EXAMPLES / "aimlbilling_run_cost.py").read_text()
    assert "settle_seconds=120" in source
    run = run_dag.source("aimlbilling_run_cost", source.replace("settle_seconds=120", "settle_seconds=1"))
    report = run.xcom("cost")
    assert [line["map_index"] for line in report["lines"]] == [1, 0, 2]
    assert (report["cost_credits"], report["requests"], report["may_be_incomplete"]) == ("400", 3, False)
    # 3 x (8 x 5 + 8 x 20) credits
    assert (report["estimate"]["estimated_credits"], report["estimate"]["ratio"]) == ("600", "0.6667")
    assert "summarize 1 1 sandbox/chat 1 0 7 7 0.0000875" in run.log


def test_stuck_top_up(example: Any, sandbox: Sandbox) -> None:
    sandbox.set_auto_top_up("5 USD", "20 USD", payments_work=False)
    sandbox.spend("1 USD", at=datetime.now(timezone.utc) - timedelta(minutes=31))
    run = example("aimlbilling_stuck_top_up")
    assert (run.state("gate"), run.state("ai_job")) == ("failed", "upstream_failed")
    assert "Check the payment method." in run.log


@pytest.mark.parametrize("rich", [True, False])
def test_report_verdict(example: Any, sandbox: Sandbox, rich: bool) -> None:
    sandbox.set_balance("2 USD" if rich else "1 USD")
    run = example("aimlbilling_report_verdict")
    assert run.state("gate") == ("success" if rich else "skipped")
    assert run.xcom("report").startswith("Enough: " if rich else "Not enough: 1.00 USD missing: ")


@pytest.mark.skipif(AIRFLOW.startswith(("2.", "3.0", "3.1", "3.2")), reason="Airflow has no retry policies before 3.3")
@pytest.mark.parametrize(
    ("fault", "state", "calls"), [(None, "success", 1), (429, "success", 2), (401, "failed", 1), (403, "failed", 1)]
)
def test_retry_policy(example: Any, sandbox: Sandbox, fault: int | None, state: str, calls: int) -> None:
    if fault:
        sandbox.fail(status=fault, retry_after=1, times=1 if fault == 429 else None)
    run = example("aimlbilling_retry_policy")
    assert run.state("ai_job") == state
    assert len(sandbox.requests) == calls
    assert ("Retry policy decision" in run.log) is bool(fault)
    assert fault or run.xcom("ai_job") == "current"


@pytest.mark.skipif(AIRFLOW.startswith("2."), reason="Airflow has no asset watchers before 3")
def test_pause_on_low_balance(example: Any, sandbox: Sandbox) -> None:
    run = example("aimlbilling_pause_on_low_balance")
    assert run.state("pause") == "success"
    assert spending_variable() == "paused"


@pytest.mark.skipif(AIRFLOW.startswith("2."), reason="Airflow has no asset watchers before 3")
def test_resume_after_top_up(example: Any, sandbox: Sandbox) -> None:
    run = example("aimlbilling_resume_after_top_up")
    assert run.state("resume") == "success"
    assert spending_variable() == "allowed"


needs_watchers = pytest.mark.skipif(AIRFLOW.startswith("2."), reason="Airflow has no asset watchers before 3")
BELOW = [
    "Balance fell below 20.00 USD (and 50.00 USD): 12.00 USD left.",
    "12.00 USD lasts ",
    "open by themselves after a",
]
ABOVE = ["Balance recovered to 50.00 USD (and 20.00 USD): 60.00 USD left.", "60.00 USD lasts ", "at their next poll."]


def spend_for_days(sandbox: Sandbox, days: int) -> None:
    """Spend 2 USD on each of the last days."""
    for ago in range(1, days + 1):
        sandbox.spend("2 USD", "a", at=datetime.now(timezone.utc) - timedelta(days=ago))


def tell_of(name: str, sandbox: Sandbox, *balances: str) -> str:
    """Run the example's watcher while the account has these balances, and its task with the events that it fired."""
    example = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    _, arguments = example["levels"].serialize()
    sandbox.set_balance(balances[0])
    events = watchers.run_for(sandbox, BalanceEventTrigger(**arguments | {"poke_interval": 0.1}), *balances)
    received = [SimpleNamespace(extra={"payload": event}) for event in events]
    return str(example["dag"].get_task("tell").python_callable({"levels": received}))


@needs_watchers
@pytest.mark.parametrize(("balances", "expected"), [(("60 USD", "12 USD"), BELOW), (("12 USD", "60 USD"), ABOVE)])
def test_low_balance_slack(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, balances: tuple[str, ...], expected: list[str]
) -> None:
    pytest.importorskip("airflow.providers.slack")
    monkeypatch.setattr(watcher_state, "SETTLE_TIME", 0.1)
    sandbox.set_balance("100 USD")
    spend_for_days(sandbox, 9)
    with receivers.slack() as (connection, messages):
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_SLACK", connection)
        tell_of("aimlbilling_low_balance_slack", sandbox, *balances)
    (message,) = messages
    assert all(part in message["text"] for part in expected), message
    assert ("https://aimlapi.com/app/billing" in message["text"]) is (expected is BELOW)


@needs_watchers
@pytest.mark.parametrize(("balances", "expected"), [(("60 USD", "12 USD"), BELOW), (("12 USD", "60 USD"), ABOVE)])
def test_low_balance_email(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, balances: tuple[str, ...], expected: list[str]
) -> None:
    monkeypatch.setattr(watcher_state, "SETTLE_TIME", 0.1)
    sandbox.set_balance("100 USD")
    spend_for_days(sandbox, 9)
    with receivers.smtp() as (connection, messages):
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_SMTP", connection)
        tell_of("aimlbilling_low_balance_email", sandbox, *balances)
    (message,) = messages
    assert message["Subject"] == f"AI/ML API account: {expected[0]}"
    assert (message["To"], message["From"]) == ("on-call@example.com", "airflow@example.com")
    body = message.get_body(("html",))
    assert body is not None
    assert all(part in body.get_content() for part in expected), body.get_content()


@needs_watchers
@pytest.mark.parametrize("days", [0, 3])
def test_an_alert_without_an_estimate_says_why(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, days: int) -> None:
    """The level must be reported all the same."""
    monkeypatch.setattr(watcher_state, "SETTLE_TIME", 0.1)
    sandbox.set_balance("100 USD")
    spend_for_days(sandbox, days)
    with receivers.smtp() as (connection, messages):
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_SMTP", connection)
        text = tell_of("aimlbilling_low_balance_email", sandbox, "60 USD", "12 USD")
    assert len(messages) == 1
    assert text.startswith(BELOW[0])
    assert ("No estimate: " in text, "7 complete days are needed" in text) == (True, days == 3)


@needs_watchers
@pytest.mark.parametrize("name", ["slack", "email"])
def test_a_manual_run_of_an_alert_sends_the_estimate(
    example: Any, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, name: str
) -> None:
    pytest.importorskip("airflow.providers.slack" if name == "slack" else "airflow.providers.smtp")
    sandbox.set_balance("100 USD")
    spend_for_days(sandbox, 9)
    with (receivers.slack if name == "slack" else receivers.smtp)() as (connection, messages):
        monkeypatch.setenv(f"AIRFLOW_CONN_AIMLBILLING_{'SLACK' if name == 'slack' else 'SMTP'}", connection)
        run = example(f"aimlbilling_low_balance_{name}")
    assert run.state("tell") == "success"
    assert len(messages) == 1
    assert run.xcom("tell").startswith("82.00 USD lasts 41.0 to 41.0 days")


@needs_watchers
def test_an_alert_that_slack_refuses_is_retried(
    example: Any, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    pytest.importorskip("airflow.providers.slack")
    with receivers.slack(status=404) as (connection, messages):
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_SLACK", connection)
        run = example("aimlbilling_low_balance_slack", retry_quickly=True)
    assert run.state("tell") == "failed"
    assert len(messages) == 4


def spending_variable() -> str:
    from airflow.models import Variable

    return str(Variable.get("aimlbilling_spending"))


def test_every_example_is_tested_and_says_what_to_expect() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {name.removeprefix("aimlbilling_") for name in names} <= tested
    for path in EXAMPLES.glob("*.py"):
        assert "**What to expect:**" in path.read_text(), path
