"""Which gates start in the triggerer. A mistake here would open a gate at another threshold than the DAG's."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from support import AIRFLOW, airflow_sdk

from airflow_provider_aimlbilling.compat import NOTSET, BaseOperator
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.budget import Budget
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger
from airflow_provider_aimlbilling.waiting.deferral import DEFERRAL_SLACK
from airflow_provider_aimlbilling.waiting.start_from_trigger import why_not_from_trigger

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
AIRFLOW_3_3 = not AIRFLOW.startswith(("2.", "3.0", "3.1", "3.2"))
needs_3_3 = pytest.mark.skipif(not AIRFLOW_3_3, reason="no gate starts in the triggerer before Airflow 3.3")

DECLARED = {"threshold": "1 USD", "aimlbilling_conn_id": "aimlbilling_default", "budget": NOTSET}

sdk = airflow_sdk()
DAG, Asset, Param = sdk.DAG, sdk.Asset, sdk.Param


def gate(dag: dict[str, Any] | None = None, **arguments: Any) -> BalanceSensor:
    with DAG("gates", start_date=START, schedule=None, **(dag or {})):
        return BalanceSensor(task_id="gate", **{"start_from_trigger": True, "deferrable": True} | arguments)


def trigger_kwargs(sensor: BalanceSensor) -> dict[str, Any]:
    assert sensor.start_from_trigger is True
    assert sensor.start_trigger_args is not None
    kwargs = sensor.start_trigger_args.trigger_kwargs
    json.dumps(kwargs)
    BalanceTrigger(**kwargs)
    return kwargs


THRESHOLDS = {
    "dollars": ("2.50 USD", "5000000 credits"),
    "credits": (5_000_000, "5000000 credits"),
    "a decimal": (Decimal("0.5"), "0.5 credits"),
    "an amount": (Amount(7), "7 credits"),
    "the account's lowBalance": (None, None),
    "params": ("{{ params.need }}", "{{ params.need }}"),
    "conf": ("{{ dag_run.conf.get('need', '1 USD') }}", "{{ dag_run.conf.get('need', '1 USD') }}"),
    "a Variable": ("{{ var.value.need }}", "{{ var.value.need }}"),
}


@needs_3_3
@pytest.mark.parametrize("row", THRESHOLDS)
def test_a_threshold_that_the_triggerer_can_render_starts_there(row: str) -> None:
    declared, passed = THRESHOLDS[row]
    sensor = gate(threshold=declared, poke_interval=7, timeout=100)
    kwargs = trigger_kwargs(sensor)
    assert (kwargs["threshold"], kwargs.get("deadline"), kwargs["end_from_trigger"]) == (passed, None, True)
    assert sensor.start_trigger_args.timeout == timedelta(seconds=100 + 2 * 7) + DEFERRAL_SLACK


WORKER_ONLY: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "not deferrable": ({"deferrable": False}, {}, "deferrable is off"),
    "an outlet": ({"outlets": [Asset("paid")]}, {}, "outlets"),
    "on_execute_callback": ({"on_execute_callback": print}, {}, "on_execute_callback"),
    "on_success_callback": ({"on_success_callback": print}, {}, "on_success_callback"),
    "pre_execute": ({"pre_execute": print}, {}, "pre_execute"),
    "post_execute": ({"post_execute": print}, {}, "post_execute"),
    "multiple outputs": ({"multiple_outputs": True}, {}, "multiple_outputs"),
    "execution timeout": ({"execution_timeout": timedelta(hours=1)}, {}, "execution_timeout"),
    "a macro": ({"threshold": "{{ ds }}"}, {}, "uses 'ds'"),
    "an XCom in a template": ({"threshold": "{{ ti.xcom_pull('price') }}"}, {}, "uses 'ti'"),
    "one good and one bad name": ({"threshold": "{{ params.x or ds }}"}, {}, "uses 'ds'"),
    "a macro in the connection": (
        {"aimlbilling_conn_id": "{{ macros.x }}"},
        {},
        "aimlbilling_conn_id is a template, and uses 'macros'",
    ),
    "an XCom": ({"threshold": BaseOperator(task_id="price").output}, {}, "only a worker can render the threshold"),
    "an XCom for the connection": (
        {"aimlbilling_conn_id": BaseOperator(task_id="account").output},
        {},
        "only a worker can render the aimlbilling_conn_id",
    ),
    "not an amount": ({"threshold": ["3 USD"]}, {}, "only a worker can render the threshold"),
    "an XCom for the budget": (
        {"budget": BaseOperator(task_id="team").output},
        {},
        "only a worker can render the budget",
    ),
    "a macro in the budget": ({"budget": "{{ ds }} USD per day"}, {}, "the budget is a template, and uses 'ds'"),
    "a broken template": ({"threshold": "{{ params.x"}, {}, "Jinja cannot parse it"),
    "macros of the DAG": ({"threshold": "{{ params.x }}"}, {"user_defined_macros": {"params": 1}}, "of its own"),
    "filters of the DAG": ({"threshold": "{{ params.x | f }}"}, {"user_defined_filters": {"f": int}}, "of its own"),
    "native rendering of the task": (
        {"threshold": "{{ params.x }}", "render_template_as_native_obj": True},
        {"params": {"x": 1}},
        "of its own",
    ),
    "more of the run than its conf": ({"threshold": "{{ dag_run.consumed_asset_events }}"}, {}, "more of dag_run"),
    "the run itself": ({"threshold": "{{ dag_run | string }}"}, {}, "more of dag_run"),
    "a param without value": ({"params": {"x": Param(type="integer")}}, {}, "the param 'x' has no value yet"),
    "a param that is validated": (
        {"threshold": "{{ params.x }}", "params": {"x": Param(5, type="integer", minimum=1)}},
        {},
        "only a worker validates the task's param 'x'",
    ),
    "native rendering": ({"threshold": "{{ params.x }}"}, {"render_template_as_native_obj": True}, "of its own"),
}


@needs_3_3
@pytest.mark.parametrize("row", WORKER_ONLY)
def test_a_gate_that_needs_a_worker_starts_on_a_worker(row: str) -> None:
    arguments, dag, reason = WORKER_ONLY[row]
    sensor = gate(dag, **{"threshold": "1 USD"} | arguments)
    assert (sensor.start_from_trigger, sensor.start_trigger_args) == (False, None)
    assert reason in str(why_not_from_trigger(sensor, {name: getattr(sensor, name) for name in sensor.template_fields}))


@needs_3_3
def test_a_param_of_the_dag_may_have_a_schema() -> None:
    """The API validates it when the run is started."""
    params = {"need": Param("1 USD", type="string")}
    assert trigger_kwargs(gate({"params": params}, threshold="{{ params.need }}"))["threshold"] == "{{ params.need }}"


@needs_3_3
def test_a_subclass_starts_on_a_worker() -> None:
    class More(BalanceSensor):
        def execute(self, context: Any) -> Any:
            raise AssertionError

    with DAG("subclass", start_date=START, schedule=None):
        more = More(task_id="gate", threshold="1 USD", deferrable=True, start_from_trigger=True)
    assert (more.start_from_trigger, more.start_trigger_args) == (False, None)


@needs_3_3
def test_a_gate_that_other_tasks_are_mapped_over_starts_on_a_worker() -> None:
    with DAG("mapped_over", start_date=START, schedule=None):
        sensor = BalanceSensor(task_id="gate", threshold="1 USD", deferrable=True, start_from_trigger=True)
        assert sensor.start_trigger_args is not None
        BalanceSensor.partial(task_id="mapped").expand_kwargs(sensor.output)
    assert sensor.start_trigger_args is None


@needs_3_3
def test_with_triggerer_queues_gates_start_on_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", "True")
    assert gate(threshold="1 USD").start_trigger_args is None


RENDERED: dict[str, tuple[dict[str, Any], tuple[str, str] | None]] = {
    "a param": ({"threshold": "{{ params.need }}"}, ("4000000", "aimlbilling_default")),
    "a typo": ({"threshold": "{{ params.typo }}000"}, None),
    "a condition on a missing param": ({"threshold": "{{ 50 if params.typo else 5 }} USD"}, None),
    "a connection": ({"aimlbilling_conn_id": "{{ params.account }}"}, ("1 credits", "rich")),
    "a budget with a typo": ({"budget": "{{ params.typo }}9 USD per month"}, None),
}


@needs_3_3
@pytest.mark.parametrize("row", RENDERED)
def test_the_trigger_renders_as_strictly_as_a_worker(row: str) -> None:
    """Airflow's triggerer renders what is missing as nothing: "000" would be a threshold of zero."""
    declared, rendered = RENDERED[row]
    sensor = gate({"params": {"need": "4000000", "account": "rich"}}, **{"threshold": 1} | declared)
    trigger = BalanceTrigger(**trigger_kwargs(sensor))
    trigger.template_fields = BalanceSensor.template_fields
    trigger.render_template_fields({"params": {"need": "4000000", "account": "rich"}})  # type: ignore[typeddict-item]
    if rendered:
        assert (trigger.threshold, trigger.aimlbilling_conn_id) == rendered
    else:
        trigger.timeout_after = datetime.now(timezone.utc) + timedelta(hours=1)
        events = asyncio.run(_all(trigger.run()))
        assert events[0]["error"] == "AimlBillingThresholdError"
        assert "cannot be rendered (UndefinedError)" in events[0]["message"]


