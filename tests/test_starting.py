"""Which gates start in the triggerer. A mistake here opens a gate at another sum than the one that was asked for."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from importlib.metadata import version
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset, BaseOperator, Param

from airflow_provider_aimlbilling.balance import Amount
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
from airflow_provider_aimlbilling.starting import obstacle
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger
from airflow_provider_aimlbilling.waiting import SLACK

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
CAN = not version("apache-airflow").startswith(("2.", "3.0", "3.1", "3.2"))
needs_33 = pytest.mark.skipif(not CAN, reason="Airflow before 3.3 starts no gate in the triggerer")


def gate(dag: dict[str, Any] | None = None, **arguments: Any) -> BalanceSensor:
    with DAG("gates", start_date=START, schedule=None, **(dag or {})):
        return BalanceSensor(task_id="gate", **{"start_from_trigger": True, "deferrable": True} | arguments)


def started(sensor: BalanceSensor) -> dict[str, Any]:
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
    "the account's own": (None, None),
    "params": ("{{ params.need }}", "{{ params.need }}"),
    "conf": ("{{ dag_run.conf.get('need', '1 USD') }}", "{{ dag_run.conf.get('need', '1 USD') }}"),
    "a Variable": ("{{ var.value.need }}", "{{ var.value.need }}"),
}


@needs_33
@pytest.mark.parametrize("row", THRESHOLDS)
def test_what_is_known_beforehand_starts_in_the_triggerer(row: str) -> None:
    written, given = THRESHOLDS[row]
    sensor = gate(threshold=written, poke_interval=7, timeout=100)
    kwargs = started(sensor)
    assert (kwargs["threshold"], kwargs.get("deadline"), kwargs["end_from_trigger"]) == (given, None, True)
    assert sensor.start_trigger_args.timeout == timedelta(seconds=100 + 2 * 7) + SLACK


OBSTACLES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "not deferrable": ({"deferrable": False}, {}, "deferrable is off"),
    "an outlet": ({"outlets": [Asset("paid")]}, {}, "outlets"),
    "on_execute_callback": ({"on_execute_callback": print}, {}, "on_execute_callback"),
    "on_success_callback": ({"on_success_callback": print}, {}, "on_success_callback"),
    "pre_execute": ({"pre_execute": print}, {}, "pre_execute"),
    "post_execute": ({"post_execute": print}, {}, "post_execute"),
    "multiple outputs": ({"multiple_outputs": True}, {}, "multiple_outputs"),
    "execution time-out": ({"execution_timeout": timedelta(hours=1)}, {}, "execution_timeout"),
    "a macro": ({"threshold": "{{ ds }}"}, {}, "uses 'ds'"),
    "an XCom in a template": ({"threshold": "{{ ti.xcom_pull('price') }}"}, {}, "uses 'ti'"),
    "one good and one bad name": ({"threshold": "{{ params.x or ds }}"}, {}, "uses 'ds'"),
    "a macro in the connection": (
        {"aimlbilling_conn_id": "{{ macros.x }}"},
        {},
        "aimlbilling_conn_id is a template, and uses 'macros'",
    ),
    "an XCom": ({"threshold": BaseOperator(task_id="price").output}, {}, "only a worker knows the threshold"),
    "an XCom for the connection": (
        {"aimlbilling_conn_id": BaseOperator(task_id="account").output},
        {},
        "only a worker knows the aimlbilling_conn_id",
    ),
    "no amount": ({"threshold": "3 EUR"}, {}, "only a worker knows the threshold"),
    "a broken template": ({"threshold": "{{ params.x"}, {}, "Jinja cannot read it"),
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
    "a param that is checked": (
        {"threshold": "{{ params.x }}", "params": {"x": Param(5, type="integer", minimum=1)}},
        {},
        "a worker checks the task's param 'x'",
    ),
    "native rendering": ({"threshold": "{{ params.x }}"}, {"render_template_as_native_obj": True}, "of its own"),
}


@needs_33
@pytest.mark.parametrize("row", OBSTACLES)
def test_what_a_worker_alone_can_do_starts_on_a_worker(row: str) -> None:
    arguments, dag, reason = OBSTACLES[row]
    sensor = gate(dag, **{"threshold": "1 USD"} | arguments)
    assert (sensor.start_from_trigger, sensor.start_trigger_args) == (False, None)
    assert reason in str(obstacle(sensor, sensor.threshold, sensor.aimlbilling_conn_id))


@needs_33
def test_a_param_of_the_dag_may_have_a_schema() -> None:
    """The API has checked it when the run was started."""
    params = {"need": Param("1 USD", type="string")}
    assert started(gate({"params": params}, threshold="{{ params.need }}"))["threshold"] == "{{ params.need }}"


@needs_33
def test_a_subclass_is_left_to_the_worker() -> None:
    class More(BalanceSensor):
        def execute(self, context: Any) -> Any:
            raise AssertionError

    with DAG("subclass", start_date=START, schedule=None):
        more = More(task_id="gate", threshold="1 USD", deferrable=True, start_from_trigger=True)
    assert (more.start_from_trigger, more.start_trigger_args) == (False, None)


@needs_33
def test_an_xcom_that_airflow_counts_is_left_to_the_worker() -> None:
    with DAG("mapped_over", start_date=START, schedule=None):
        sensor = BalanceSensor(task_id="gate", threshold="1 USD", deferrable=True, start_from_trigger=True)
        assert sensor.start_trigger_args is not None
        BalanceSensor.partial(task_id="mapped").expand_kwargs(sensor.output)
    assert sensor.start_trigger_args is None


@needs_33
def test_triggerer_queues_are_left_to_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", "True")
    assert gate(threshold="1 USD").start_trigger_args is None


RENDERED: dict[str, tuple[dict[str, Any], tuple[str, str] | None]] = {
    "a param": ({"threshold": "{{ params.need }}"}, ("4000000", "aimlbilling_default")),
    "a typo": ({"threshold": "{{ params.typo }}000"}, None),
    "a test of what is not there": ({"threshold": "{{ 50 if params.typo else 5 }} USD"}, None),
    "a connection": ({"aimlbilling_conn_id": "{{ params.account }}"}, ("1 credits", "rich")),
}


@needs_33
@pytest.mark.parametrize("row", RENDERED)
def test_the_triggerer_renders_as_strictly_as_a_worker(row: str) -> None:
    """Airflow's triggerer takes what is not there for nothing: "000" would be a threshold of zero."""
    written, given = RENDERED[row]
    sensor = gate({"params": {"need": "4000000", "account": "rich"}}, **{"threshold": 1} | written)
    trigger = BalanceTrigger(**started(sensor))
    trigger.template_fields = ("threshold", "aimlbilling_conn_id")
    trigger.render_template_fields({"params": {"need": "4000000", "account": "rich"}})  # type: ignore[typeddict-item]
    if given:
        assert (trigger.threshold, trigger.aimlbilling_conn_id) == given
    else:
        trigger.timeout_after = datetime.now(timezone.utc) + timedelta(hours=1)
        events = asyncio.run(_all(trigger.run()))
        assert events[0]["error"] == "AimlBillingThresholdError"
        assert "cannot be rendered (UndefinedError)" in events[0]["message"]


