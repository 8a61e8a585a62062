"""The JSON of gates, held tasks and runs, and what a user who may not see a connection does not learn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from fastapi.testclient import TestClient
from page_rows import MINUTE, NOW, change, copies, date_xcoms, defer, forget_fields, only, push, trigger_row
from support import Run

from airflow_provider_aimlbilling.money.account_state import Funds
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance, KeyLimit
from airflow_provider_aimlbilling.money.budget import Budget, BudgetUse
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.money.top_up_needed import KnownBalance
from airflow_provider_aimlbilling.plugins.page import task_routes
from airflow_provider_aimlbilling.plugins.page.latest_balance import latest_balance
from airflow_provider_aimlbilling.plugins.page.reading_cache import Reading, ReadingCache
from airflow_provider_aimlbilling.plugins.page.readings import Account, read_account
from airflow_provider_aimlbilling.plugins.page.task_models import page_path
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

USER = object()
Names = Callable[[Iterable[str]], set[str]]
Get = Callable[..., dict[str, Any]]


@pytest.fixture
def get(run: Run, monkeypatch: pytest.MonkeyPatch) -> Get:
    """Return a function that gets a route's JSON, for a user who may read the test's DAG and some connections."""

    def fetch(
        path: str, connections: tuple[str, ...] = (), balances: dict[str, KnownBalance | None] | None = None
    ) -> dict[str, Any]:
        def rights(names: Names) -> Any:
            def readable(user: object, asked: Iterable[str]) -> set[str]:
                assert user is USER
                return names(asked)

            return readable

        def latest_balance(connection_id: str) -> KnownBalance | None:
            assert connection_id in connections, "a balance that the user may not see was read"
            return (balances or {}).get(connection_id)

        monkeypatch.setattr(task_routes, "readable_dag_ids", rights(only(run.dag_run.dag_id)))
        monkeypatch.setattr(task_routes, "readable_connection_ids", rights(only(*connections)))
        app = FastAPI()
        app.dependency_overrides[get_user] = lambda: USER
        app.include_router(task_routes.new_router(latest_balance), prefix="/api")
        response = TestClient(app).get(f"/api/{path}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    return fetch


def money(text: str) -> dict[str, str]:
    amount = Amount.parse(text)
    return {"usd": f"{amount.usd:.2f}", "credits": str(amount.credits), "text": amount.usd_text}


def wait(run: Run, *triggers: BalanceTrigger) -> None:
    numbers = [trigger_row(trigger) for trigger in triggers]
    copies(
        run,
        len(numbers),
        changes=lambda index: (
            {"state": "deferred", "trigger_id": numbers[index]}
            | {"start_date": NOW + index * MINUTE, "trigger_timeout": NOW + timedelta(days=1)}
        ),
    )


def test_a_gate_tells_what_is_missing_now(run: Run, get: Get) -> None:
    defer(run, BalanceTrigger("a", "6000000 credits", 60, 1.0), start_date=NOW, trigger_timeout=NOW + timedelta(days=1))
    answer = get("gates", ("a",), {"a": KnownBalance(Balance(5_000_000))})
    iso = (NOW + timedelta(days=1) - 7 * MINUTE).isoformat()
    assert answer == {
        "gates": [
            {
                "dag_id": run.dag_run.dag_id,
                "run_id": run.dag_run.run_id,
                "task_id": "gate",
                "map_index": None,
                "state": "deferred",
                "since": NOW.isoformat().replace("+00:00", "Z"),
                "connection_id": "a",
                "asks": "3.00 USD",
                "limits": [],
                "missing": money("0.50 USD"),
                "short_of": "balance",
                "reason": "0.50 USD missing: balance 2.50 USD, needs 3.00 USD",
                "deadline": iso.replace("+00:00", "Z"),
                "path": page_path(run.dag_run.dag_id, run.dag_run.run_id, "gate"),
            }
        ],
        "left_out": 0,
        "elsewhere": 0,
        "summaries": [
            {
                "connection_id": "a",
                "waiting": 1,
                "top_up": money("0.50 USD"),
                "text": "1 gate is waiting; a top-up of 0.50 USD releases it.",
            }
        ],
        "budgets": [],
    }


def test_nobody_learns_figures_of_a_connection_that_they_may_not_see(run: Run, get: Get) -> None:
    """Not from the last reading either, which the worker left in the trigger and in the verdict."""
    hidden = BalanceTrigger("hidden", "9 USD", 60, 1.0, budget="200 USD per month", last_seen="balance 77.77 USD")
    wait(run, BalanceTrigger("seen", "9 USD", 60, 1.0), hidden)
    now = datetime.now(timezone.utc)
    use = BudgetUse(Budget.parse("200 USD per month"), now - timedelta(days=1), now + timedelta(days=1), Amount(5))
    push(run, "verdict", Gate(Amount(9)).decide(Balance(155_540_000, budget=use)).to_dict(), map_index=1)
    answer = get("gates", ("seen",), {"seen": KnownBalance(Balance(0)), "hidden": KnownBalance(Balance(155_540_000))})
    assert [gate["connection_id"] for gate in answer["gates"]] == ["seen", "hidden"]
    assert [gate["missing"] for gate in answer["gates"]] == [money("9 USD"), None]
    assert [summary["connection_id"] for summary in answer["summaries"]] == ["seen"]
    assert answer["elsewhere"] == 1
    assert answer["budgets"] == []
    assert (answer["gates"][1]["reason"], answer["gates"][1]["short_of"]) == (None, None)
    assert "77.77" not in str(answer)


def test_without_a_known_balance_the_last_reading_is_shown(run: Run, get: Get) -> None:
    wait(run, BalanceTrigger("a", "9 USD", 60, 1.0, last_seen="8 USD missing"), BalanceTrigger("a", "1 USD", 60, 1.0))
    push(run, "verdict", None, map_index=0)
    push(run, "verdict", Gate(Amount.parse("1 USD")).decide(Balance(5)).to_dict(), map_index=1)
    answer = get("gates", ("a",))
    assert [gate["missing"] for gate in answer["gates"]] == [None, None]
    assert answer["gates"][0]["reason"] == "8 USD missing"
    assert answer["gates"][1]["reason"].startswith("0.9999975 USD missing")
    assert [gate["short_of"] for gate in answer["gates"]] == [None, "balance"]
    (summary,) = answer["summaries"]
    assert summary["text"] == "2 gates are waiting. The balance is not known, so the top-up is not known either."


def test_the_balance_comes_from_the_last_reading_of_the_account(sandbox: Sandbox) -> None:
    """It does not ask the API, and an old balance is not one."""
    now = [NOW]
    cache = ReadingCache(now=lambda: now[0])
    assert latest_balance(cache, "aimlbilling_default") is None
    assert not sandbox.requests
    sandbox.set_key_limit("9 USD")
    asyncio.run(cache.get("aimlbilling_default", "account", read_account))
    asked = len(sandbox.requests)
    known = latest_balance(cache, "aimlbilling_default")
    assert known is not None
    assert (known.balance.amount, known.key_limit_known, known.overdrawn) == (Amount.parse("2.50 USD"), True, 0)
    assert known.balance.low_balance is False
    assert known.balance.key_limit is not None
    assert known.balance.key_limit.remaining == Amount.parse("9 USD")
    assert latest_balance(cache, "another") is None
    now[0] += timedelta(minutes=16)
    assert latest_balance(cache, "aimlbilling_default") is None
    assert len(sandbox.requests) == asked


@pytest.mark.parametrize(
    ("held", "expected"),
    [(None, None), (-2_500_000, KnownBalance(Balance(0, True, 10_000), overdrawn=2_500_000))],
)
def test_an_overdrawn_account(held: int | None, expected: KnownBalance | None) -> None:
    cache = ReadingCache(now=lambda: NOW)
    account = Account(Funds(held, 10_000), None, None, None, None)
    cache.latest = lambda *_: Reading(account, NOW)  # type: ignore[method-assign]
    assert latest_balance(cache, "a") == expected


def test_limits_and_budgets(run: Run, get: Get) -> None:
    month = "200 USD per month"
    wait(
        run,
        BalanceTrigger("a", "2 USD", 60, 1.0, respect_key_limit=True),
        BalanceTrigger("a", "2 USD", 60, 1.0, budget=month),
        BalanceTrigger("a", "2 USD", 60, 1.0, budget="5 USD per day"),
    )
    now = datetime.now(timezone.utc)
    use = BudgetUse(Budget.parse(month), now - timedelta(days=1), now + timedelta(days=1), Amount.parse("199 USD"))
    over = BudgetUse(Budget.parse("5 USD per day"), now - timedelta(days=2), now - timedelta(days=1), Amount(1))
    for index, budget in ((1, use), (2, over)):
        verdict = Gate(Amount.parse("2 USD")).decide(Balance(5_000_000, budget=budget))
        push(run, "verdict", verdict.to_dict(), map_index=index)
    limit = KeyLimit("month", 10_000_000, 9_000_000)
    answer = get("gates", ("a",), {"a": KnownBalance(Balance(5_000_000, key_limit=limit))})
    assert [gate["limits"] for gate in answer["gates"]] == [
        ["the key's limit"],
        ["200.00 USD per month"],
        ["5.00 USD per day"],
    ]
    assert [gate["short_of"] for gate in answer["gates"]] == ["key_limit", "budget", None]
    assert [gate["missing"] for gate in answer["gates"]] == [money("1.50 USD"), money("1 USD"), None]
    (budget,) = answer["budgets"]  # the other period is over, and what is left of the next one is not known
    assert (budget["text"], budget["left"], budget["spent"]) == (
        "200.00 USD per month",
        money("1 USD"),
        money("199 USD"),
    )
    (summary,) = answer["summaries"]
    assert summary["top_up"] is None
    assert summary["text"] == (
        "3 gates are waiting. 1 waits for a budget, which a top-up does not raise. 1 waits for the key's limit, "
        "which a top-up does not raise. It is not known what 1 of them needs."
    )


def test_a_summary_says_if_some_gates_are_left_out(run: Run, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    wait(run, *[BalanceTrigger("a", "9 USD", 60, 1.0)] * 3)
    monkeypatch.setattr(task_routes.waiting_gates, "__defaults__", (2,))
    answer = get("gates", ("a",), {"a": KnownBalance(Balance(0))})
    assert answer["left_out"] == 1
    assert answer["summaries"][0]["text"] == (
        "2 gates are waiting; a top-up of 9.00 USD releases all of them. Only the 2 gates that have waited longest are "
        "counted."
    )


def test_nothing_waits(get: Get) -> None:
    assert get("gates", ("a",)) == {"gates": [], "left_out": 0, "elsewhere": 0, "summaries": [], "budgets": []}


def test_gates_that_no_summary_counts_are_counted(run: Run, get: Get) -> None:
    """For instance those that Airflow has no rendered template fields of."""
    wait(run, BalanceTrigger("seen", "9 USD", 60, 1.0), BalanceTrigger("hidden", "9 USD", 60, 1.0))
    change(run, map_index=0, state="running", trigger_id=None)
    forget_fields(run)
    answer = get("gates", ("seen", "hidden"))
    assert sorted(str(gate["connection_id"]) for gate in answer["gates"]) == ["None", "hidden"]
    assert (answer["elsewhere"], [each["waiting"] for each in answer["summaries"]]) == (1, [1])
    answer = get("gates")
    assert (answer["elsewhere"], answer["summaries"]) == (2, [])


def test_held_tasks(run: Run, get: Get) -> None:
    verdict = Gate(Amount.parse("3 USD")).decide(Balance(5_000_000)).to_dict()
    now = datetime.now(timezone.utc).replace(microsecond=0)
    push(run, "verdict", verdict, at=now)
    change(run, state="failed")
    answer = get("held")
    assert datetime.now(timezone.utc) - datetime.fromisoformat(answer["since"]) < timedelta(hours=25)
    assert answer["tasks"] == [
        {
            "dag_id": run.dag_run.dag_id,
            "run_id": run.dag_run.run_id,
            "task_id": "gate",
            "path": page_path(run.dag_run.dag_id, run.dag_run.run_id, "gate"),
            "outcome": "failed",
            "held": 1,
            "of": 1,
            "reason": "0.50 USD missing: balance 2.50 USD, needs 3.00 USD",
            "last_at": now.isoformat().replace("+00:00", "Z"),
        }
    ]


@pytest.mark.parametrize(
    ("cost", "estimate", "difference", "ratio"),
    [
        ("4200000", "4000000", "+0.10 USD", "1.05"),
        ("4000000", "4200000", "-0.10 USD", "0.9524"),
        ("4000000", "4000000", "0.00 USD", "1"),
        ("0", "4000000", "-2.00 USD", "0"),
        ("4000000", "0", "+2.00 USD", None),
        (None, "4000000", None, None),
        ("4000000", None, None, None),
    ],
)
def test_runs(
    run: Run, get: Get, cost: str | None, estimate: str | None, difference: str | None, ratio: str | None
) -> None:
    report = {"dag_id": run.dag_run.dag_id, "run_id": run.dag_run.run_id, "cost_credits": cost, "requests": 7}
    report |= {"is_lower_bound": False, "may_be_incomplete": True}
    report["estimate"] = None if estimate is None else {"estimated_credits": estimate}
    change(run, operator="GetRunCostOperator")
    push(run, "return_value", report)
    date_xcoms(run, NOW)
    answer = get("runs?days=7")
    assert (answer["days"], answer["left_out"]) == (7, 0)
    (row,) = answer["runs"]
    assert row["path"] == page_path(run.dag_run.dag_id, run.dag_run.run_id)
    assert row["cost"] == (None if cost is None else money(f"{cost} credits"))
    assert row["estimate"] == (None if estimate is None else money(f"{estimate} credits"))
    assert (row["difference"], row["ratio"], row["requests"]) == (difference, ratio, 7)
    assert (row["is_lower_bound"], row["may_be_incomplete"]) == (False, True)


@pytest.mark.parametrize("days", ["0", "-7", "29", "x", "9" * 400, ""])
def test_other_numbers_of_days_are_refused(days: str) -> None:
    app = FastAPI()
    app.dependency_overrides[get_user] = lambda: USER
    app.include_router(task_routes.new_router(lambda _: None))
    response = TestClient(app).get(f"/runs?days={days}")
    assert response.status_code == 422
    assert response.json()["detail"]


def test_a_path_is_percent_encoded() -> None:
    assert page_path("a/b?", "manual__2026+00:00", "g.t#", 3) == (
        "dags/a%2Fb%3F/runs/manual__2026%2B00%3A00/tasks/g.t%23/mapped/3"
    )


ROUTES = ("gates", "held", "runs")


def fill(run: Run) -> None:
    """Let a run show in all three blocks: a gate that waits, one that was held, and a report."""
    copies(run, 3)
    trigger = trigger_row(BalanceTrigger("aimlbilling_default", "3 USD", 60, 1.0))
    change(run, map_index=0, state="deferred", trigger_id=trigger, start_date=NOW, trigger_timeout=NOW)
    now = datetime.now(timezone.utc)
    push(run, "verdict", Gate(Amount.parse("3 USD")).decide(Balance(5_000_000)).to_dict(), map_index=1, at=now)
    change(run, map_index=1, state="skipped")
    report = {"dag_id": run.dag_run.dag_id, "run_id": run.dag_run.run_id, "cost_credits": "5", "requests": 7}
    report |= {"is_lower_bound": False, "may_be_incomplete": True, "estimate": None}
    push(run, "return_value", report, map_index=2, at=now)
    change(run, map_index=2, operator="GetRunCostOperator")


def shown(client: Any, run: Run) -> list[bool]:
    """Return which of the blocks show the run, in Airflow's own API server."""
    answers = [client.get(f"/aimlbilling/api/{route}") for route in ROUTES]
    assert [answer.status_code for answer in answers] == [200] * 3, [answer.text for answer in answers]
    return [run.dag_run.run_id in answer.text for answer in answers]


