"""
The routes for gates, held tasks and runs.

They read Airflow's database and ask the API nothing. They are plain functions, so that FastAPI runs them in threads.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import partial

from airflow.utils.session import create_session
from fastapi import APIRouter, HTTPException

from airflow_provider_aimlbilling.exceptions import AimlBillingError
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.run_cost import compare
from airflow_provider_aimlbilling.plugins.page.access import CurrentUser, readable_connection_ids, readable_dag_ids
from airflow_provider_aimlbilling.plugins.page.gates_response import LatestBalance, gates_response
from airflow_provider_aimlbilling.plugins.page.held_tasks import held_tasks
from airflow_provider_aimlbilling.plugins.page.money_model import money
from airflow_provider_aimlbilling.plugins.page.run_costs import ReportedCost, run_costs
from airflow_provider_aimlbilling.plugins.page.task_models import (
    GatesResponse,
    HeldResponse,
    HeldRow,
    RunRow,
    RunsResponse,
    page_path,
)
from airflow_provider_aimlbilling.plugins.page.waiting_gates import waiting_gates

DAYS = (7, 28, 92)
HELD_WITHIN = timedelta(hours=24)


def new_router(latest_balance: LatestBalance) -> APIRouter:
    """
    Return the routes.

    :param latest_balance: returns the last balance that was read of a connection, without asking the API.
    """
    router = APIRouter()

    @router.get("/gates")
    def gates(user: CurrentUser) -> GatesResponse:
        with create_session(scoped=False) as session:
            found, left_out = waiting_gates(session, partial(readable_dag_ids, user))
        return gates_response(found, left_out, partial(readable_connection_ids, user), latest_balance)

    @router.get("/held")
    def held(user: CurrentUser) -> HeldResponse:
        since = datetime.now(timezone.utc) - HELD_WITHIN
        with create_session(scoped=False) as session:
            found, left_out = held_tasks(session, partial(readable_dag_ids, user), since)
        rows = [HeldRow(**vars(task), path=page_path(task.dag_id, task.run_id, task.task_id)) for task in found]
        return HeldResponse(since=since, tasks=rows, left_out=left_out)

    @router.get("/runs")
    def runs(user: CurrentUser, days: int = 28) -> RunsResponse:
        if days not in DAYS:
            raise HTTPException(422, "The days must be 7, 28 or 92.")
        since = datetime.now(timezone.utc) - timedelta(days=days)
        with create_session(scoped=False) as session:
            found, left_out = run_costs(session, partial(readable_dag_ids, user), since)
        return RunsResponse(days=days, runs=[_run(report) for report in found], left_out=left_out)

    return router


def _run(report: ReportedCost) -> RunRow:
    try:
        compared = compare(report.estimate, report.cost) if report.estimate else None
    except (AimlBillingError, ArithmeticError):  # one is billions of times the other
        compared = None
    return RunRow(
        dag_id=report.dag_id,
        run_id=report.run_id,
        path=page_path(report.dag_id, report.run_id),
        cost=money(report.cost),
        is_lower_bound=report.is_lower_bound,
        may_be_incomplete=report.may_be_incomplete,
        estimate=money(report.estimate),
        difference=_signed(compared["difference_credits"]) if compared else None,
        ratio=_shortest(compared["ratio"]) if compared else None,
        requests=report.requests,
        read_at=report.read_at,
    )


def _signed(credits: str | None) -> str | None:
    """Return a difference for people, with its sign."""
    if credits is None:
        return None
    difference = Decimal(credits)
    sign = "+" if difference > 0 else "-" if difference < 0 else ""
    return f"{sign}{Amount(difference.copy_abs()).usd_text}"


def _shortest(ratio: str | None) -> str | None:
    """Return a decimal number without trailing zeros."""
    return ratio.rstrip("0").rstrip(".") if ratio and "." in ratio else ratio