async def _all(events: Any) -> list[Any]:
    return [event.payload async for event in events]


def test_nothing_starts_in_the_triggerer_unasked() -> None:
    sensor = gate(threshold="1 USD", start_from_trigger=False)
    assert (sensor.start_from_trigger, sensor.start_trigger_args) == (False, None)


@pytest.mark.skipif(CAN, reason="Airflow 3.3 can")
def test_an_older_airflow_is_never_trusted_with_it() -> None:
    sensor = gate(threshold="1 USD")
    assert (sensor.start_from_trigger, sensor.start_trigger_args) == (False, None)
    assert obstacle(sensor, "1 USD", "aimlbilling_default") == "it needs Airflow 3.3 or later"


def test_mapped_tasks_find_nothing_on_the_class() -> None:
    """Airflow would use it for each index, whatever the index's own threshold."""
    assert BalanceSensor.start_from_trigger is False
    assert BalanceSensor.start_trigger_args is None
    with DAG("mapped", start_date=START, schedule=None):
        mapped = BalanceSensor.partial(task_id="gate", start_from_trigger=True).expand(threshold=["1 USD", "9 USD"])
    assert mapped.start_trigger_args is None


@needs_33
def test_a_mapped_task_is_told_apart_on_the_worker() -> None:
    assert obstacle(gate(threshold="1 USD"), "1 USD", "aimlbilling_default", map_index=0) == "the task is mapped"


@needs_33
def test_what_a_cluster_policy_changes_counts() -> None:
    sensor = gate(threshold="1 USD", timeout=1000)
    sensor.timeout = 50
    assert sensor.start_trigger_args.timeout == timedelta(seconds=50 + 2 * 60) + SLACK
    sensor.outlets = [Asset("paid")]
    assert sensor.start_trigger_args is None


@needs_33
def test_all_flags_reach_the_trigger() -> None:
    kwargs = started(gate(threshold=1, poke_interval=7, exponential_backoff=True, max_wait=90, silent_fail=True))
    wanted = {"poke_interval": 7, "exponential_backoff": True, "max_wait": 90, "silent_fail": True}
    assert wanted.items() <= kwargs.items()
    defaults = {"deadline", "next_poll_at", "last_seen", "last_fault"}
    assert set(kwargs) | defaults == set(BalanceTrigger(**kwargs).serialize()[1]), "none is forgotten"


@needs_33
def test_what_is_asked_beside_the_balance_reaches_the_trigger() -> None:
    asked = started(gate(threshold=1, respect_key_limit=True, fail_if_topup_stuck=True, topup_grace=60))
    assert (asked["respect_key_limit"], asked["top_up_grace"]) == (True, 60)


@needs_33
def test_it_survives_the_serialized_dag() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    sensor = gate(threshold="{{ params.need }}")
    again = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(sensor.dag)))).get_task("gate")
    assert again.start_from_trigger is True
    ours, theirs = dataclasses.asdict(sensor.start_trigger_args), dataclasses.asdict(again.start_trigger_args)
    assert theirs["trigger_kwargs"]["__var"] == ours["trigger_kwargs"]
    assert theirs["timeout"] == ours["timeout"]


@needs_33
def test_asking_for_it_loads_neither_requests_nor_the_hook() -> None:
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
