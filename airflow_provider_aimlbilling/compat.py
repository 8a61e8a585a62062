"""
The Airflow names that this provider uses, wherever the running version keeps them.

This is the only module that knows Airflow's versions, and the only one that imports Airflow. A name is imported when it
is first used, so that loading a DAG file costs no more than what that file needs::

    from airflow_provider_aimlbilling.compat import BaseOperator, Context

A name that the running Airflow does not have raises :class:`ImportError` with the version that introduced it.
"""
# ruff: noqa: PLC0414 - "X as X" marks a name as exported

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseHook as BaseHook
    from airflow.sdk import BaseOperator as BaseOperator
    from airflow.sdk import BaseOperatorLink as BaseOperatorLink
    from airflow.sdk import BaseSensorOperator as BaseSensorOperator
    from airflow.sdk import Connection as Connection
    from airflow.sdk import Context as Context
    from airflow.sdk import PokeReturnValue as PokeReturnValue
    from airflow.sdk import get_current_context as get_current_context
    from airflow.sdk.bases.skipmixin import SkipMixin as SkipMixin
    from airflow.sdk.configuration import conf as conf
    from airflow.sdk.definitions.retry_policy import RetryDecision as RetryDecision
    from airflow.sdk.definitions.retry_policy import RetryPolicy as RetryPolicy
    from airflow.sdk.exceptions import AirflowException as AirflowException
    from airflow.sdk.exceptions import AirflowNotFoundException as AirflowNotFoundException
    from airflow.sdk.exceptions import AirflowRescheduleException as AirflowRescheduleException
    from airflow.sdk.exceptions import AirflowSensorTimeout as AirflowSensorTimeout
    from airflow.sdk.exceptions import AirflowSkipException as AirflowSkipException
    from airflow.sdk.exceptions import DownstreamTasksSkipped as DownstreamTasksSkipped
    from airflow.sdk.execution_time.xcom import XCom as XCom
    from airflow.sdk.observability.stats import Stats as Stats
    from airflow.sdk.plugins_manager import AirflowPlugin as AirflowPlugin
    from airflow.sdk.types import TaskInstanceKey as TaskInstanceKey
    from airflow.triggers.base import BaseEventTrigger as BaseEventTrigger
    from airflow.triggers.base import BaseTrigger as BaseTrigger
    from airflow.triggers.base import StartTriggerArgs as StartTriggerArgs
    from airflow.triggers.base import TaskSuccessEvent as TaskSuccessEvent
    from airflow.triggers.base import TriggerEvent as TriggerEvent

    AIRFLOW_3: bool
    AIRFLOW_3_1: bool
    AIRFLOW_3_2: bool
    AIRFLOW_3_3: bool


class _NotSet:
    """A singleton that survives copying: Airflow deep-copies tasks, and the ``default_args`` of a task group."""

    def __repr__(self) -> str:
        return "NOTSET"

    def __reduce__(self) -> str:
        return "NOTSET"  # pickle and copy then look up this module-level name


# The default value of parameters for which None and "not passed" mean different things. Airflow's own NOTSET is private
# and does not survive copying.
NOTSET = _NotSet()

_EXCEPTIONS = ("airflow.sdk.exceptions", "airflow.exceptions")

