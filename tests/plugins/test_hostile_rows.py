"""What the authors of DAGs can put into Airflow's database must not fail the page for everyone, or hold it up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.utils.session import create_session
from page_rows import NOW, change, date_xcoms, defer, push, where
from sqlalchemy import text, update
from support import Run

from airflow_provider_aimlbilling.money.run_cost import RunCost
from airflow_provider_aimlbilling.plugins.page.waiting_gates import XComModel

ARGUMENTS = {"threshold": "3 USD", "aimlbilling_conn_id": "a", "budget": None, "poke_interval": 60}
REPORT = RunCost("", "", NOW).to_dict(end=NOW, may_be_incomplete=True)
VERDICT = {
    "clears": False,
    "reason": "",
    "threshold_credits": 1,
    "available_credits": 0,
    "shortfall_credits": 1,
    "short_of": "balance",
    "balance": None,
}
LONG = "9" * 30 + "." + "9" * 30 + " USD"
HUGE = "9007199254740992"

Rows = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def rows(client_of: Any, run: Run) -> Rows:
    """Return a function that gets the rows of a run from a route."""

    def get(name: str) -> list[dict[str, Any]]:
        response = client_of("admin").get(f"/aimlbilling/api/{name}")
        assert response.status_code == 200, response.text
        found = response.json()["tasks" if name == "held" else name]
        return [row for row in found if row["run_id"] == run.dag_run.run_id]

    return get


@pytest.mark.parametrize(
    "arguments",
    [
        {"aimlbilling_conn_id": "a\ud800"},
        {"threshold": LONG},
        {"threshold": 10**4000},
        {"budget": f"{LONG} per day"},
        {"budget": 10**4000},
        {"poke_interval": 10**400},
        {"last_seen": "\ud800"},
        {"other": "x" * 200_000},
    ],
)
def test_a_gate_is_shown_whatever_its_trigger_was_given(run: Run, rows: Rows, arguments: dict[str, Any]) -> None:
    defer(run, ARGUMENTS | arguments, trigger_timeout=NOW)
    (gate,) = rows("gates")
    assert gate["connection_id"] in ("a", None)
    if "other" in arguments:
        assert gate["asks"] == "not known", "arguments that long are not loaded"


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 2000 + "]" * 2000])
def test_a_verdict_that_python_cannot_read_fails_no_other(run: Run, rows: Rows, value: str) -> None:
    if _is_not_sqlite():
        pytest.skip("written as SQLite stores JSON")
    stored = f'{json.dumps(VERDICT)[:-1]}, "more": {value}}}'
    push(run, "verdict", VERDICT)
    change(run, state="skipped")
    assert len(rows("held")) == 1
    with create_session() as session:
        is_verdict = (*where(run, "gate", -1, XComModel), XComModel.key == "verdict")
        session.execute(
            update(XComModel.__table__).where(*is_verdict).values(value=text(":stored")), {"stored": stored}
        )
    held = rows("held")
    assert held == [] or value.startswith("["), "how deep Python reads depends on its version and on what it is doing"
    change(run, state="running", operator="BalanceSensor")
    assert len(rows("gates")) == 1


@pytest.mark.parametrize("fields", [{"dag_id": "a\ud800"}, {"run_id": "a\ud800"}, {"requests": 2**60}])
def test_a_report_with_what_no_response_can_contain_is_skipped(run: Run, rows: Rows, fields: dict[str, Any]) -> None:
    if "\\ud" in json.dumps(fields) and _is_not_sqlite():
        pytest.skip("only SQLite stores half a surrogate pair")
    _report(run, fields)
    assert rows("runs") == []


@pytest.mark.parametrize(
    ("cost", "estimate"), [("1e-140", HUGE), (HUGE, "1e-140"), (HUGE, "1e-44"), ("5", {"estimated": "x" * 30_000})]
)
def test_a_cost_that_cannot_be_compared_is_shown_without_a_comparison(
    run: Run, rows: Rows, cost: str, estimate: object
) -> None:
    fields = estimate if isinstance(estimate, dict) else {"estimated_credits": estimate}
    _report(run, {"cost_credits": cost, "estimate": fields})
    (row,) = rows("runs")
    assert (row["difference"], row["ratio"]) == (None, None)


def _report(run: Run, fields: dict[str, Any]) -> None:
    change(run, operator="GetRunCostOperator")
    date_xcoms(run, NOW)
    ids = {"dag_id": run.dag_run.dag_id, "run_id": run.dag_run.run_id, "cost_credits": "5000000"}
    push(run, "return_value", REPORT | ids | fields)


def _is_not_sqlite() -> bool:
    with create_session() as session:
        return bool(session.get_bind().dialect.name != "sqlite")