async def _all(events: Any) -> list[Any]:
    return [event.payload async for event in events]


def test_no_gate_starts_in_the_triggerer_by_default() -> None:
    sensor = gate(threshold="1 USD", start_from_trigger=False)
    assert (sensor.start_from_trigger, sensor.start_trigger_args) == (False, None)


@pytest.mark.skipif(AIRFLOW_3_3, reason="Airflow 3.3 has it")
def test_before_airflow_3_3_gates_start_on_a_worker() -> None:
    sensor = gate(threshold="1 USD")
    assert (sensor.start_from_trigger, sensor.start_trigger_args) == (False, None)
    assert why_not_from_trigger(sensor, DECLARED) == "it needs Airflow 3.3 or later"


def test_mapped_tasks_do_not_start_in_the_triggerer() -> None:
    """Airflow uses what it finds on the class for every index, whatever the index's own threshold."""
    assert BalanceSensor.start_from_trigger is False
    assert BalanceSensor.start_trigger_args is None
    with DAG("mapped", start_date=START, schedule=None):
        mapped = BalanceSensor.partial(task_id="gate", start_from_trigger=True).expand(threshold=["1 USD", "9 USD"])
    assert mapped.start_trigger_args is None


@needs_3_3
def test_the_worker_says_that_a_mapped_task_cannot_start_in_the_triggerer() -> None:
    why = why_not_from_trigger(gate(threshold="1 USD"), DECLARED, mapped=True)
    assert why == "the task is mapped"


