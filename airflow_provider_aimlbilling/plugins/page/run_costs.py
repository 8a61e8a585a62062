"""What runs cost, from the reports of ``GetRunCostOperator`` in Airflow's database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import and_, case, func, select, true
from sqlalchemy.orm import aliased

from airflow_provider_aimlbilling.exceptions import AimlBillingError
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.plugins.page.stored_verdicts import as_text, if_small, parsed, same_instance

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MAX_RUNS = 100

_OPERATOR = "GetRunCostOperator"
# Airflow pushes the link of each operator as XCom. Its key leads to our tasks by an index; "return_value" would lead to
# the XComs of all tasks.
_LINK_KEY = "_link_BillingPageLink"
_MAX_REPORTS = 5_000
_MAX_CHARACTERS = 2_000_000  # of a report as JSON; one with the most lines has fewer
_MAX_FIELD = 20_000  # characters of a field as JSON
_MAX_REQUESTS = 2**53
_MAX_DIGITS = 60
_FIELDS = ("dag_id", "run_id", "cost_credits", "requests", "is_lower_bound", "may_be_incomplete", "estimate")


@dataclass(frozen=True)
class ReportedCost:
    """
    The last report on a DAG run.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param cost: what it cost; ``None`` if that is unknown.
    :param is_lower_bound: whether that is only a lower bound.
    :param may_be_incomplete: whether charges may still be missing.
    :param estimate: what it was estimated to cost; ``None`` if there is no estimate.
    :param requests: how many requests it sent.
    :param read_at: when the report was made.
    """

    dag_id: str
    run_id: str
    cost: Amount | None
    is_lower_bound: bool
    may_be_incomplete: bool
    estimate: Amount | None
    requests: int
    read_at: datetime


def run_costs(
    session: Session, readable: Callable[[Iterable[str]], set[str]], since: datetime, limit: int = MAX_RUNS
) -> tuple[list[ReportedCost], int]:
    """
    Return the most expensive runs, and how many there are beyond these. Runs of unknown cost come last.

    :param session: of Airflow's database.
    :param readable: returns those of some DAGs that the user may read. The run and the report must both be of one.
    :param since: only runs that were reported on since then. Of these, the last 5,000 reports count.
    :param limit: the most runs to return.
    """
    dag_ids = readable(session.scalars(_reporting(select(XComModel.dag_id).distinct(), XComModel, since)).all())
    if not dag_ids:
        return [], 0
    runs: dict[tuple[str, str], ReportedCost] = {}
    for row in session.execute(_reports(session, dag_ids, since)):  # newest first
        fields = {name: parsed(text) for name, text in zip(_FIELDS, row, strict=False)}
        if report := read_report(fields, row.timestamp):
            runs.setdefault((report.dag_id, report.run_id), report)
    dag_ids |= readable({dag_id for dag_id, _ in runs} - dag_ids)
    ordered = sorted((report for report in runs.values() if report.dag_id in dag_ids), key=_by_cost)
    return ordered[:limit], max(0, len(ordered) - limit)


def _reporting(query: Any, link: Any, since: datetime) -> Any:
    """Limit a query of the XComs with operators' links to those of tasks that report on runs."""
    ti = TaskInstance
    return query.join(ti, same_instance(ti, link)).where(
        link.key == _LINK_KEY, link.timestamp >= since, ti.operator == _OPERATOR
    )


def _reports(session: Session, dag_ids: set[str], since: datetime) -> Any:
    """Return a query of the newest reports. It reads a few fields of each, because a report can have 1,000 lines."""
    report, link = XComModel, aliased(XComModel)
    # SQLite fails at JSON with NaN, which Python writes. The other databases do not store it.
    # It also returns bytes that are no UTF-8 for the escape of half a surrogate pair, which the others do not store.
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    is_json: Any = func.json_valid(report.value) == 1 if is_sqlite else true()
    fields = [
        case((is_json, if_small(report.value[name], _MAX_FIELD, as_bytes=is_sqlite))).label(f"reported_{name}")
        for name in _FIELDS
    ]
    return (
        _reporting(select(*fields, report.timestamp).select_from(link), link, since)
        .join(report, and_(same_instance(report, link), report.key == "return_value"))
        .where(link.dag_id.in_(sorted(dag_ids)), func.length(as_text(report.value)) <= _MAX_CHARACTERS)
        .order_by(report.timestamp.desc())
        .limit(_MAX_REPORTS)
    )


def read_report(fields: Mapping[str, Any], read_at: datetime) -> ReportedCost | None:
    """
    Read fields of an XCom; return ``None`` if they are not those of a report.

    :param fields: the fields by name. Any DAG can push such an XCom, so nothing in it is believed.
    :param read_at: when it was pushed.
    """
    dag_id, run_id, requests = fields["dag_id"], fields["run_id"], fields["requests"]
    is_lower_bound, may_be_incomplete = fields["is_lower_bound"], fields["may_be_incomplete"]
    estimate = fields["estimate"]
    if not all(isinstance(name, str) and 0 < len(name) <= 250 and name.isprintable() for name in (dag_id, run_id)):
        return None
    if isinstance(requests, bool) or not isinstance(requests, int) or not 0 <= requests <= _MAX_REQUESTS:
        return None
    # SQLite returns numbers for flags.
    if not all(isinstance(flag, int) and flag in (0, 1) for flag in (is_lower_bound, may_be_incomplete)):
        return None
    try:
        cost = _amount(fields["cost_credits"])
        estimated = _amount(estimate.get("estimated_credits")) if isinstance(estimate, Mapping) else None
    except (AimlBillingError, InvalidOperation, TypeError):
        return None
    return ReportedCost(
        dag_id=dag_id,
        run_id=run_id,
        cost=cost,
        is_lower_bound=bool(is_lower_bound),
        may_be_incomplete=bool(may_be_incomplete),
        estimate=estimated,
        requests=requests,
        read_at=read_at,
    )


def _amount(text: object) -> Amount | None:
    if text is None:
        return None
    if not isinstance(text, str) or len(text) > _MAX_DIGITS:
        raise TypeError
    return Amount(Decimal(text))


def _by_cost(report: ReportedCost) -> tuple[bool, Decimal, float]:
    cost = Decimal(report.cost.credits) if report.cost else Decimal(0)
    return (report.cost is None, -cost, -report.read_at.timestamp())
