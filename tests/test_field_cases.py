"""
Inputs from the field that earlier versions got wrong, one test for each report.

Only names that users see are used, so that the file can also run against an earlier version.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support import AIRFLOW, AIRFLOW_3, wait_until

from airflow_provider_aimlbilling.exceptions import AimlBillingError, InsufficientBalanceError
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.operators.balance import BalanceShortCircuitOperator
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

V1 = {"balance": 5_000_000, "lowBalance": False, "lowBalanceThreshold": 10_000, "lastUpdated": "2026-11-22T10:00:00Z"}
V1 |= {"autoDebitStatus": "disabled", "status": "current", "statusExplanation": "fine"}


def answer(sandbox: Sandbox, body: object, **more: Any) -> None:
    """Let the sandbox give one answer of another shape to each request."""
    sandbox.fail(body=json.dumps(body).encode(), **more)


# Money is spent although the gate said no


GATES = {
    "short circuit": "BalanceShortCircuitOperator(task_id='gate', threshold=n)",
    "branch": "BalanceBranchOperator(task_id='gate', threshold=n, follow_task_ids_if_sufficient='group.job',"
    " follow_task_ids_if_insufficient=[])",
}


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_in_a_mapped_task_group_holds_its_job(run_dag: Any, sandbox: Sandbox, gate: str) -> None:
    run = run_dag(
        f"""
        from airflow.sdk import task_group

        @task
        def job(n):
            print("SPENT" + " IT")

        @task_group
        def group(n):
            {GATES[gate]} >> job(n)

        group.expand(n=["9 USD"])
        """
    )
    assert "SPENT IT" not in run.log


def test_a_gate_that_is_mapped_itself_is_refused() -> None:
    with pytest.raises(Exception, match="cannot be mapped"):
        BalanceShortCircuitOperator.partial(task_id="gate").expand(threshold=["9 USD"])


@pytest.mark.parametrize("event", ["cleared", "failed"])
def test_an_event_of_another_try_counts_for_nothing(sandbox: Sandbox, event: str) -> None:
    balance = AimlBillingHook().get_balance().to_dict()
    events = {
        "cleared": {"status": "cleared", "balance": balance, "verdict": None, "try_number": 1},
        "failed": {"status": "failed", "error": "AimlBillingAuthError", "message": "old", "try_number": 1},
    }
    if event == "cleared":
        sandbox.set_balance("1 USD")
    gate = BalanceSensor(task_id="gate", threshold="2 USD", deferrable=True, do_xcom_push=False)
    context: Any = {"ti": type("TI", (), {"try_number": 2, "map_index": -1})()}
    if event == "cleared":
        with pytest.raises(BaseException) as caught:
            gate.execute_complete(context, events[event])
        assert type(caught.value).__name__ == "TaskDeferred"
    else:
        assert gate.execute_complete(context, events[event])["balance"] == 5_000_000


# One odd answer ends every waiting gate


ODD = {
    "404": {"status": 404},
    "302": {"status": 302, "headers": {"Location": "https://example.com"}},
    "200 with a message": {"body": b'{"message": "maintenance"}'},
    "403 with a page": {"status": 403, "body": b"<html>Access denied</html>"},
}


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_answer_ends_none_of_fifty_gates(sandbox: Sandbox, odd: str) -> None:
    sandbox.set_balance(0)

    def trigger() -> BalanceTrigger:
        return BalanceTrigger("aimlbilling_default", "4000000", 0.2, time.time() + 20)

    async def fire(waiting: BalanceTrigger) -> str:
        (event,) = [event.payload["status"] async for event in waiting.run()]
        return str(event)

    async def scenario() -> list[str]:
        gates = [asyncio.ensure_future(fire(trigger())) for _ in range(50)]
        await asyncio.sleep(0.5)
        sandbox.fail(**ODD[odd], times=1)
        await asyncio.sleep(1)
        sandbox.set_balance("9 USD")
        return list(await asyncio.wait_for(asyncio.gather(*gates), 30))

    assert asyncio.run(scenario()) == ["cleared"] * 50


@pytest.mark.parametrize("mode", ["mode='poke'", "deferrable=True"])
def test_a_secrets_backend_that_is_away_ends_no_gate(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    sandbox.set_balance(0)
    connection = os.environ["AIRFLOW_CONN_AIMLBILLING_DEFAULT"]

    def go_away() -> None:
        wait_until(lambda: len(sandbox.requests) >= 2, seconds=30)
        sandbox.fail(status=503, times=1)
        del os.environ["AIRFLOW_CONN_AIMLBILLING_DEFAULT"]
        time.sleep(1.5)
        os.environ["AIRFLOW_CONN_AIMLBILLING_DEFAULT"] = connection
        sandbox.set_balance("9 USD")

    thread = threading.Thread(target=go_away)
    thread.start()
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.3, timeout=20, {mode})")
    thread.join()
    assert run.state() == "success"


# Refusals read by their status only


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "You have exhausted the available [plan.rule:api_credit] resource limit. Upgrade your plan."),
        (402, "Payment required"),
        (402, "x"),
        (403, "Insufficient balance"),
    ],
)
def test_a_refusal_that_says_so_is_out_of_credits(sandbox: Sandbox, status: int, message: str) -> None:
    sandbox.fail(status=status, message=message)
    with pytest.raises(InsufficientBalanceError):
        AimlBillingHook(retries=0).get_balance()


@pytest.mark.skipif(AIRFLOW.startswith(("2.", "3.0.", "3.1.", "3.2.")), reason="Airflow 3.3 added retry policies")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.11 added exception groups")
def test_out_of_credits_in_a_task_group_is_not_retried() -> None:
    policy = importlib.import_module("airflow_provider_aimlbilling.retry_policy").AimlApiRetryPolicy()
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ValueError(), InsufficientBalanceError("empty")])  # noqa: F821
    assert policy.evaluate(group, 1, 3).action.value == "fail"


# Stricter than is good for the user


@pytest.mark.parametrize("missing", ["statusExplanation", "status", "autoDebitStatus", "lastUpdated", "lowBalance"])
def test_a_balance_without_a_text_is_a_balance(sandbox: Sandbox, missing: str) -> None:
    answer(sandbox, {name: value for name, value in V1.items() if name != missing})
    assert AimlBillingHook(retries=0).get_balance().balance == 5_000_000


@pytest.mark.parametrize("change", [{"type": "CASHBACK"}, {"model": None}, {"model": ...}])
def test_a_ledger_entry_of_a_new_type_is_read(sandbox: Sandbox, change: dict[str, object]) -> None:
    entry = {"created_at": "2026-11-01T10:00:00.000Z", "direction": "TOPUP", "type": "BONUS", "model": "m"}
    entry |= {"amount": {"credits": 5, "usd": 0.0000025}, "reference_id": "r"} | change
    entry = {name: value for name, value in entry.items() if value is not ...}
    answer(sandbox, {"data": [entry], "pagination": {"next_cursor": None, "has_more": False}})
    (read,) = AimlBillingHook(retries=0).iter_transactions()
    assert (read.credits, read.direction) == (5, "TOPUP")


@pytest.mark.parametrize("limit", [{}, {"threshold": 3}, {"threshold": 3, "retention": "quarter"}])
def test_a_key_limit_of_another_shape_counts_as_far_as_it_is_known(sandbox: Sandbox, limit: dict[str, object]) -> None:
    data = {"prefix": sandbox.key[:8], "disabled": False, "created_at": "2026-11-01T10:00:00Z", "limit": limit}
    answer(sandbox, {"data": data})
    found = AimlBillingHook(retries=0).get_key_limit()
    assert found is None if not limit else found and found.remaining.usd == 3


def test_auto_top_up_without_an_amount_is_known_to_be_on(sandbox: Sandbox) -> None:
    answer(sandbox, {"current_balance": 5, "currency": "USD", "autotopup_settings": {"is_enabled": True}})
    assert AimlBillingHook(retries=0).get_top_up().is_enabled


@pytest.mark.parametrize("threshold", ["{{ 25 * 0.0000021 }} USD", "5e-05 USD", "1_000 credits"])
def test_numbers_are_read_as_python_writes_them(run_dag: Any, sandbox: Sandbox, threshold: str) -> None:
    assert run_dag(f"BalanceSensor(task_id='gate', threshold='{threshold}', timeout=1)").state() == "success"


@pytest.mark.parametrize(("work", "usd"), [({"character": 100.5}, None), ({"character": 1000.0}, "0.039")])
def test_float_quantities_are_taken(sandbox: Sandbox, work: dict[str, object], usd: str | None) -> None:
    estimate = AimlBillingHook().get_pricing("sandbox/speech").estimate(work)
    assert usd is None or estimate.amount.usd == Decimal(usd)


def test_a_price_without_an_exact_decimal_value_is_rounded_up(sandbox: Sandbox) -> None:
    sandbox.account.catalogue = [model([{"name": "second", "measure": "input", "price": Decimal("0.0043"), "per": 60}])]
    estimate = AimlBillingHook().get_pricing("m").estimate({"second": 100})
    assert estimate.threshold == "14334 credits"


def test_a_window_over_the_end_of_daylight_saving_time_is_accepted(sandbox: Sandbox) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start, end = datetime(2026, 8, 1, tzinfo=berlin), datetime(2026, 11, 1, tzinfo=berlin)
    assert AimlBillingHook(retries=0).get_usage(start=start, end=end).total.requests == 0


def test_a_branch_to_a_task_group_follows_it(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow.sdk import TaskGroup

        gate = BalanceBranchOperator(
            task_id="gate",
            threshold="2 USD",
            follow_task_ids_if_sufficient="group",
            follow_task_ids_if_insufficient="no",
        )

        @task
        def job():
            pass

        @task
        def no():
            pass

        with TaskGroup("group") as group:
            job()
        gate >> [group, no()]
        """
    )
    assert (run.state("group.job"), run.state("no")) == ("success", "skipped")


