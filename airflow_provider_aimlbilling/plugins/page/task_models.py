"""The JSON of the routes for gates, held tasks and runs. An unknown figure is ``null``."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel

from airflow_provider_aimlbilling.plugins.page.money_model import Money


class GateRow(BaseModel):
    """
    One gate that waits.

    :param since: when this wait began.
    :param asks: what must be available, in words.
    :param limits: what counts besides the balance, in words.
    :param missing: what is missing now.
    :param short_of: what is too low, as in a verdict.
    :param reason: the last reading, in words.
    :param deadline: when the gate gives up.
    :param path: of the task instance's page, relative to Airflow's root.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int | None
    state: Literal["deferred", "up_for_reschedule", "running"]
    since: datetime | None
    connection_id: str | None
    asks: str
    limits: list[str]
    missing: Money | None
    short_of: str | None
    reason: str | None
    deadline: datetime | None
    path: str


class TopUpSummary(BaseModel):
    """
    What the gates of one connection wait for.

    :param waiting: how many wait.
    :param top_up: the top-up that releases those which wait for the balance only.
    :param text: all of that, in words.
    """

    connection_id: str
    waiting: int
    top_up: Money | None
    text: str


class BudgetRow(BaseModel):
    """
    What is left of a budget that a waiting gate keeps to.

    :param text: the budget in words.
    :param read_at: when the gate read it.
    """

    connection_id: str
    text: str
    left: Money
    spent: Money
    read_at: datetime


class GatesResponse(BaseModel):
    """
    The gates that wait.

    :param left_out: how many wait besides these.
    :param elsewhere: how many of these wait on a connection that is not known, or that the user may not see. No summary
        counts them.
    """

    gates: list[GateRow]
    left_out: int
    elsewhere: int
    summaries: list[TopUpSummary]
    budgets: list[BudgetRow]


class HeldRow(BaseModel):
    """
    The instances of a task that were held in one run.

    :param held: how many were held.
    :param of: how many instances the task has in the run.
    """

    dag_id: str
    run_id: str
    task_id: str
    path: str
    outcome: Literal["skipped", "branched", "failed"]
    held: int
    of: int
    reason: str
    last_at: datetime


class HeldResponse(BaseModel):
    """
    The tasks that were held since a time.

    :param left_out: how many there are besides these.
    """

    since: datetime
    tasks: list[HeldRow]
    left_out: int


class RunRow(BaseModel):
    """
    What a run cost.

    :param is_lower_bound: whether requests without a cost are left out.
    :param may_be_incomplete: whether charges may still be missing.
    :param difference: cost minus estimate, in words.
    :param ratio: cost divided by estimate, as decimal text.
    :param read_at: when it was reported.
    """

    dag_id: str
    run_id: str
    path: str
    cost: Money | None
    is_lower_bound: bool
    may_be_incomplete: bool
    estimate: Money | None
    difference: str | None
    ratio: str | None
    requests: int
    read_at: datetime


class RunsResponse(BaseModel):
    """
    The most expensive runs of the last days.

    :param left_out: how many there are besides these.
    """

    days: int
    runs: list[RunRow]
    left_out: int


def page_path(dag_id: str, run_id: str, task_id: str | None = None, map_index: int | None = None) -> str:
    """
    Return the path of a run or a task instance in Airflow's UI, percent-encoded and relative to Airflow's root.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param task_id: the task; ``None`` for the run.
    :param map_index: the index of a mapped task; ``None`` if it is not mapped.
    """
    path = f"dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
    if task_id is not None:
        path += f"/tasks/{quote(task_id, safe='')}"
    return path if map_index is None else f"{path}/mapped/{map_index}"
