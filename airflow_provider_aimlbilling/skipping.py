"""
Skip the tasks behind a gate so that none of them runs, or say when a DAG is parsed that Airflow cannot do so.

Airflow keeps a skip in two places, and each has gaps where tasks or task groups are mapped:

- The state of the task instances. It needs their map indexes, and a mapped task has none before Airflow expands it.
- An XCom of the gate, which the scheduler reads before it starts a task *directly* behind the gate. Before Airflow 3.2
  the scheduler looks for it under the map index of that task, and since 3.2 under -1 unless the gate itself is mapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import (
    AIRFLOW_3,
    AIRFLOW_3_2,
    AirflowException,
    AirflowRescheduleException,
    is_mapped,
)

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context

# A task with one of these rules does not run if a task directly upstream was skipped.
_SKIPPED_WITH_UPSTREAM = ("all_success", "all_failed", "none_skipped")
# A task with one of these rules may start while other tasks upstream are still running.
_STARTS_EARLY = ("one_success", "one_failed", "one_done")
# Since Airflow 3.2, a task with one of these rules in a mapped task group is only expanded after all gates have ended.
_EXPANDED_LATE = (*_STARTS_EARLY, "none_failed_min_one_success")
_EXPANSION_INTERVAL = 2
_EXPANSION_SECONDS = 86_400
_ENDED = ["success", "failed", "skipped", "upstream_failed", "removed"]
_ALTERNATIVE = "Check in the job itself with require_balance, or use BalanceCheckOperator, which fails."


def skippable(gate: Any, *, direct_only: bool) -> list[Any]:
    """
    Return the tasks downstream, without teardowns: they clean up after setups even if the work was skipped.

    :param gate: the operator that skips.
    :param direct_only: only the tasks directly downstream.
    """
    relatives = gate.get_direct_relatives if direct_only else gate.get_flat_relatives
    return [task for task in relatives(upstream=False) if not task.is_teardown]


def check_that_skips_hold(gate: Any, *, direct_only: bool) -> None:
    """
    Check that Airflow holds every task that the gate may skip.

    In a mapped task group, a gate decides for its own map index. A task behind the group belongs to all of them, and
    its own trigger rule decides whether it runs.

    :param gate: the operator that skips.
    :param direct_only: it skips only the tasks directly downstream.
    :raises AirflowException: a task might run although the gate said no.
    """
    behind_gate = {gate.task_id, *(task.task_id for task in gate.get_flat_relatives(upstream=False))}
    direct = {task.task_id for task in gate.get_direct_relatives(upstream=False)}
    group_id = _mapped_group_id(gate)
    for task in skippable(gate, direct_only=direct_only):
        rule = str(getattr(task.trigger_rule, "value", task.trigger_rule))
        is_direct, in_group = task.task_id in direct, _mapped_group_id(task) == group_id
        if rule == "always" or (rule in _STARTS_EARLY and not task.upstream_task_ids <= behind_gate):
            problem = f"its trigger_rule {rule!r} lets it start before the gate has decided"
        elif group_id and is_direct and in_group and rule in _EXPANDED_LATE:
            problem = f"in a mapped task group, Airflow does not apply skips to a task with trigger_rule {rule!r}"
        elif group_id and is_direct and not in_group:
            problem = f"it is outside of the gate's mapped task group {group_id!r}"
        elif group_id and in_group and not is_direct and rule not in _SKIPPED_WITH_UPSTREAM:
            problem = (
                f"in a mapped task group, its trigger_rule {rule!r} lets it run although the task before it was skipped"
            )
        else:
            continue
        raise AirflowException(
            f"{gate.task_type} {gate.task_id!r} cannot hold the task {task.task_id!r}: {problem}. {_ALTERNATIVE}"
        )


def _mapped_group_id(task: Any) -> str | None:
    """Return the id of the mapped task group that a task is in, however deep."""
    group = task.get_closest_mapped_task_group()
    return group.group_id if group else None


def _count(ti: Any, task_ids: Sequence[str], **conditions: Any) -> int:
    return int(ti.get_ti_count(dag_id=ti.dag_id, task_ids=list(task_ids), run_ids=[ti.run_id], **conditions))


def wait_for_expansion(gate: Any, context: Context) -> None:
    """
    Let Airflow create the task instances that a gate in a mapped task group may have to skip.

    Since Airflow 3.2, a gate there can only skip task instances that exist. Airflow expands a task directly behind the
    gate as soon as its scheduler sees that nothing outside of the group holds the task back: usually within a second.

    :param gate: the operator that skips.
    :param context: the gate's context.
    :raises AirflowRescheduleException: run the gate again in a few seconds.
    :raises AirflowException: the task instances have been missing for a day.
    """
    ti: Any = context["ti"]
    task_ids = [task.task_id for task in skippable(gate, direct_only=True)]
    if not AIRFLOW_3_2 or not is_mapped(context) or not task_ids:
        return
    ready = _count(ti, task_ids, map_index=ti.map_index)
    if ready < len(task_ids):  # a task that ended before it was expanded never runs
        ready += _count(ti, task_ids, map_index=-1, states=_ENDED)
    if ready >= len(task_ids):
        return
    now = datetime.now(timezone.utc)
    first = ti.get_first_reschedule_date(context)
    if first and (now - first).total_seconds() > _EXPANSION_SECONDS:
        raise AirflowException(
            f"Airflow has not expanded all of {task_ids} for a day, so this gate could not hold them and has not "
            f"decided. {_ALTERNATIVE}"
        )
    gate.log.info("Waiting until Airflow has expanded all of %s, so that this gate can hold them.", task_ids)
    raise AirflowRescheduleException(now + timedelta(seconds=_EXPANSION_INTERVAL))  # type: ignore[no-untyped-call]


def skip(gate: Any, tasks: Sequence[Any], context: Context) -> None:
    """
    Skip tasks behind a gate.

    On Airflow 3 this may raise the exception by which a task tells Airflow to skip others.

    :param gate: the operator that skips.
    :param tasks: the tasks to skip.
    :param context: the gate's context.
    """
    ti: Any = context["ti"]
    if not AIRFLOW_3:
        dag_run: Any = context["dag_run"]
        gate.skip(dag_run=dag_run, execution_date=dag_run.execution_date, tasks=tasks, map_index=ti.map_index)
        return
    from airflow_provider_aimlbilling.compat import DownstreamTasksSkipped

    with suppress(DownstreamTasksSkipped):  # this stores the XCom
        gate.skip(ti=ti, tasks=tasks)
    _skip_task_instances(gate, tasks, ti)


def not_on_path(gate: Any, task_ids: Iterable[str]) -> list[Any]:
    """
    Return the tasks directly behind a gate that are on none of the given paths, as Airflow's branches do.

    :param gate: the operator that branches.
    :param task_ids: the first tasks of the paths to follow.
    """
    dag: Any = gate.dag
    followed = set(task_ids)
    for task_id in task_ids:  # a task that is also behind a followed one joins the paths, so it runs
        followed |= dag.get_task(task_id).get_flat_relative_ids(upstream=False)
    return [task for task in gate.get_direct_relatives(upstream=False) if task.task_id not in followed]


def _skip_task_instances(gate: Any, tasks: Sequence[Any], ti: Any) -> None:
    """Raise the exception by which a task of Airflow 3 skips others, with the map indexes that SkipMixin leaves out."""
    from airflow_provider_aimlbilling.compat import DownstreamTasksSkipped

    keys: list[tuple[str, int]] = []
    if ti.map_index is None or ti.map_index < 0:
        for task in tasks:
            mapped = task.is_mapped or _mapped_group_id(task)
            keys += [(task.task_id, index) for index in range(-1, _count(ti, [task.task_id]) if mapped else 0)]
    elif AIRFLOW_3_2:  # before, the scheduler finds the XCom
        direct = {task.task_id for task in gate.get_direct_relatives(upstream=False)}
        keys = [(task.task_id, ti.map_index) for task in tasks if task.task_id in direct]
    if keys:
        raise DownstreamTasksSkipped(tasks=keys)  # type: ignore[no-untyped-call]
