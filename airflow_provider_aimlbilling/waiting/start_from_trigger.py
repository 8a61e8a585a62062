"""
Whether a gate can start and end in the triggerer, without a worker.

This is decided when the DAG is serialized. A task that starts in the triggerer skips everything that a worker does
around a task. So a gate goes through a worker if anything needs one, or if a value is not known yet or might be
rendered differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from airflow_provider_aimlbilling.compat import NOTSET, is_mapped
from airflow_provider_aimlbilling.exceptions import AimlBillingBudgetError, AimlBillingThresholdError

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context, StartTriggerArgs

_TRIGGER_CLASS = "airflow_provider_aimlbilling.triggers.balance.BalanceTrigger"

# The template variables that Airflow 3.3 renders in the triggerer as it does on a worker; of dag_run only its conf.
_RENDERED_IN_TRIGGERER = {"params", "dag_run", "var"}


def starts_from_trigger(sensor: Any) -> bool:
    """
    Return whether a gate starts in the triggerer.

    :param sensor: the gate, a ``BalanceSensor``.
    """
    return why_not_from_trigger(sensor, {name: getattr(sensor, name) for name in sensor.template_fields}) is None


def start_trigger_args(sensor: Any) -> StartTriggerArgs | None:
    """
    Return what Airflow creates the trigger from; ``None`` if the gate does not start in the triggerer.

    :param sensor: the gate, a ``BalanceSensor``.
    """
    if not starts_from_trigger(sensor):
        return None
    from airflow_provider_aimlbilling.compat import StartTriggerArgs
    from airflow_provider_aimlbilling.waiting.deferral import deferral_timeout, trigger_options

    return StartTriggerArgs(
        trigger_cls=_TRIGGER_CLASS,
        trigger_kwargs={
            "threshold": trigger_threshold(sensor.threshold),
            "aimlbilling_conn_id": sensor.aimlbilling_conn_id,
            "deadline": None,  # required by the trigger, which then derives it from the deferral timeout
            "end_from_trigger": True,
            **({} if sensor.budget is None else {"budget": trigger_budget(sensor.budget)}),
            **trigger_options(sensor),
        },
        next_method="execute_complete",
        timeout=deferral_timeout(sensor.timeout, sensor.poke_interval),
    )


def log_why_on_worker(sensor: Any, declared: Mapping[str, object], context: Context) -> None:
    """
    Log why a gate that should start in the triggerer runs on a worker, if there is a reason.

    :param sensor: the gate, a ``BalanceSensor``.
    :param declared: as in :func:`why_not_from_trigger`.
    :param context: the task's context.
    """
    if why := why_not_from_trigger(sensor, declared, mapped=is_mapped(context)):
        sensor.log.info("start_from_trigger has no effect here: %s.", why)


def why_not_from_trigger(sensor: Any, declared: Mapping[str, object], *, mapped: bool = False) -> str | None:
    """
    Return why a gate cannot start and end in the triggerer; ``None`` if it can.

    :param sensor: the gate, a ``BalanceSensor``.
    :param declared: its ``threshold``, ``aimlbilling_conn_id`` and ``budget`` before templates are rendered.
    :param mapped: whether the task instance is known to be one of a mapped task.
    """
    from airflow_provider_aimlbilling.compat import AIRFLOW_3_3, conf

    if not AIRFLOW_3_3:
        return "it needs Airflow 3.3 or later"
    if "start_from_trigger" not in vars(type(sensor)):
        return "only a worker runs what a subclass may add"
    if not sensor.deferrable:
        return "deferrable is off"
    if conf.getboolean("triggerer", "queues_enabled", fallback=False):
        return "Airflow does not assign it to a triggerer queue"
    if mapped or sensor.get_closest_mapped_task_group() is not None:
        return "the task is mapped"
    worker_only = {
        "handles outlets": sensor.outlets,
        "runs on_execute_callback": sensor.on_execute_callback,
        "runs on_success_callback": sensor.on_success_callback,
        "runs pre_execute": sensor._pre_execute_hook,  # noqa: SLF001 - of BaseOperator
        "runs post_execute": sensor._post_execute_hook,  # noqa: SLF001 - of BaseOperator
        "handles multiple_outputs": sensor.multiple_outputs,
        "enforces execution_timeout": sensor.execution_timeout,
        "returns the DAG's result": getattr(sensor, "returns_dag_result", False),
        "expands the tasks that are mapped over its XCom": sensor.has_dag()
        and next(iter(sensor.iter_mapped_dependants()), None),
    }
    if needed := [what for what, value in worker_only.items() if value]:
        return f"only a worker {needed[0]}"
    values = {name: None if value is NOTSET else value for name, value in declared.items()}
    if not isinstance(values["aimlbilling_conn_id"], str):
        return "only a worker can render the aimlbilling_conn_id"
    try:
        trigger_threshold(values["threshold"])
        trigger_budget(values["budget"])
    except AimlBillingThresholdError as error:
        return f"only a worker can render the {'budget' if isinstance(error, AimlBillingBudgetError) else 'threshold'}"
    if without_value := [name for name in sensor.params if not sensor.params.get_param(name).has_value]:
        return f"the param {without_value[0]!r} has no value yet"
    dag = sensor.dag if sensor.has_dag() else None
    for name, value in values.items():
        if _is_template(value) and (why := _why_not_rendered_in_triggerer(value, sensor, dag)):
            return f"the {name} is a template, and {why}"
    return None


def trigger_threshold(threshold: object) -> str | None:
    """
    Return a threshold as a trigger accepts it: as text, or as the template that it is.

    :param threshold: as :meth:`Amount.parse` reads it, a template, or ``None``.
    :raises AimlBillingThresholdError: if it is anything else.
    """
    if threshold is None or _is_template(threshold):
        return threshold
    from airflow_provider_aimlbilling.money.amount import Amount

    return Amount.parse(threshold).text


def trigger_budget(budget: object) -> str | None:
    """
    Return a budget as a trigger accepts it: as text, or as the template that it is.

    :param budget: as :meth:`Budget.parse` reads it, a template, or ``None``.
    :raises AimlBillingBudgetError: if it is anything else.
    """
    if budget is None or _is_template(budget):
        return budget
    from airflow_provider_aimlbilling.money.budget import Budget

    return Budget.parse(budget).text


def _why_not_rendered_in_triggerer(template: str, sensor: Any, dag: Any) -> str | None:
    """Return why the triggerer might render a template differently from a worker; ``None`` if it does not."""
    if dag is None:
        return "the DAG is not known yet"
    from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, meta, nodes

    if dag.user_defined_macros or dag.user_defined_filters or dag.jinja_environment_kwargs:
        return "the DAG has macros, filters or Jinja settings of its own"
    native = sensor.render_template_as_native_obj or dag.render_template_as_native_obj
    if native or dag.template_undefined is not StrictUndefined:
        return "the DAG has a rendering mode of its own"
    try:
        tree = Environment().parse(template)  # noqa: S701 - parsed, never rendered
    except TemplateSyntaxError:
        return "Jinja cannot parse it"
    names = meta.find_undeclared_variables(tree)
    if unsupported := sorted(names - _RENDERED_IN_TRIGGERER):
        return f"uses {unsupported[0]!r}, which only a worker is sure to render"
    dag_runs = [name for name in tree.find_all(nodes.Name) if name.name == "dag_run"]
    confs = [part.node for part in tree.find_all(nodes.Getattr) if part.attr == "conf" and part.node in dag_runs]
    if len(confs) < len(dag_runs):
        return "uses more of dag_run than its conf"
    if "params" in names:
        for name in sensor.params:
            # A worker validates params against their schemas. The API has already validated those of the DAG.
            schema = sensor.params.get_param(name).schema
            if schema and (name not in dag.params or dag.params.get_param(name).schema != schema):
                return f"only a worker validates the task's param {name!r}"
    return None


def _is_template(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#"))
