"""GetRunCostOperator in DAG runs: what a run cost, exact, by task, and open about what is not known."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from support import KEY, Run

from airflow_provider_aimlbilling import metrics
from airflow_provider_aimlbilling.exceptions import AimlBillingAuthError, AimlBillingContractError
from airflow_provider_aimlbilling.money.request_id import encode_request_id
from airflow_provider_aimlbilling.operators.run_cost import GetRunCostOperator
from airflow_provider_aimlbilling.sandbox import Fault, Sandbox

NOW = datetime.now(timezone.utc)
LOGS = "/v2/logs"
# "Hello" is 2 tokens, and the reply repeats it: 2 x 5 + 2 x 20 credits.
HELLO = 50
HEAD = """
    import os
    from datetime import timedelta
    import requests
    from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator
    from airflow_provider_aimlbilling.operators.run_cost import GetRunCostOperator
    from airflow_provider_aimlbilling.request_headers import request_headers

    def ask(times=1, headers=None, model="sandbox/chat", text="Hello"):
        headers = {"Authorization": "Bearer " + os.environ["MODEL_KEY"]} | (headers or request_headers())
        chat = {"model": model, "messages": [{"role": "user", "content": text}]}
        for _ in range(times):
            answer = requests.post(os.environ["MODEL_URL"], json=chat, headers=headers, timeout=5)
            answer.raise_for_status()

    @task
    def job(times=1):
        ask(times)