def test_a_misspelt_branch_is_found_while_there_is_money(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        @task
        def yes():
            pass

        BalanceBranchOperator(
            task_id="gate", threshold="2 USD", follow_task_ids_if_sufficient="yes", follow_task_ids_if_insufficient="n0"
        ) >> yes()
        """
    )
    assert run.state() == "failed"


# The live catalogue


def rate(origin: str, price: str, **more: Any) -> dict[str, Any]:
    live = {"type": "charge", "name": "token", "content": "text", "measure": "output", "phase": "inference"}
    return {**live, "author": "user", "origin": origin, "price": Decimal(price), "per": 1_000_000, **more}


def model(units: list[dict[str, Any]], **pricing: Any) -> dict[str, Any]:
    entry = {"id": "m", "aliases": [], "type": "openai/chat-completions", "info": {}, "tags": []}
    return {**entry, "pricing": {"kind": "fixed", "currency": "USD", "units": units, **pricing}}


CHAT = [rate("provided", "2.5"), rate("generated", "10"), rate("cached", "0.25")]
WORK = {"input token": 1_080_000, "output token": 480_000, "cached": 0}


@pytest.mark.parametrize(
    "change", [{}, {"id": 7}, {"description": "input tokens"}], ids=["as it is", "a numeric id", "a description"]
)
@pytest.mark.parametrize("name", ["m", "M"])
def test_the_live_shape_has_a_price(sandbox: Sandbox, change: dict[str, Any], name: str) -> None:
    sandbox.account.catalogue = [model([unit | change for unit in CHAT])]
    assert AimlBillingHook().get_pricing(name).estimate(WORK).amount.usd == Decimal("7.5")


def test_one_model_under_two_endpoint_types_has_a_price(sandbox: Sandbox) -> None:
    sandbox.account.catalogue = [model(CHAT), model(CHAT) | {"type": "openai/responses"}]
    assert AimlBillingHook().get_pricing("m").estimate(WORK).amount.usd == Decimal("7.5")


@pytest.mark.parametrize("unknown", ["minimum", "tiers", "bands", "multiplier"])
def test_what_could_change_the_price_is_refused(sandbox: Sandbox, unknown: str) -> None:
    documented = {"name": "token", "measure": "input", "price": Decimal("2.5"), "per": 1_000_000}
    sandbox.account.catalogue = [model([documented], **{unknown: 2})]
    with pytest.raises(AimlBillingError):
        AimlBillingHook().get_pricing("m").estimate({"input token": 1_000_000})


def test_a_job_is_priced_by_requests_and_tokens(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.account.catalogue = [model(CHAT)]
    run = run_dag(
        """
        from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator

        job = {"requests": 1200, "input_tokens": 900, "max_output_tokens": 400}
        EstimateCostOperator(task_id="gate", model="m", **job, parts=20)
        """
    )
    assert run.xcom() == "15000000 credits"
    assert run.xcom(key="part") == "750000 credits"


# Others


def test_a_ca_bundle_that_does_not_exist_fails_at_once(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file.pem")
    connection = json.loads(os.environ["AIRFLOW_CONN_AIMLBILLING_DEFAULT"]) | {"host": "https://127.0.0.1:1"}
    connection.pop("port", None)
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", json.dumps(connection))
    run = run_dag("BalanceSensor(task_id='gate', threshold='2 USD', poke_interval=0.3, timeout=2)")
    assert run.state() == "failed"
    assert "REQUESTS_CA_BUNDLE" in run.log
    assert "AimlBillingConnectionError" in run.log


def test_there_is_a_guard_for_asynchronous_tasks(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        import asyncio

        async def job():
            from airflow_provider_aimlbilling.guard import arequire_balance

            await arequire_balance("2 USD")
            print("SPENT" + " IT")

        @task
        def gate():
            asyncio.run(job())

        gate()
        """
    )
    assert "SPENT IT" in run.log


