"""Rows in Airflow's database, for tests of the billing page: copies of what ``dag.test()`` left there, with changes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskreschedule import TaskReschedule
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import delete, event, insert, select, update
from support import Run

from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

NOW = datetime.now(timezone.utc).replace(microsecond=0)
MINUTE = timedelta(minutes=1)


def only(*dag_ids: str) -> Callable[[Iterable[str]], set[str]]:
    """Return a filter for a user who may read these DAGs, or connections, and no others."""
    return lambda names: set(names) & set(dag_ids)


@dataclass
class CopiedRun:
    """The ids of a DAG run."""

    dag_id: str
    run_id: str
    id: int


@contextmanager
def copied(run: Run, dag_id: str = "") -> Iterator[Run]:
    """Copy a DAG run with all its rows, and delete the copy later."""
    ids = {"dag_id": run.dag_run.dag_id, "run_id": f"copy {uuid.uuid4()}"}
    with create_session() as session:
        row = dict(session.execute(select(DagRun.__table__).where(DagRun.id == run.dag_run.id)).mappings().one())
        del row["id"]
        row |= {"run_id": ids["run_id"], "logical_date": None, "run_after": datetime.now(timezone.utc)}
        number = session.execute(insert(DagRun.__table__), [row]).inserted_primary_key[0]
        for table in (TaskInstance, RenderedTaskInstanceFields, XComModel):
            is_of_run = (table.dag_id == run.dag_run.dag_id, table.run_id == run.dag_run.run_id)
            for found in session.execute(select(table.__table__).where(*is_of_run)).mappings().all():
                new = new_id(found) if table is TaskInstance else {}
                new |= {"dag_run_id": number} if table is XComModel else {}
                session.execute(insert(table.__table__), [dict(found) | ids | new])
    yield Run(CopiedRun(**ids, id=number), run.log)
    with create_session() as session:
        session.execute(delete(DagRun).where(DagRun.id == number))  # and all that belongs to it


def new_id(row: Any) -> dict[str, Any]:
    """Return a new id for a row. Airflow 3.1 reads ids as text."""
    return {"id": type(row["id"])(str(uuid.uuid4()))}


def where(run: Run, task_id: str, map_index: int, table: Any = TaskInstance) -> list[Any]:
    values = {"dag_id": run.dag_run.dag_id, "run_id": run.dag_run.run_id, "task_id": task_id, "map_index": map_index}
    return [getattr(table, name) == value for name, value in values.items()]


def change(run: Run, task_id: str = "gate", map_index: int = -1, **values: Any) -> None:
    """Change a task instance."""
    with create_session() as session:
        session.execute(update(TaskInstance).where(*where(run, task_id, map_index)).values(**values))


def trigger_row(trigger: BalanceTrigger | dict[str, Any], classpath: str = "") -> int:
    """Insert a trigger, and return its id."""
    name, arguments = trigger.serialize() if isinstance(trigger, BalanceTrigger) else (BALANCE_TRIGGER, trigger)
    with create_session() as session:
        row = Trigger(classpath=classpath or name, kwargs=arguments)
        session.add(row)
        session.flush()
        return int(row.id)


BALANCE_TRIGGER = BalanceTrigger("", None, 1, None).serialize()[0]


def defer(run: Run, trigger: BalanceTrigger | dict[str, Any], task_id: str = "gate", **values: Any) -> None:
    """Let a task instance wait in the triggerer."""
    change(run, task_id, state="deferred", trigger_id=trigger_row(trigger), **values)


def reschedule(run: Run, pokes: list[datetime], task_id: str = "gate") -> None:
    """Let a task instance be rescheduled, after pokes at these times."""
    with create_session() as session:
        ti_id = session.scalar(select(TaskInstance.id).where(*where(run, task_id, -1)))
        for at in pokes:
            session.add(TaskReschedule(ti_id, at, at, at + MINUTE))
    change(run, task_id, state="up_for_reschedule", start_date=pokes[-1])


def copies(run: Run, number: int, task_id: str = "gate", changes: Any = lambda index: {}) -> None:
    """Replace a task instance by instances of a mapped task, with changes by their index."""
    tables = (TaskInstance, RenderedTaskInstanceFields, XComModel)
    with create_session() as session:
        for table in tables:
            rows = session.execute(select(table.__table__).where(*where(run, task_id, -1, table))).mappings().all()
            made = [dict(row) | {"map_index": index} for row in rows for index in range(number)]
            if table is TaskInstance:
                made = [row | new_id(row) | {**changes(row["map_index"])} for row in made]
            if made:
                session.execute(insert(table.__table__), made)
        session.execute(delete(TaskInstance).where(*where(run, task_id, -1)))


def push(run: Run, key: str, value: Any, task_id: str = "gate", map_index: int = -1, at: datetime = NOW) -> None:
    """Store an XCom, as the database holds it. It replaces an earlier one."""
    with create_session() as session:
        ids = where(run, task_id, map_index, XComModel)
        session.execute(delete(XComModel).where(*ids, XComModel.key == key))
        row = {"dag_id": run.dag_run.dag_id, "run_id": run.dag_run.run_id, "dag_run_id": run.dag_run.id}
        row |= {"task_id": task_id, "map_index": map_index, "key": key, "value": value, "timestamp": at}
        session.execute(insert(XComModel.__table__), [row])


def forget_fields(run: Run) -> None:
    """Delete the rendered template fields of a run, as Airflow does with those of old runs."""
    fields = RenderedTaskInstanceFields
    with create_session() as session:
        session.execute(delete(fields).where(fields.dag_id == run.dag_run.dag_id, fields.run_id == run.dag_run.run_id))


def date_xcoms(run: Run, at: datetime) -> None:
    """Let all XComs of a run be of one time."""
    with create_session() as session:
        session.execute(update(XComModel).where(XComModel.dag_id == run.dag_run.dag_id).values(timestamp=at))


@contextmanager
def counted_queries() -> Iterator[list[str]]:
    """Collect the statements that the database gets."""
    from airflow import settings

    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)
