"""
Check the thresholds, budgets and durations that a DAG file spells out, so that mistakes appear when it is parsed.

When a task runs, what templates and XComs have become is checked here as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from numbers import Number
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import NOTSET, is_created_from_mapped, is_mapped

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context
    from airflow_provider_aimlbilling.money.budget import Budget
    from airflow_provider_aimlbilling.money.gate import Gate

# The usual forms. Only other values load the parser: Airflow parses DAG files again and again.
_USUAL = re.compile(r"\d{1,12}|\d{1,9}(?:\.\d{1,6})? USD|\$\d{1,9}(?:\.\d{1,6})?|\d{1,12} credits", re.ASCII)
_USUAL_BUDGET = re.compile(r"[1-9]\d{0,8}(?:\.\d{1,6})? USD per (?:day|week|month)", re.ASCII)
# A DAG may have template delimiters of its own, so any of these characters may begin a template.
_TEMPLATE_CHARACTERS = re.compile(r"[{\[<%#]")


def check_threshold(threshold: object, operator: Any = None) -> None:
    """
    Refuse a threshold that can be known to be wrong before the task runs.

    Templates, XComs and other objects are checked when the task runs.

    :param threshold: as in the DAG file.
    :param operator: the operator it is for. If Airflow creates it for an index of a mapped task, the threshold may come
        from an XCom, and nothing is checked.
    :raises AimlBillingThresholdError: if it is a number or a text, and not an amount of money.
    """
    if is_created_from_mapped(operator):
        return
    if type(threshold) is int and 0 <= threshold < 10**12:
        return
    if isinstance(threshold, str):
        if _USUAL.fullmatch(threshold) or _TEMPLATE_CHARACTERS.search(threshold):
            return
    elif not isinstance(threshold, Number):
        return
    from airflow_provider_aimlbilling.money.amount import Amount

    Amount.parse(threshold)


def check_budget(budget: object, operator: Any = None) -> None:
    """
    Refuse a budget that can be known to be wrong before the task runs.

    :param budget: as in the DAG file.
    :param operator: as in :func:`check_threshold`.
    :raises AimlBillingBudgetError: if it is a number or a text, and not a budget.
    """
    if is_created_from_mapped(operator) or not isinstance(budget, str | Number):
        return
    if isinstance(budget, str) and (_USUAL_BUDGET.fullmatch(budget) or _TEMPLATE_CHARACTERS.search(budget)):
        return
    from airflow_provider_aimlbilling.money.budget import Budget

    Budget.parse(budget)


def check_seconds(name: str, seconds: object) -> None:
    """
    Refuse a duration that is none.

    :param name: what it is, for the message.
    :param seconds: as in the DAG file.
    :raises ValueError: if it is not a finite number of seconds, zero or more.
    """
    # A boolean is an int in Python, but a mistake here.
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} must be a number of seconds, zero or more, not {seconds!r:.80}.")


def check_sensor_seconds(arguments: Mapping[str, object]) -> None:
    """
    Refuse a duration that is none among the arguments of a sensor. Airflow accepts a boolean and ``nan``.

    :param arguments: what was passed to the sensor.
    :raises ValueError: as in :func:`check_seconds`.
    """
    for name in ("poke_interval", "timeout", "max_wait"):
        if not isinstance(seconds := arguments.get(name), timedelta | None):
            check_seconds(name, seconds)


def resolve_gate(task: Any, declared: Mapping[str, object], context: Context) -> Gate:
    """
    Return the rule of a running task.

    :param task: a sensor or a gate operator, whose templates were rendered.
    :param declared: what the DAG file passed to it as ``threshold`` and ``budget``.
    :param context: the task's context.
    :raises AimlBillingThresholdError: the threshold is not an amount, or a template or XCom was empty.
    """
    from airflow_provider_aimlbilling.money.gate import Gate

    return Gate.for_threshold(task.threshold, optional=_may_be_none(declared["threshold"], context))


def resolve_budget(task: Any, declared: Mapping[str, object], context: Context) -> Budget | None:
    """
    Return the budget of a running task; ``None`` if the DAG's author set none.

    :param task: as in :func:`resolve_gate`.
    :param declared: as in :func:`resolve_gate`.
    :param context: the task's context.
    :raises AimlBillingBudgetError: it is not a budget, or a template or XCom was empty.
    """
    if task.budget is None and _may_be_none(declared["budget"], context):
        return None
    from airflow_provider_aimlbilling.money.budget import Budget

    return Budget.parse(task.budget)


def _may_be_none(declared: object, context: Context) -> bool:
    """Return whether ``None`` is what the DAG's author passed, and not an empty template or XCom."""
    # A mapped task is created with the values of an XCom, so a None there did not come from the DAG's author.
    return declared is NOTSET or (declared is None and not is_mapped(context))


def _is_literal(price: object) -> bool:
    """Return whether a price in a DAG file stays as it is, and is not rendered when the task runs."""
    if isinstance(price, str):
        return not _TEMPLATE_CHARACTERS.search(price)
    return price is None or isinstance(price, Number)


def check_count_running(count_running: object) -> None:
    """
    Refuse tasks to count that can be known to be wrong before the task runs.

    :param count_running: as in the DAG file.
    :raises AimlBillingThresholdError: if it is text, a number or ``None``, a name has no dot, or a price is no amount.
    """
    if isinstance(count_running, str) and _TEMPLATE_CHARACTERS.search(count_running):
        return
    literal = isinstance(count_running, (str, bytes, Number, Mapping, list, tuple, set, frozenset))
    if isinstance(count_running, bool) or not (literal or count_running is None):
        return
    from airflow_provider_aimlbilling.money.running_jobs import parse_counted_tasks

    tasks = count_running
    if isinstance(count_running, Mapping):
        # Airflow renders prices, and no names. A price that is not known yet counts as valid.
        tasks = {name: price if _is_literal(price) else 1 for name, price in count_running.items()}
    if isinstance(tasks, (list, tuple, set, frozenset)):
        tasks = [task for task in tasks if not (isinstance(task, str) and _TEMPLATE_CHARACTERS.search(task))]
    parse_counted_tasks(tasks, "dag.task")