# What a newcomer stumbled over


def test_what_is_missing_comes_first(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("0.40 USD")
    run = run_dag("BalanceSensor(task_id='gate', threshold='2.50 USD', poke_interval=0.3, timeout=0.5)")
    assert "2.10 USD missing: balance 0.40 USD, needs 2.50 USD" in run.log


def test_a_refused_key_comes_first(sandbox: Sandbox) -> None:
    sandbox.fail(status=401)
    with pytest.raises(AimlBillingError, match=r"^Key of 'aimlbilling_default' refused \(401\)"):
        AimlBillingHook(retries=0).get_balance()


def test_a_partial_top_up_is_logged(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("0.40 USD")

    def top_up() -> None:
        wait_until(lambda: sandbox.requests, seconds=30)
        time.sleep(0.2)
        sandbox.top_up("1 USD")

    threading.Thread(target=top_up).start()
    run = run_dag("BalanceSensor(task_id='gate', threshold='2.50 USD', poke_interval=0.3, timeout=2)")
    assert re.search(r"Waiting: .{0,60}balance [0-9,]*\D{0,12}1\.40 USD", run.log)
    assert run.xcom(key="verdict")["available_credits"] == 2_800_000


def test_a_threshold_below_one_cent_is_warned_about(run_dag: Any, sandbox: Sandbox) -> None:
    assert "below one cent" in run_dag("BalanceSensor(task_id='gate', threshold=3)").log


def test_a_literal_threshold_is_checked_when_the_dag_is_parsed() -> None:
    with pytest.raises(ValueError, match="Did you mean"):
        BalanceSensor(task_id="gate", threshold="2.50")


def test_a_report_of_a_month_that_has_just_begun(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.operators.usage import GetUsageOperator
        from datetime import timezone

        GetUsageOperator(task_id="gate", start=datetime.now(timezone.utc).isoformat())
        """
    )
    assert run.xcom()["requests"] == 0


@pytest.mark.parametrize("name", ["input tokens", "input_tokens", "Input Token"])
def test_units_may_be_written_in_the_usual_ways(sandbox: Sandbox, name: str) -> None:
    estimate = AimlBillingHook().get_pricing("sandbox/chat").estimate({name: 1_000_000, "output": 0})
    assert estimate.amount.usd == Decimal("2.5")


def test_verdicts_have_both_units(run_dag: Any, sandbox: Sandbox) -> None:
    verdict = run_dag("BalanceCheckOperator(task_id='gate', threshold='2 USD')").xcom(key="verdict")
    assert (verdict["threshold_usd"], verdict["available_usd"]) == ("2.00", "2.50")


def test_amounts_have_one_format(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.spend("2 USD", "m", at=datetime.now(timezone.utc) - timedelta(hours=3))
    run = run_dag(
        """
        from airflow_provider_aimlbilling.operators.usage import GetUsageOperator

        GetUsageOperator(task_id="gate", start="2026-11-01", end="{{ macros.datetime.utcnow().isoformat() }}")
        """
    )
    assert run.xcom()["spend_usd"] == "2.00"


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers")
def test_one_drop_below_several_thresholds_is_one_event() -> None:
    path = (
        "triggers.balance_event"
        if importlib.util.find_spec("airflow_provider_aimlbilling.money")
        else "triggers.crossing"
    )
    trigger = importlib.import_module(f"airflow_provider_aimlbilling.{path}").BalanceEventTrigger
    assert trigger(["50 USD", "20 USD", "5 USD"], fire_at_start=True)