@needs_3_3
def test_changes_by_a_cluster_policy_count() -> None:
    sensor = gate(threshold="1 USD", timeout=1000)
    sensor.timeout = 50
    assert sensor.start_trigger_args.timeout == timedelta(seconds=50 + 2 * 60) + DEFERRAL_SLACK
    sensor.outlets = [Asset("paid")]
    assert sensor.start_trigger_args is None


@needs_3_3
def test_all_flags_reach_the_trigger() -> None:
    kwargs = trigger_kwargs(gate(threshold=1, poke_interval=7, exponential_backoff=True, max_wait=90, silent_fail=True))
    expected = {"poke_interval": 7, "exponential_backoff": True, "max_wait": 90, "silent_fail": True}
    assert expected.items() <= kwargs.items()
    defaults = {"deadline", "next_poll_at", "last_seen", "last_fault", "try_number"}
    assert set(kwargs) | defaults == set(BalanceTrigger(**kwargs).serialize()[1]), "no argument may be forgotten"


@needs_3_3
def test_all_query_options_reach_the_trigger() -> None:
    kwargs = trigger_kwargs(gate(threshold=1, respect_key_limit=True, fail_if_topup_stuck=True, topup_grace=60))
    assert (kwargs["respect_key_limit"], kwargs["top_up_grace"]) == (True, 60)


