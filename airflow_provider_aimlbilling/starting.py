"""
Whether a gate can start and end in the triggerer, without a worker.

It is decided when the DAG is serialized. Airflow then leaves out all that a worker does around a task, so whatever asks
for one of those things is an obstacle, and so is each value that is not known by then or may come out wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeGuard, TypeVar

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError

# What Airflow 3.3 renders in the triggerer as it does on a worker; of dag_run only the conf.
_RENDERED = {"params", "dag_run", "var"}

T = TypeVar("T")


class OfInstance(Generic[T]):
    """
    An attribute that each instance works out when it is read. On the class, where mapped tasks read it, the default.

    Airflow takes what it finds on the class for all indexes of a mapped task, and cluster policies may change a task
    up to its serialization.
    """

    def __init__(self, default: T, work_out: Callable[[Any], T]) -> None:
        self._default = default
        self._work_out = work_out

    def __get__(self, instance: object | None, owner: type) -> T:
        return self._default if instance is None else self._work_out(instance)


def obstacle(sensor: Any, threshold: object, conn_id: object, map_index: int | None = None) -> str | None:
    """
    Say what keeps a gate from starting and ending in the triggerer; ``None`` if nothing does.

    :param sensor: the gate, a ``BalanceSensor``.
    :param threshold: of the gate, before templates are rendered.
    :param conn_id: the same.
    :param map_index: of the task, where it is known.
    """
    from airflow.providers.common.compat.sdk import conf
    from airflow.triggers import base

    # It came with 3.3, and is not used here.
    if not hasattr(getattr(base, "BaseEventTrigger", None), "shared_stream_key"):
        return "it needs Airflow 3.3 or later"
    if not sensor.deferrable:
        return "deferrable is off"
    if conf.getboolean("triggerer", "queues_enabled", fallback=False):
        return "Airflow gives it no triggerer queue"
    if (map_index is not None and map_index >= 0) or sensor.get_closest_mapped_task_group() is not None:
        return "the task is mapped"
    needed = {
        "outlets": sensor.outlets,
        "on_execute_callback": sensor.on_execute_callback,
        "on_success_callback": sensor.on_success_callback,
        "pre_execute": sensor._pre_execute_hook,  # noqa: SLF001 - of BaseOperator
        "post_execute": sensor._post_execute_hook,  # noqa: SLF001
        "multiple_outputs": sensor.multiple_outputs,
        "execution_timeout": sensor.execution_timeout,
        "the DAG's result": getattr(sensor, "returns_dag_result", False),
        "tasks that are mapped over its XCom": sensor.has_dag() and next(iter(sensor.iter_mapped_dependants()), None),
    }
    if asked := [name for name, value in needed.items() if value]:
        return f"only a worker honours {asked[0]}"
    if not isinstance(conn_id, str):
        return "only a worker knows the aimlbilling_conn_id"
    try:
        literal(threshold)
    except AimlBillingThresholdError:
        return "only a worker knows the threshold"
    if without := [name for name in sensor.params if not sensor.params.get_param(name).has_value]:
        return f"the param {without[0]!r} has no value yet"
    dag = sensor.dag if sensor.has_dag() else None
    for name, value in (("threshold", threshold), ("aimlbilling_conn_id", conn_id)):
        if _is_template(value) and (why := _unsafe(value, sensor, dag)):
            return f"the {name} is a template, and {why}"
    return None


def literal(threshold: object) -> str | None:
    """Give a threshold as a trigger takes it: as text, or the template that it is."""
    if threshold is None or _is_template(threshold):
        return threshold
    from airflow_provider_aimlbilling.balance import Amount

    return Amount.parse(threshold).text


def _unsafe(template: str, sensor: Any, dag: Any) -> str | None:
    """Say why the triggerer might render a template in another way than a worker."""
    if dag is None:
        return "the DAG is not known yet"
    from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, meta, nodes

    if dag.user_defined_macros or dag.user_defined_filters or dag.jinja_environment_kwargs:
        return "the DAG has macros, filters or settings of its own for them"
    native = sensor.render_template_as_native_obj or dag.render_template_as_native_obj
    if native or dag.template_undefined is not StrictUndefined:
        return "the DAG has them rendered in a way of its own"
    try:
        tree = Environment().parse(template)  # noqa: S701 - parsed, never rendered
    except TemplateSyntaxError:
        return "Jinja cannot read it"
    names = meta.find_undeclared_variables(tree)
    if beyond := sorted(names - _RENDERED):
        return f"uses {beyond[0]!r}, which only a worker knows for certain"
    of_run = [name for name in tree.find_all(nodes.Name) if name.name == "dag_run"]
    confs = [part.node for part in tree.find_all(nodes.Getattr) if part.attr == "conf" and part.node in of_run]
    if len(confs) < len(of_run):
        return "uses more of dag_run than its conf"
    if "params" in names:
        for name in sensor.params:
            # A worker checks a value against its schema. For the DAG's own, the API has done so.
            schema = sensor.params.get_param(name).schema
            if schema and (name not in dag.params or dag.params.get_param(name).schema != schema):
                return f"a worker checks the task's param {name!r}"
    return None


def _is_template(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#"))