def test_a_viewer_of_dags_sees_gates_and_the_balance_only_with_the_connection(
    run: Run, client_of: Any, sandbox: Sandbox
) -> None:
    fill(run)
    admin, viewer = client_of("admin"), client_of("viewer")
    assert admin.get("/aimlbilling/api/connections/aimlbilling_default/account").status_code == 200
    assert shown(admin, run) == shown(viewer, run) == [True] * 3
    asked = len(sandbox.requests)
    (seen,), (hidden,) = (client.get("/aimlbilling/api/gates").json()["gates"] for client in (admin, viewer))
    assert (seen["missing"], hidden["missing"]) == (money("0.50 USD"), None)
    assert admin.get("/aimlbilling/api/gates").json()["summaries"][0]["top_up"] == money("0.50 USD")
    assert viewer.get("/aimlbilling/api/gates").json()["summaries"] == []
    assert len(sandbox.requests) == asked, "these routes must not ask the API"


@pytest.mark.parametrize("entity", ["TASK_INSTANCE", "XCOM"])
def test_a_dag_that_the_auth_manager_hides_does_not_show(
    run: Run, client_of: Any, monkeypatch: pytest.MonkeyPatch, entity: str
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    fill(run)
    client, manager = client_of("admin"), get_auth_manager()
    allowed = manager.is_authorized_dag
    assert shown(client, run) == [True] * 3

    def is_authorized_dag(**asked: Any) -> bool:
        hides = asked["access_entity"] is not None and asked["access_entity"].name == entity
        return not (hides and asked["details"].id == run.dag_run.dag_id) and allowed(**asked)

    monkeypatch.setattr(manager, "is_authorized_dag", is_authorized_dag)
    assert shown(client, run) == [False] * 3
