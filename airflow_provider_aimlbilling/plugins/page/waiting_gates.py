"""The gates that wait, from Airflow's database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskreschedule import TaskReschedule
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from sqlalchemy import and_, case, func, or_, select

from airflow_provider_aimlbilling.plugins.page.gate_facts import (
    GateFacts,
    deadline,
    facts_of_fields,
    facts_of_trigger,
)
from airflow_provider_aimlbilling.plugins.page.stored_verdicts import (
    GATE_VERDICT,
    StoredVerdict,
    as_text,
    if_small,
    parsed,
    read_verdict,
    same_instance,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

GATE_OPERATORS = ("BalanceSensor", "BalanceCheckOperator", "BalanceShortCircuitOperator", "BalanceBranchOperator")
MAX_GATES = 500

# Of a gate's arguments and template fields; ours have a few thousand. A DAG's author can store any number.
_MAX_CHARACTERS = 100_000
_TRIGGER = "airflow_provider_aimlbilling.triggers.balance.BalanceTrigger"


@dataclass(frozen=True)
class WaitingGate:
    """
    A task instance that waits for money, or is reading the balance.

    :param dag_id: its DAG.
    :param run_id: its DAG run.
    :param task_id: its task.
    :param map_index: its index; ``None`` if the task is not mapped.
    :param state: ``deferred``, ``up_for_reschedule`` or ``running``.
    :param since: when this wait began.
    :param deadline: when it gives up; ``None`` if that is not known.
    :param facts: what it asks for.
    :param verdict: its last verdict; ``None`` if it has pushed none.
    :param verdict_at: when it pushed that verdict.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int | None
    state: Literal["deferred", "up_for_reschedule", "running"]
    since: datetime | None
    deadline: datetime | None
    facts: GateFacts
    verdict: StoredVerdict | None
    verdict_at: datetime | None


def waiting_gates(
    session: Session, readable: Callable[[Iterable[str]], set[str]], limit: int = MAX_GATES
) -> tuple[list[WaitingGate], int]:
    """
    Return the gates that have waited longest, and how many there are beyond these.

    :param session: of Airflow's database.
    :param readable: returns those of some DAGs that the user may read. Other gates do not count.
    :param limit: the most gates to return.
    """
    ti = TaskInstance
    dag_ids = readable(session.scalars(_waiting(select(ti.dag_id).distinct())).all())
    if not dag_ids:
        return [], 0
    is_readable = ti.dag_id.in_(sorted(dag_ids))
    rows = session.execute(_with_facts().where(is_readable).limit(limit + 1)).all()
    left_out = 0
    if len(rows) > limit:
        counted = _waiting(select(func.count()).select_from(ti)).where(is_readable)
        left_out = (session.scalar(counted) or limit) - limit
    return [_gate(row) for row in rows[:limit]], left_out


def _waiting(query: Any) -> Any:
    """Limit a query of task instances to gates that wait."""
    ti = TaskInstance
    return query.outerjoin(Trigger, Trigger.id == ti.trigger_id).where(
        or_(
            and_(ti.state == "deferred", Trigger.classpath == _TRIGGER),
            and_(ti.state.in_(("running", "up_for_reschedule")), ti.operator.in_(GATE_OPERATORS)),
        )
    )


def _with_facts() -> Any:
    """Return one query for all that is shown. It reads columns, because Airflow loads relations with an entity."""
    ti, fields, xcom = TaskInstance, RenderedTaskInstanceFields, XComModel
    # Airflow sets the start of a rescheduled task at each poke.
    first_poke = select(func.min(TaskReschedule.start_date)).where(TaskReschedule.ti_id == ti.id).scalar_subquery()
    since = func.coalesce(first_poke, ti.start_date)
    columns = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.state, ti.trigger_timeout, since.label("since"))
    return (
        _waiting(select(*columns).select_from(ti))
        .add_columns(_unless_long(Trigger.encrypted_kwargs).label("arguments"))
        .add_columns(_unless_long(fields.rendered_fields).label("rendered_fields"))
        .add_columns(if_small(xcom.value).label("verdict"), xcom.timestamp)
        .outerjoin(fields, same_instance(fields, ti))
        .outerjoin(xcom, and_(same_instance(xcom, ti), xcom.key == GATE_VERDICT))
        .order_by(since, ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
    )


def _unless_long(column: Any) -> Any:
    return case((func.length(as_text(column)) <= _MAX_CHARACTERS, column))


def _gate(row: Any) -> WaitingGate:
    is_deferred = row.state == "deferred"
    facts = facts_of_trigger(row.arguments) if is_deferred else facts_of_fields(row.rendered_fields)
    return WaitingGate(
        dag_id=row.dag_id,
        run_id=row.run_id,
        task_id=row.task_id,
        map_index=row.map_index if row.map_index >= 0 else None,
        state=row.state,
        since=row.since,
        deadline=deadline(row.trigger_timeout, facts) if is_deferred else None,
        facts=facts,
        verdict=read_verdict(parsed(row.verdict)),
        verdict_at=row.timestamp,
    )
