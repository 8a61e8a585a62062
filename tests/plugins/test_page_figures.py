"""The figures of the browser's tests are what the server reports of such connections, gates, tasks and runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import page_figures as figures
import pytest
from page_rows import only
from pydantic import BaseModel

from airflow_provider_aimlbilling.money.account_state import Funds
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.plugins.page import task_routes
from airflow_provider_aimlbilling.plugins.page.account_figures import account_figures, spending_figures
from airflow_provider_aimlbilling.plugins.page.account_models import AccountFigures, Connections, SpendingFigures
from airflow_provider_aimlbilling.plugins.page.gate_facts import facts_of_fields
from airflow_provider_aimlbilling.plugins.page.gates_response import gates_response
from airflow_provider_aimlbilling.plugins.page.reading_cache import Reading
from airflow_provider_aimlbilling.plugins.page.readings import Account, Spending
from airflow_provider_aimlbilling.plugins.page.run_costs import ReportedCost
from airflow_provider_aimlbilling.plugins.page.stored_verdicts import StoredVerdict
from airflow_provider_aimlbilling.plugins.page.task_models import (
    GatesResponse,
    HeldResponse,
    RunsResponse,
    page_path,
)
from airflow_provider_aimlbilling.plugins.page.waiting_gates import WaitingGate

NAME = "aimlbilling_default"
MODELS: dict[str, type[BaseModel]] = {
    "connections": Connections,
    "account": AccountFigures,
    "spending": SpendingFigures,
    "gates": GatesResponse,
    "held": HeldResponse,
    "runs": RunsResponse,
}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def amount(found: dict[str, str] | None) -> Amount | None:
    return Amount(Decimal(found["credits"])) if found else None


def json_of(model: BaseModel) -> Any:
    return model.model_dump(mode="json")


@pytest.mark.parametrize("made", [figures.usual, figures.empty])
@pytest.mark.parametrize("block", MODELS)
def test_every_field_is_one_of_the_response(made: Any, block: str) -> None:
    """With no field too many, no default, and each value as the server writes it."""
    answer = made()[block]
    if callable(answer):
        answer = answer(NAME, {"days": "28", "tz": "UTC"})
    assert json_of(MODELS[block].model_validate(answer)) == answer
    assert made().keys() == MODELS.keys()


@pytest.mark.parametrize("name", [NAME, "aimlbilling_research"])
def test_accounts(name: str) -> None:
    answer = figures.account(name, {})
    funds = Funds(figures.held_by(name).credits, figures.MARK.credits, figures.KEY_LIMIT)
    top_up = str(figures.top_up(name)).removeprefix("auto top-up is ")
    read_at = moment(answer["read_at"])
    reading = Reading(Account(funds, None, top_up, figures.runway(name), None), read_at)
    assert json_of(account_figures(name, reading, read_at)) == answer


@pytest.mark.parametrize("days", [7, 28, 92])
def test_spending(days: int) -> None:
    answer = figures.spending(NAME, {"days": str(days), "tz": "UTC"})
    spent = {(date.fromisoformat(row["day"]), row["model"]): amount(row["cost"]) for row in answer["rows"]}
    assert None not in spent.values()
    reading: Reading[Spending] = Reading(
        Spending(date.fromisoformat(answer["last_day"]), spent),  # type: ignore[arg-type]
        moment(answer["read_at"]),
    )
    assert json_of(spending_figures(NAME, days, "UTC", reading)) == answer


@pytest.mark.parametrize("count", [2, 4, 25])
def test_gates(count: int) -> None:
    answer = figures.gates(count)
    use = figures.use_of("200 USD per month", "61.37")

    def waiting(row: dict[str, Any]) -> WaitingGate:
        fields = {"aimlbilling_conn_id": row["connection_id"]}
        fields["threshold"] = None if row["asks"] == figures.LOW_MARK else row["asks"]
        keeps_to = str(use.budget) if str(use.budget) in row["limits"] else None
        facts = facts_of_fields(fields | {"budget": keeps_to})
        if row["state"] == "deferred":
            facts = replace(facts, respects_key_limit="the key's limit" in row["limits"])
        return WaitingGate(
            *(row[name] for name in ("dag_id", "run_id", "task_id", "map_index", "state")),
            since=moment(row["since"]),
            deadline=moment(row["deadline"]) if row["deadline"] else None,
            facts=facts,
            verdict=StoredVerdict(False, "", "balance", True, use) if keeps_to else None,
            verdict_at=moment(answer["budgets"][0]["read_at"]) if keeps_to else None,
        )

    rows = [waiting(row) for row in answer["gates"]]
    assert json_of(gates_response(rows, 0, only(NAME), lambda _: figures.known_balance())) == answer
    assert [row["since"] for row in answer["gates"]] == sorted(row["since"] for row in answer["gates"])
    assert not any(row["deadline"] for row in answer["gates"] if row["state"] != "deferred")


def test_held_tasks() -> None:
    answer = figures.held()
    for row in answer["tasks"]:
        assert row["path"] == page_path(row["dag_id"], row["run_id"], row["task_id"])
        assert 0 < row["held"] <= row["of"]
    times = [moment(row["last_at"]) for row in answer["tasks"]]
    assert times == sorted(times, reverse=True)
    assert times[-1] - moment(answer["since"]) < timedelta(hours=24)


def test_runs() -> None:
    answer = figures.runs(28)
    for row in answer["runs"]:
        given = {name: row[name] for name in ("dag_id", "run_id", "is_lower_bound", "may_be_incomplete", "requests")}
        amounts = {name: amount(row[name]) for name in ("cost", "estimate")}
        report = ReportedCost(**given, **amounts, read_at=moment(row["read_at"]))
        assert json_of(task_routes._run(report)) == row