# Where each name lives, newest Airflow first. The first module that has it counts.
_MODULES: dict[str, tuple[str, ...]] = {
    "AirflowException": _EXCEPTIONS,
    "AirflowNotFoundException": _EXCEPTIONS,
    "AirflowPlugin": ("airflow.sdk.plugins_manager", "airflow.plugins_manager"),
    "AirflowRescheduleException": _EXCEPTIONS,
    "AirflowSensorTimeout": _EXCEPTIONS,
    "AirflowSkipException": _EXCEPTIONS,
    "BaseEventTrigger": ("airflow.triggers.base",),
    "BaseHook": ("airflow.sdk", "airflow.hooks.base"),
    "BaseOperator": ("airflow.sdk", "airflow.models.baseoperator"),
    "BaseOperatorLink": ("airflow.sdk", "airflow.models.baseoperatorlink"),
    "BaseSensorOperator": ("airflow.sdk", "airflow.sensors.base"),
    "BaseTrigger": ("airflow.triggers.base",),
    "Connection": ("airflow.sdk", "airflow.models.connection"),
    "Context": ("airflow.sdk", "airflow.utils.context"),
    "DownstreamTasksSkipped": _EXCEPTIONS,
    "PokeReturnValue": ("airflow.sdk", "airflow.sensors.base"),
    "RetryDecision": ("airflow.sdk.definitions.retry_policy",),
    "RetryPolicy": ("airflow.sdk.definitions.retry_policy",),
    "SkipMixin": (
        "airflow.sdk.bases.skipmixin",
        "airflow.models.skipmixin",
        "airflow.providers.standard.utils.skipmixin",
    ),
    "StartTriggerArgs": ("airflow.triggers.base",),
    "Stats": ("airflow.sdk.observability.stats", "airflow.observability.stats", "airflow.stats"),
    "TaskInstanceKey": ("airflow.sdk.types", "airflow.models.taskinstancekey"),
    "TaskSuccessEvent": ("airflow.triggers.base",),
    "TriggerEvent": ("airflow.triggers.base",),
    "XCom": ("airflow.sdk.execution_time.xcom", "airflow.models.xcom"),
    "conf": ("airflow.sdk.configuration", "airflow.configuration"),
    "get_current_context": ("airflow.sdk", "airflow.operators.python"),
}
_SINCE = {"DownstreamTasksSkipped": "3.0", "RetryDecision": "3.3", "RetryPolicy": "3.3"}
_VERSIONS = {"AIRFLOW_3": (3, 0), "AIRFLOW_3_1": (3, 1), "AIRFLOW_3_2": (3, 2), "AIRFLOW_3_3": (3, 3)}