BUDGETS = {
    "text": ("200 USD per month in Europe/Berlin", "400000000 credits per month in Europe/Berlin"),
    "a parsed one": (Budget.parse("$200 per day"), "400000000 credits per day"),
    "params": ("{{ params.budget }}", "{{ params.budget }}"),
}


@needs_3_3
@pytest.mark.parametrize("row", BUDGETS)
def test_a_budget_reaches_the_trigger(row: str) -> None:
    declared, passed = BUDGETS[row]
    assert (
        trigger_kwargs(gate({"params": {"budget": "1 USD per day"}}, threshold=1, budget=declared))["budget"] == passed
    )
    assert "budget" not in trigger_kwargs(gate(threshold=1)), "nothing changes without one"


@needs_3_3
@pytest.mark.parametrize(("budget", "status"), [("5 USD per month", "cleared"), ("4.99 USD per month", "timeout")])
def test_the_rendered_budget_decides_in_the_triggerer(sandbox: Sandbox, budget: str, status: str) -> None:
    sandbox.set_balance("50 USD")
    sandbox.spend("3 USD")
    sensor = gate({"params": {"budget": "1 USD per day"}}, threshold="2 USD", budget="{{ params.budget }}")
    trigger = BalanceTrigger(**trigger_kwargs(sensor) | {"end_from_trigger": False, "deadline": time.time()})
    trigger.template_fields = BalanceSensor.template_fields
    trigger.render_template_fields({"params": {"budget": budget}})  # type: ignore[typeddict-item]
    (event,) = asyncio.run(_all(trigger.run()))
    assert event["status"] == status
    assert event["verdict"]["balance"]["budget"]["spent_usd"] == "3.00"


@needs_3_3
def test_an_empty_budget_in_the_triggerer_is_not_no_budget() -> None:
    sensor = gate({"params": {"budget": ""}}, threshold=1, budget="{{ params.budget }}")
    trigger = BalanceTrigger(**trigger_kwargs(sensor))
    trigger.template_fields = BalanceSensor.template_fields
    trigger.render_template_fields({"params": {"budget": ""}})  # type: ignore[typeddict-item]
    trigger.timeout_after = datetime.now(timezone.utc) + timedelta(hours=1)
    (event,) = asyncio.run(_all(trigger.run()))
    assert event["error"] == "AimlBillingBudgetError"
    assert "was empty" in event["message"]


@needs_3_3
def test_the_serialized_dag_keeps_it() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    sensor = gate(threshold="{{ params.need }}")
    again = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(sensor.dag)))).get_task("gate")
    assert again.start_from_trigger is True
    ours, theirs = dataclasses.asdict(sensor.start_trigger_args), dataclasses.asdict(again.start_trigger_args)
    assert theirs["trigger_kwargs"]["__var"] == ours["trigger_kwargs"]
    assert theirs["timeout"] == ours["timeout"]


@needs_3_3
def test_it_does_not_load_requests_or_the_hook() -> None:
    code = (
        "import sys\n"
        "from datetime import datetime\n"
        "from airflow.sdk import DAG\n"
        "from airflow_provider_aimlbilling.sensors.balance import BalanceSensor\n"
        "with DAG('d', start_date=datetime(2026, 1, 1), schedule=None):\n"
        "    gate = BalanceSensor(task_id='g', threshold='1 USD', deferrable=True, start_from_trigger=True)\n"
        "assert gate.start_trigger_args\n"
        "print({'requests', 'airflow_provider_aimlbilling.hooks.aimlbilling'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip().splitlines()[-1] == "set()"
