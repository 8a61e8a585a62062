"""The tasks that a gate or a guard has held, from the verdicts in Airflow's database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import and_, func, or_, select, tuple_

from airflow_provider_aimlbilling.plugins.page.stored_verdicts import (
    GATE_VERDICT,
    VERDICT_KEYS,
    as_text,
    if_small,
    parsed,
    read_verdict,
    same_instance,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MAX_TASKS = 200

_BRANCH = "BalanceBranchOperator"
# Gates that succeed when they hold what follows. Other tasks with such a verdict succeeded only because a user said so.
_SUCCEED = ("BalanceShortCircuitOperator", _BRANCH)
_Group = tuple[str, str, str]  # DAG, run and task


@dataclass(frozen=True)
class HeldTask:
    """
    The instances of a task in one run that were held with the same outcome.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param task_id: the task: a gate, or a task with a guard.
    :param outcome: ``skipped``, ``branched`` (the gate followed the other branch) or ``failed``.
    :param held: how many instances were held.
    :param of: how many instances the task has in the run.
    :param reason: the reason of the last one.
    :param last_at: when the last one was held.
    """

    dag_id: str
    run_id: str
    task_id: str
    outcome: str
    held: int
    of: int
    reason: str
    last_at: datetime


def held_tasks(
    session: Session, readable: Callable[[Iterable[str]], set[str]], since: datetime, limit: int = MAX_TASKS
) -> tuple[list[HeldTask], int]:
    """
    Return the tasks that were held last, and how many there are beyond these.

    :param session: of Airflow's database.
    :param readable: returns those of some DAGs that the user may read. Other tasks do not count.
    :param since: only what was held since then.
    :param limit: the most tasks to return.
    """
    is_recent = and_(XComModel.key.in_(VERDICT_KEYS), XComModel.timestamp >= since)
    dag_ids = readable(session.scalars(select(XComModel.dag_id).distinct().where(is_recent)).all())
    if not dag_ids:
        return [], 0
    refusals = _refusals(and_(is_recent, XComModel.dag_id.in_(sorted(dag_ids))))
    query = select(refusals).where(refusals.c.newest == 1).order_by(refusals.c.timestamp.desc()).limit(limit + 1)
    rows = session.execute(query).all()
    left_out = 0
    if len(rows) > limit:
        counted = select(func.count()).select_from(refusals).where(refusals.c.newest == 1)
        left_out = (session.scalar(counted) or limit) - limit
    rows = rows[:limit]
    sizes = _sizes(session, {(row.dag_id, row.run_id, row.task_id) for row in rows})
    tasks = [_held(row, sizes) for row in rows]
    return [task for task in tasks if task is not None], left_out


def _refusals(is_verdict: Any) -> Any:
    """Return all refusals; each with how many like it there are in its task and run, and the newest one marked."""
    ti, xcom = TaskInstance, XComModel
    like_it = [xcom.dag_id, xcom.run_id, xcom.task_id, xcom.key, ti.state]
    was_held = or_(
        ti.state.in_(("failed", "skipped")),
        and_(ti.state == "success", ti.operator.in_(_SUCCEED), xcom.key == GATE_VERDICT),
    )
    return (
        select(xcom.dag_id, xcom.run_id, xcom.task_id, xcom.timestamp, ti.state, ti.operator)
        .add_columns(
            if_small(xcom.value).label("verdict"),
            func.count().over(partition_by=like_it).label("held"),
            func.row_number().over(partition_by=like_it, order_by=xcom.timestamp.desc()).label("newest"),
        )
        .join(ti, same_instance(ti, xcom))
        .where(
            is_verdict,
            # As text, because a value that is no JSON object would be an error in some databases.
            as_text(xcom.value).like('%"clears": false%'),
            was_held,
        )
        .subquery()
    )


def _sizes(session: Session, groups: Collection[_Group]) -> dict[_Group, int]:
    """Return how many instances each task has in its run."""
    ti = TaskInstance
    names = (ti.dag_id, ti.run_id, ti.task_id)
    query = select(*names, func.count()).where(tuple_(*names).in_(sorted(groups))).group_by(*names)
    return {(dag_id, run_id, task_id): size for dag_id, run_id, task_id, size in session.execute(query)}


def _held(row: Any, sizes: dict[_Group, int]) -> HeldTask | None:
    verdict = read_verdict(parsed(row.verdict))
    if verdict is None or verdict.clears:
        return None
    outcome = {"failed": "failed", "skipped": "skipped"}.get(
        str(row.state), "branched" if row.operator == _BRANCH else "skipped"
    )
    return HeldTask(
        dag_id=row.dag_id,
        run_id=row.run_id,
        task_id=row.task_id,
        outcome=outcome,
        held=row.held,
        of=max(row.held, sizes.get((row.dag_id, row.run_id, row.task_id), 0)),
        reason=verdict.reason,
        last_at=row.timestamp,
    )