def __getattr__(name: str) -> Any:
    """Import a name from where the running Airflow keeps it, and remember it."""
    if name in _VERSIONS:
        return _airflow_version() >= _VERSIONS[name]
    for module in _MODULES.get(name, ()):
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
        globals()[name] = found
        return found
    if name == "BaseEventTrigger":  # Airflow 2 can import the module of a watcher's trigger, but has no watchers
        return import_module("airflow.triggers.base").BaseTrigger
    if name in _MODULES:
        needed = f" Airflow {_SINCE[name]} or later has it." if name in _SINCE else ""
        raise ImportError(f"Airflow {import_module('airflow').__version__} does not have {name}.{needed}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _airflow_version() -> tuple[int, ...]:
    return tuple(int(part) for part in import_module("airflow").__version__.split(".")[:2])


def is_mapped(context: Context) -> bool:
    """Return whether a task instance belongs to a mapped task. Its ``map_index`` is ``None`` or -1 if it does not."""
    map_index = getattr(context.get("ti"), "map_index", None)  # a unit test may pass an empty context
    return map_index is not None and map_index >= 0


def is_created_from_mapped(operator: Any) -> bool:
    """Return whether Airflow creates an operator for an index of a mapped task, and not a DAG file."""
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


def try_number(context: Context) -> int | None:
    """Return the number of a task instance's current try."""
    return getattr(context.get("ti"), "try_number", None)  # a unit test may pass an empty context


def count_task_instances(
    ti: Any, dag_id: str, task_ids: Sequence[str], states: Sequence[str] | None = None, run_id: str | None = None
) -> int:
    """
    Return how many instances of some tasks of a DAG there are.

    :param ti: the task instance that asks, from its context.
    :param dag_id: id of the DAG.
    :param task_ids: ids of the tasks.
    :param states: only instances in these states.
    :param run_id: only instances in this run.
    :raises RuntimeError: the task instance is not one of a running Airflow.
    """
    from airflow_provider_aimlbilling.compat import AIRFLOW_3

    if hasattr(ti, "get_ti_count"):  # Airflow 3
        only = {"run_ids": [run_id]} if run_id else {}
        states = list(states) if states else None
        count: int = ti.get_ti_count(dag_id=dag_id, task_ids=list(task_ids), states=states, **only)
        return count
    if AIRFLOW_3 or not hasattr(ti, "dag_id"):
        raise RuntimeError("Running tasks can be counted in a running Airflow and in dag.test() only.")
    instance = import_module("airflow.models.taskinstance").TaskInstance
    with import_module("airflow.utils.session").create_session() as session:
        query = session.query(instance).filter(instance.dag_id == dag_id, instance.task_id.in_(task_ids))
        if states:
            query = query.filter(instance.state.in_(states))
        if run_id:
            query = query.filter(instance.run_id == run_id)
        return int(query.count())


def run_start(context: Context) -> datetime | None:
    """
    Return when the task's DAG run began; ``None`` if it has not, as in a unit test.

    When a run is cleared, Airflow moves its start. Then this is when it could have started first.
    """
    dag_run: Any = context.get("dag_run")
    start: datetime | None = getattr(dag_run, "start_date", None)
    if start is not None and getattr(dag_run, "clear_number", None):
        due = getattr(dag_run, "run_after", None) or dag_run.data_interval_end  # Airflow 2 has no run_after
        return min(start, due or start)
    return start


def has_dag_run(context: Context, dag_id: str, run_id: str, states: list[str] | None = None) -> bool:
    """
    Return whether a DAG run exists.

    :param context: the task's context.
    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param states: only if it is in one of these states.
    """
    ti: Any = context["ti"]
    if hasattr(ti, "get_dr_count"):  # Airflow 3: a task cannot use the database
        return bool(ti.get_dr_count(dag_id=dag_id, run_ids=[run_id], states=states))
    found = import_module("airflow.models.dagrun").DagRun.find(dag_id=dag_id, run_id=run_id)
    return any(states is None or run.state in states for run in found)


def seconds_since_first_poke(sensor: Any, context: Context) -> float:
    """
    Return for how long a sensor in reschedule mode has been waiting in this try; 0 at its first poke.

    :param sensor: the sensor.
    :param context: the task's context.
    """
    ti: Any = context.get("ti")
    if not sensor.reschedule:
        return 0.0
    if hasattr(ti, "get_first_reschedule_date"):  # Airflow 3
        started = ti.get_first_reschedule_date(context)
    elif hasattr(ti, "dag_id"):
        find_start = import_module("airflow.sensors.base")._orig_start_date  # noqa: SLF001 - there is no public way
        started = find_start(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, ti.try_number)
    else:  # a unit test may pass an empty context
        started = None
    return (datetime.now(timezone.utc) - started).total_seconds() if started else 0.0


@contextmanager
def timeout_per_try(sensor: Any, context: Context) -> Iterator[None]:
    """
    Let the timeout of a sensor in reschedule mode start over with each try, as it does in the other modes.

    Airflow 3 does so. Airflow 2.11 counts from the first try, which it derives from ``retries``.

    :param sensor: the sensor.
    :param context: the task's context.
    """
    from airflow_provider_aimlbilling.compat import AIRFLOW_3

    ti: Any = context.get("ti")
    retries = sensor.retries
    if not AIRFLOW_3 and sensor.reschedule and hasattr(ti, "max_tries"):
        sensor.retries = (ti.max_tries or 0) - ti.try_number + 1
    try:
        yield
    finally:
        sensor.retries = retries


async def get_async_connection(conn_id: str) -> Connection:
    """
    Look up a connection from a trigger without blocking its event loop.

    :param conn_id: id of the connection.
    :returns: the connection.
    :raises AirflowNotFoundException: Airflow has no such connection.
    """
    from airflow_provider_aimlbilling.compat import BaseHook, Connection

    # Airflow 3.1 added aget_connection. Before 3.3.2 it masks secrets by a synchronous call, which fails while the loop
    # has another call to the supervisor in flight; Connection.aextra_dejson appeared together with the fix.
    if hasattr(Connection, "aextra_dejson"):
        return await BaseHook.aget_connection(conn_id)
    from asgiref.sync import sync_to_async

    # Not asyncio.to_thread: in Airflow 3.0 the look-up then reads another call's answer.
    return await sync_to_async(BaseHook.get_connection)(conn_id)