"""
JOB = f"{HEAD}    job() >> GetRunCostOperator(task_id='gate', %s)"


@pytest.fixture(autouse=True)
def model_api(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_URL", f"{sandbox.url}/v1/chat/completions")
    monkeypatch.setenv("MODEL_KEY", KEY)


def readings(sandbox: Sandbox) -> int:
    return sum(request.path.startswith(LOGS) for request in sandbox.requests)


def after_readings(sandbox: Sandbox, times: int, action: Callable[[], None]) -> None:
    """Do something once the log has been read so many times."""

    def wait() -> None:
        while readings(sandbox) < times:
            time.sleep(0.005)
        action()

    threading.Thread(target=wait, daemon=True).start()


def charge_late(sandbox: Sandbox, credits: int = 7) -> None:
    """Add a charge for the request that was logged last."""
    sandbox.spend(credits, "sandbox/chat", client_request_id=sandbox.account.log[-1].client_request_id)


def lines(report: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(line[name] for name in names) for line in report["lines"])


def test_the_cost_of_a_run_is_exact_by_task_map_index_try_and_model(run_dag: Any, sandbox: Sandbox) -> None:
    long = "a_task_with_a_very_long_name_" * 5
    run = run_dag(
        f"""{HEAD}
    from airflow.sdk import TaskGroup

    @task(retries=1, retry_delay=timedelta(0))
    def retried(ti=None):
        ask(3)
        if ti.try_number == 1:
            ask(model="sandbox/mini", text="x" * 4_000)
            raise ValueError("not yet")

    with TaskGroup("group") as group:
        job.expand(times=[2, 4])
        retried()
    group >> job.override(task_id={long!r})() >> GetRunCostOperator(task_id="gate")
        """
    )
    report = run.xcom()
    assert lines(report, "task_id", "map_index", "try_number", "model", "requests", "cost_credits") == [
        (long, -1, 1, "sandbox/chat", 1, str(HELLO)),
        ("group.job", 0, 1, "sandbox/chat", 2, str(2 * HELLO)),
        ("group.job", 1, 1, "sandbox/chat", 4, str(4 * HELLO)),
        ("group.retried", -1, 1, "sandbox/chat", 3, str(3 * HELLO)),
        ("group.retried", -1, 1, "sandbox/mini", 1, "78"),
        ("group.retried", -1, 2, "sandbox/chat", 3, str(3 * HELLO)),
    ]
    spent = sum(entry.credits for entry in sandbox.account.ledger if entry.type == "MODEL_USAGE")
    assert (report["cost_credits"], report["requests"]) == (str(spent), 14)
    assert (report["input_tokens"], report["output_tokens"]) == (13 * 2 + 1000, 13 * 2 + 1000)
    assert (report["retries"]["cost_credits"], report["retries"]["requests"]) == (str(3 * HELLO + 78), 4)
    assert (report["dag_id"], report["run_id"]) == (run.dag_run.dag_id, run.dag_run.run_id)
    assert report["may_be_incomplete"] is True, "the requests were a moment ago"
    assert report["unattributed"]["requests"] == report["other_runs"]["requests"] == 0
    assert "728 credits (0.000364 USD) for 14 requests. Spent on earlier tries: 0.000114 USD." in run.log
    assert "group.job 1 1 sandbox/chat 4 0 8 8 0.0001" in run.log
    assert KEY not in run.log + json.dumps(report)


def test_an_estimate_is_compared_exactly(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        f"""{HEAD}
    price = EstimateCostOperator(
        task_id="price", model="sandbox/chat", requests=5, input_tokens=2, max_output_tokens=4, margin="20%"
    )
    asked = job(4)
    price >> asked
    asked >> GetRunCostOperator(task_id="gate", estimate=price.output)
    asked >> GetRunCostOperator(task_id="details", estimate=price.output["estimate"])
    asked >> GetRunCostOperator(task_id="both", estimate=[price.output, "1 USD"])
    asked >> GetRunCostOperator(task_id="template", estimate="{{{{ ti.xcom_pull('price') }}}}")
        """
    )
    expected = {
        "estimated_usd": "0.00027",  # 5 x (2 x 5 + 4 x 20) credits and 20 %
        "estimated_credits": "540",
        "actual_usd": "0.0001",
        "actual_credits": "200",
        "difference_usd": "-0.00017",
        "difference_credits": "-340",
        "ratio": "0.3704",
    }
    assert [run.xcom(task)["estimate"] for task in ("gate", "details", "template")] == [expected] * 3
    assert run.xcom("both")["estimate"]["estimated_credits"] == "2000540"
    assert "Estimated: 0.00027 USD, actual: 0.0001 USD (ratio 0.3704)." in run.log


def test_an_estimate_that_is_empty_fails_before_any_request(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(f"{HEAD}    GetRunCostOperator(task_id='gate', estimate='{{{{ ti.xcom_pull(\"nothing\") }}}}')")
    assert run.state() == "failed"
    assert "'None' is not an amount of money. The template or XCom that should provide it was empty." in run.log
    assert not sandbox.requests


def test_requests_without_an_id_of_a_task_are_stated_and_cost_somebody_else(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        f"""{HEAD}
    @task
    def untold():
        ask(2, {{"X-Client-Request-Id": "my-own-id"}})
        ask(1, {{"X-Other": "x"}})
        ask(1, {{"X-Client-Request-Id": {encode_request_id("other", "run", "task", -1, 1)!r}}})

    [job(), untold()] >> GetRunCostOperator(task_id="gate")
        """
    )
    report = run.xcom()
    assert (report["requests"], report["cost_credits"]) == (1, str(HELLO))
    assert (report["unattributed"]["requests"], report["unattributed"]["cost_credits"]) == (3, str(3 * HELLO))
    assert (report["other_runs"]["requests"], report["other_runs"]["cost_credits"]) == (1, str(HELLO))
    assert "Requests that name no task: 150 credits (0.000075 USD) for 3 requests." in run.log


def test_a_run_whose_requests_carry_no_id_is_never_reported_as_free(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        f"""{HEAD}
    @task
    def untold():
        ask(2, {{"X-Other": "x"}})

    untold() >> GetRunCostOperator(task_id="gate", estimate="1 USD", wait_until_settled=True, settle_seconds=0.2)
        """
    )
    report = run.xcom()
    assert (report["cost_usd"], report["requests"], report["may_be_incomplete"]) == (None, 0, False)
    assert report["estimate"]["ratio"] is None
    assert "0 requests at an unknown cost" in run.log


def test_a_row_without_a_cost_makes_the_total_a_lower_bound(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        f"""{HEAD}
    @task
    def broken():
        os.environ["LOG"] = requests.get(
            os.environ["MODEL_URL"].replace("/v1/chat/completions", "/v2/logs?period=1h"),
            headers={{"Authorization": "Bearer " + os.environ["MODEL_KEY"]}}, timeout=5,
        ).text

    job(3) >> broken()
        """
    )
    import os

    log = json.loads(os.environ.pop("LOG"))
    log["data"][0].pop("cost")
    log["data"][1]["cost"] = {"usd": None, "credits": None}
    sandbox.fail(body=json.dumps(log).encode())
    dag_id, run_id = run.dag_run.dag_id, run.dag_run.run_id
    start = NOW - timedelta(minutes=5)
    report_run = run_dag(
        f"{HEAD}    GetRunCostOperator(task_id='gate', run_id={run_id!r}, run_dag_id={dag_id!r}, "
        f"start={start.isoformat()!r})"
    )
    report = report_run.xcom()
    assert (report["requests"], report["requests_without_cost"], report["is_lower_bound"]) == (3, 2, True)
    assert report["cost_credits"] == str(HELLO)
    assert "at least 50 credits" in report_run.log
    assert "The log has no cost for 2 of 3 requests. The total is a lower bound." in report_run.log


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_late_charge_is_waited_for(run_dag: Any, sandbox: Sandbox, deferrable: bool) -> None:
    after_readings(sandbox, 1, lambda: charge_late(sandbox))
    run = run_dag(JOB % f"wait_until_settled=True, settle_seconds=1, settle_timeout=60, deferrable={deferrable}")
    report = run.xcom()
    assert (report["cost_credits"], report["requests"]) == (str(HELLO + 7), 2)
    assert report["may_be_incomplete"] is False
    # The reading that misses it, one that sees it, one that sees it again; after a deferral, one for the figures.
    assert readings(sandbox) == 3 + deferrable
    assert "two readings 1 s apart" in run.log


@pytest.mark.parametrize("deferrable", [False, True])
def test_charges_that_do_not_settle_are_reported_in_the_end(run_dag: Any, sandbox: Sandbox, deferrable: bool) -> None:
    for times in range(1, 20):
        after_readings(sandbox, times, lambda: charge_late(sandbox))
    run = run_dag(JOB % f"wait_until_settled=True, settle_seconds=0.5, settle_timeout=1.2, deferrable={deferrable}")
    report = run.xcom()
    assert run.state() == "success"
    assert report["may_be_incomplete"] is True
    assert report["requests"] >= 3
    assert "Charges may still be missing." in run.log


def test_a_window_that_ended_long_ago_needs_no_second_reading(run_dag: Any, sandbox: Sandbox) -> None:
    start = (NOW - timedelta(hours=3)).isoformat()
    end = (NOW - timedelta(hours=2)).isoformat()
    run = run_dag(JOB % f"start={start!r}, end={end!r}, wait_until_settled=True, deferrable=True")
    report = run.xcom()
    assert (report["cost_credits"], report["requests"], report["may_be_incomplete"]) == (None, 0, False)
    assert "The log has no request of this run, so its cost is unknown." in run.log
    assert readings(sandbox) == 1
    assert datetime.fromisoformat(report["end"]) - datetime.fromisoformat(report["start"]) == timedelta(hours=1)


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_api_that_is_away_during_the_wait_ends_nothing(run_dag: Any, sandbox: Sandbox, deferrable: bool) -> None:
    # Four tries are one reading.
    after_readings(sandbox, 1, lambda: sandbox.fail(status=503, times=4))
    run = run_dag(JOB % f"wait_until_settled=True, settle_seconds=0.5, settle_timeout=60, deferrable={deferrable}")
    assert run.state() == "success"
    assert (run.xcom()["may_be_incomplete"], run.xcom()["cost_credits"]) == (False, str(HELLO))
    assert "Still waiting for the charges to settle" in run.log


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_key_that_is_refused_during_the_wait_fails_the_task(run_dag: Any, sandbox: Sandbox, deferrable: bool) -> None:
    after_readings(sandbox, 1, lambda: sandbox.fail(status=401))
    run = run_dag(JOB % f"wait_until_settled=True, settle_seconds=0.5, settle_timeout=60, deferrable={deferrable}")
    assert run.state() == "failed"
    assert "AimlBillingAuthError" in run.log
    assert KEY not in run.log


def fail_reading(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, number: int, fault: Fault) -> None:
    """Let the n-th request for the log fail, once."""

    def take_fault() -> Fault | None:
        return fault if readings(sandbox) == number and sandbox.requests[-1].path.startswith(LOGS) else None

    monkeypatch.setattr(sandbox, "take_fault", take_fault)


def test_a_429_in_the_middle_loses_and_doubles_no_row(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.set_balance("9 USD")
    fail_reading(sandbox, monkeypatch, 2, Fault(status=429, retry_after=1))
    report = run_dag(f"{HEAD}    job(250) >> GetRunCostOperator(task_id='gate')").xcom()
    assert (report["requests"], report["cost_credits"]) == (250, str(250 * HELLO))
    assert readings(sandbox) >= 4


def test_another_run_is_found_by_its_name(run_dag: Any, sandbox: Sandbox) -> None:
    first: Run = run_dag(f"{HEAD}    job(3)")
    params = f"params={{'dag': {first.dag_run.dag_id!r}}}"
    run = f"run_id={first.dag_run.run_id!r}, run_dag_id='{{{{ params.dag }}}}', {params}"
    start = f"start={(NOW - timedelta(minutes=5)).isoformat()!r}"
    second = run_dag(f"{HEAD}    job() >> GetRunCostOperator(task_id='gate', {run}, {start})")
    report = second.xcom()
    assert (report["dag_id"], report["run_id"]) == (first.dag_run.dag_id, first.dag_run.run_id)
    assert (report["requests"], report["other_runs"]["requests"]) == (3, 1)
    unknown_start = run_dag(f"{HEAD}    GetRunCostOperator(task_id='gate', {run})")
    assert unknown_start.state() == "failed"
    assert "Set start: a task cannot find out when another DAG run began." in unknown_start.log


def test_reports_on_several_runs_are_a_mapped_task(run_dag: Any, sandbox: Sandbox) -> None:
    runs = [run_dag(f"{HEAD}    job({times})").dag_run for times in (1, 2)]
    expanded = [{"run_id": run.run_id, "run_dag_id": run.dag_id} for run in runs]
    start = (NOW - timedelta(minutes=5)).isoformat()
    run = run_dag(f"{HEAD}    GetRunCostOperator.partial(task_id='gate', start={start!r}).expand_kwargs({expanded!r})")
    assert [run.xcom(map_index=index)["requests"] for index in (0, 1)] == [1, 2]


INVALID = {
    "no such run": ("run_id='manual__never', start='2026-11-01'", "has no run 'manual__never'. Check run_id"),
    "no such dag": ("run_dag_id='nothing', start='2026-11-01'", "The DAG 'nothing' has no run"),
    "empty run": ("run_id='', start='2026-11-01'", "run_id is '': the template or XCom"),
    "no run": ("run_id=None, start='2026-11-01'", "run_id is 'None': the template or XCom"),
    "no dag": ("run_dag_id=\"{{ params.get('x') }}\"", "run_dag_id is 'None': the template or XCom"),
    "not a time": ("start='yesterday'", "start is 'yesterday', which is not a time"),
    "no end": ("start='2026-11-01', end=None", "end is 'None', which is not a time"),
    "backwards": ("start='2026-11-02', end='2026-11-01'", "which is not before its end"),
    "beginning of time": ("start='0001-01-01'", "before the API had a request log"),
    "future": ("start='2126-11-02'", "which is not before its end"),
}


@pytest.mark.parametrize("row", INVALID)
def test_invalid_input_fails_before_any_request(run_dag: Any, sandbox: Sandbox, row: str) -> None:
    arguments, message = INVALID[row]
    run = run_dag(f"{HEAD}    GetRunCostOperator(task_id='gate', {arguments})")
    assert run.state() == "failed"
    assert message in run.log
    assert not sandbox.requests


@pytest.mark.parametrize(
    ("seconds", "timeout"),
    [
        *[(0, 10), (-1, 10), (11, 10), (float("nan"), 10), (10, float("nan")), (1, float("inf"))],
        *[(True, 10), (0.5, True), ("1", 10), (1, None)],
    ],
)
def test_an_impossible_wait_is_refused_when_the_dag_is_parsed(seconds: Any, timeout: Any) -> None:
    with pytest.raises(ValueError, match=r"^settle_(seconds|timeout) (is|must be)"):
        GetRunCostOperator(task_id="x", settle_seconds=seconds, settle_timeout=timeout)


def test_the_cost_is_a_gauge_only_if_it_is_exact(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, float]] = []
    monkeypatch.setattr(metrics, "Stats", SimpleNamespace(gauge=lambda name, value: sent.append((name, value))))
    run = run_dag(JOB % "")
    assert sent == [(f"aimlbilling.run_cost_credits.aimlbilling_default.{run.dag_run.dag_id}", HELLO)]
    assert run_dag(f"{HEAD}    GetRunCostOperator(task_id='gate')").xcom()["cost_usd"] is None
    assert len(sent) == 1


EVENTS = {
    "failed": ({"status": "failed", "error": "AimlBillingAuthError", "message": "no"}, AimlBillingAuthError),
    "unknown": ({"status": "done"}, AimlBillingContractError),
    "none": (None, AimlBillingContractError),
    "no fingerprint": ({"status": "settled"}, AimlBillingContractError),
}


@pytest.mark.parametrize("row", EVENTS)
def test_only_an_event_that_says_so_is_a_success(row: str) -> None:
    event, error = EVENTS[row]
    context: Any = {"ti": SimpleNamespace(try_number=1)}
    with pytest.raises(error):
        GetRunCostOperator(task_id="x").execute_complete(context, event and {**event, "try_number": 1})


def own_context() -> Any:
    dag_run = SimpleNamespace(start_date=NOW - timedelta(hours=1), clear_number=0)
    return {"ti": SimpleNamespace(try_number=2, dag_id="d", run_id="r"), "dag_run": dag_run}


@pytest.mark.parametrize("minutes", [-4, 0, 4])
def test_a_scheduler_whose_clock_is_wrong_loses_no_request(sandbox: Sandbox, minutes: int) -> None:
    sandbox.spend(9, "sandbox/chat", client_request_id=encode_request_id("d", "r", "t", -1, 1))
    context = own_context()
    context["dag_run"].start_date = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    assert GetRunCostOperator(task_id="x").execute(context)["cost_credits"] == "9"


@pytest.mark.parametrize(("ahead", "incomplete"), [(timedelta(days=1), True), (-timedelta(minutes=30), False)])
def test_a_run_that_goes_on_within_the_window_is_not_complete(
    sandbox: Sandbox, ahead: timedelta, incomplete: bool
) -> None:
    """It can still send requests, unless the window has ended."""
    sandbox.spend(
        9, "sandbox/chat", at=NOW - timedelta(minutes=40), client_request_id=encode_request_id("d", "other", "t", -1, 1)
    )
    context = own_context()
    context["ti"].get_dr_count = lambda **_: 1
    now = datetime.now(timezone.utc)
    event = {"status": "settled", "fingerprint": "1:0:9", "try_number": 2}
    operator = GetRunCostOperator(task_id="x", run_id="other", start=now - timedelta(hours=1), end=now + ahead)
    assert operator.execute_complete(context, event)["may_be_incomplete"] is incomplete


@pytest.mark.parametrize(("active", "incomplete"), [(0, False), (1, True)])
def test_the_figures_can_grow_while_other_tasks_of_the_run_are_active(
    sandbox: Sandbox, active: int, incomplete: bool
) -> None:
    sandbox.spend(9, "sandbox/chat", client_request_id=encode_request_id("d", "r", "t", -1, 1))
    context, asked = own_context(), []
    context["dag"] = SimpleNamespace(task_ids=["t", "cost", "thinks_for_an_hour"])
    context["ti"].task_id = "cost"
    context["ti"].get_ti_count = lambda **conditions: (asked.append(conditions), active)[1]
    event = {"status": "settled", "fingerprint": "1:0:9", "try_number": 2}
    assert GetRunCostOperator(task_id="cost").execute_complete(context, event)["may_be_incomplete"] is incomplete
    assert asked[0]["task_ids"] == ["t", "thinks_for_an_hour"]
    assert asked[0]["run_ids"] == ["r"]
    assert {"running", "deferred", "up_for_retry"} <= set(asked[0]["states"])


def test_an_event_of_another_try_is_not_taken_for_this_one(sandbox: Sandbox) -> None:
    sandbox.spend(9, "sandbox/chat", client_request_id=encode_request_id("d", "r", "t", -1, 1))
    event = {"status": "settled", "fingerprint": "1:0:9", "try_number": 1}
    assert GetRunCostOperator(task_id="x").execute_complete(own_context(), event)["may_be_incomplete"] is True
    event["try_number"] = 2
    assert GetRunCostOperator(task_id="x").execute_complete(own_context(), event)["may_be_incomplete"] is False


def test_a_charge_between_the_event_and_the_worker_s_reading_is_not_called_settled(sandbox: Sandbox) -> None:
    sandbox.spend(9, "sandbox/chat", client_request_id=encode_request_id("d", "r", "t", -1, 1))
    event = {"status": "settled", "fingerprint": "1:0:8", "try_number": 2}
    report = GetRunCostOperator(task_id="x").execute_complete(own_context(), event)
    assert (report["may_be_incomplete"], report["cost_credits"]) == (True, "9")


def test_a_triggerer_that_is_gone_costs_no_figures(sandbox: Sandbox) -> None:
    sandbox.spend(9, "sandbox/chat", client_request_id=encode_request_id("d", "r", "t", -1, 1))
    operator = GetRunCostOperator(task_id="x")
    report = operator.resume_execution("__fail__", {"error": "Trigger timeout"}, own_context())
    assert (report["may_be_incomplete"], report["cost_credits"]) == (True, "9")
