"""
Figures for the billing page, as its API reports them: tests/plugins/test_page_figures.py compares them with the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from airflow_provider_aimlbilling.money.account_state import Funds, account_state
from airflow_provider_aimlbilling.money.amount import Amount, format_usd
from airflow_provider_aimlbilling.money.balance import Balance, KeyLimit, TopUp
from airflow_provider_aimlbilling.money.budget import Budget, BudgetUse
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.money.runway import Runway, estimate_runway
from airflow_provider_aimlbilling.money.top_up_needed import KnownBalance, WaitingFor, top_up_needed

MODELS = ("openai/gpt-4o", "anthropic/claude-sonnet-4.5", "black-forest-labs/flux-pro", "openai/gpt-4o-mini")
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
TEMPLATE = "{{ var.value.reserve }}"  # a threshold that only the triggerer renders
LOW_MARK = "the account's own low-balance threshold"


def ago(**delta: float) -> str:
    """Return a moment of the past as ISO 8601."""
    return (datetime.now(timezone.utc) - timedelta(**delta)).isoformat().replace("+00:00", "Z")


def amount(usd: str) -> Amount:
    return Amount.from_usd(Decimal(usd))


def money(usd: str | Amount) -> dict[str, str]:
    of = usd if isinstance(usd, Amount) else amount(usd)
    return {"usd": format_usd(of.usd), "credits": str(of.credits), "text": of.usd_text}


def path(dag_id: str, run_id: str, task_id: str = "", map_index: int | None = None) -> str:
    found = f"dags/{dag_id}/runs/{quote(run_id, safe='')}" + (f"/tasks/{task_id}" if task_id else "")
    return found if map_index is None else f"{found}/mapped/{map_index}"


MARK = amount("15")
KEY_LIMIT = KeyLimit("month", amount("200").credits, amount("61.37").credits)


def use_of(budget: str, spent: str) -> BudgetUse:
    """Return what was spent of a budget in its current period."""
    parsed = Budget.parse(budget)
    return BudgetUse(parsed, *parsed.period_at(datetime.now(timezone.utc)), amount(spent))


def held_by(name: str) -> Amount:
    """Return what the account of a connection holds."""
    return amount("12.60" if name.endswith("default") else "184.02")


def known_balance() -> KnownBalance:
    """Return the balance of the connection that the gates wait for."""
    return KnownBalance(Balance(held_by("aimlbilling_default").credits, True, MARK.credits, key_limit=KEY_LIMIT))


def usual() -> dict[str, Any]:
    """Return figures of every block, of two connections."""
    return {
        "connections": connections("aimlbilling_default", "aimlbilling_research"),
        "account": account,
        "spending": spending,
        "gates": gates(4),
        "held": held(),
        "runs": lambda _, options: runs(int(options["days"])),
    }


def empty() -> dict[str, Any]:
    """Return figures of an installation where nothing has happened yet."""
    nothing = {"gates": [], "left_out": 0, "elsewhere": 0, "summaries": [], "budgets": []}
    state = account_state(Funds(0), timedelta())
    return usual() | {
        "connections": connections("aimlbilling_default"),
        "account": account("aimlbilling_default", {})
        | {"state": state.name, "state_text": state.text, "balance": money("0"), "low_mark": None}
        | {"key_limit": None, "auto_top_up": None, "runway": None}
        | {"runway_text": "How long the money lasts is unknown: nothing was spent in the last 28 days."},
        "spending": lambda name, options: spending(name, options) | {"rows": [], "models": [], "total": money("0")},
        "gates": nothing,
        "held": {"since": ago(hours=24), "tasks": [], "left_out": 0},
        "runs": {"days": 28, "runs": [], "left_out": 0},
    }


def connections(*names: str) -> dict[str, Any]:
    rows = [
        {"connection_id": name, "description": "Nightly enrichment" if not at else None}
        for at, name in enumerate(names)
    ]
    return {"connections": rows, "refresh_seconds": 60}


def runway(name: str) -> Runway:
    """Return how long the money of an account lasts, after its spending."""
    now = datetime.now(timezone.utc)
    daily: dict[date, Decimal] = {}
    for row in spending(name, {"days": "29", "tz": "UTC"})["rows"]:
        day = date.fromisoformat(row["day"])
        daily[day] = daily.get(day, Decimal(0)) + Decimal(row["cost"]["credits"])
    spent = {day: Amount(credits) for day, credits in daily.items()}
    status = "enabled" if top_up(name).is_enabled else "disabled"
    return estimate_runway(held_by(name), spent, now.date(), read_at=now, auto_debit_status=status)


def top_up(name: str) -> TopUp:
    """Return the auto top-up of an account."""
    if name.endswith("default"):
        return TopUp(is_enabled=False)
    return TopUp(True, amount("20").credits, amount("50").credits)


def account(name: str, options: Mapping[str, str]) -> dict[str, Any]:
    held, lasts = held_by(name), runway(name)
    state = account_state(Funds(held.credits, MARK.credits, KEY_LIMIT), timedelta())
    return {
        "connection_id": name,
        "state": state.name,
        "state_text": state.text,
        "balance": money(held),
        "low_mark": money(MARK),
        "key_limit": {"period": "month", "limit": money("200"), "spent": money("61.37"), "remaining": money("138.63")},
        "key_limit_text": None,
        "auto_top_up": str(top_up(name)).removeprefix("auto top-up is "),
        "read_at": ago(seconds=20),
        "error": None,
        "runway": {
            "shortest_days": str(lasts.shortest_days),
            "longest_days": str(lasts.longest_days),
            "summary": lasts.summary,
        },
        "runway_text": None,
        "billing_url": "https://aimlapi.com/app/billing",
    }


def spending(name: str, options: Mapping[str, str]) -> dict[str, Any]:
    days = int(options["days"])
    last = datetime.now(timezone.utc).date()
    rows, totals = [], dict.fromkeys(MODELS, Decimal(0))
    for back in reversed(range(days)):
        on = last - timedelta(days=back)
        quiet = on.weekday() >= 5
        for at, model in sorted(enumerate(MODELS), key=lambda found: found[1]):
            cost = Decimal((7 * back + 13 * at) % 17 + 3) / Decimal(10 * (at + 1) * (4 if quiet else 1))
            cost = cost.quantize(Decimal("0.01"))
            totals[model] += cost
            rows.append({"day": on.isoformat(), "model": model, "cost": money(str(cost))})
    return {
        "connection_id": name,
        "days": days,
        "tz": options["tz"],
        "first_day": (last - timedelta(days=days - 1)).isoformat(),
        "last_day": last.isoformat(),
        "read_at": ago(seconds=20),
        "error": None,
        "total": money(str(sum(totals.values()))),
        "rows": rows,
        "models": sorted(MODELS, key=lambda model: (-totals[model], model)),
        "missing_text": "These are the costs of this connection's key. The API reports a cost some time after the "
        "request that caused it, so costs of the last hour may still be missing.",
    }


def gates(count: int) -> dict[str, Any]:
    """Return gates that wait for one account, longest first. Of each fourth, nobody knows what it needs."""
    known, use = known_balance(), use_of("200 USD per month", "61.37")
    rows, waits = [], []
    for at in range(count):
        kind, state = at % 4, ("deferred", "up_for_reschedule", "running")[at % 3]
        asks = (TEMPLATE, "13.00 USD", LOW_MARK, "25.20 USD")[kind]
        gate = (None, Gate(amount("13")), Gate(), Gate(amount("25.20")))[kind]
        keeps_to = use if kind == 3 else None
        # Only a trigger's arguments tell it. The last verdict of a gate with a budget does as well.
        respects_key_limit = True if keeps_to else False if state == "deferred" else None
        wait = WaitingFor(gate, respects_key_limit, keeps_to is not None, keeps_to)
        verdict = wait.verdict(known)
        missing = known.missing(verdict) if verdict else None
        limits = [str(use.budget)] if keeps_to else []
        names: tuple[str, str, str] = (
            "night_batch",
            f"scheduled__{date(2026, 11, 1) + timedelta(days=at)}T02:00:00+00:00",
            ("wait_for_balance", "enrich.gate", "gate", "wait_for_budget")[kind],
        )
        map_index = at // 4 if kind == 1 else None
        waits.append(wait)
        rows.append(
            {
                **dict(zip(("dag_id", "run_id", "task_id"), names, strict=True)),
                "map_index": map_index,
                "state": state,
                "since": ago(hours=9 - at / 100, minutes=17),
                "connection_id": "aimlbilling_default",
                "asks": asks,
                "limits": ["the key's limit", *limits] if keeps_to and state == "deferred" else limits,
                "missing": money(missing) if missing else None,
                "short_of": verdict.short_of if verdict else None,
                "reason": known.reason(verdict) if verdict else None,
                "deadline": ago(hours=-15) if state == "deferred" else None,
                "path": path(*names, map_index),
            }
        )
    needed = top_up_needed(waits, known)
    summary = {"connection_id": "aimlbilling_default", "waiting": needed.waiting, "text": needed.text}
    budget = {
        "connection_id": "aimlbilling_default",
        "text": str(use.budget),
        "left": money(use.left),
        "spent": money(use.spent),
        "read_at": ago(seconds=40),
    }
    return {
        "gates": rows,
        "left_out": 0,
        "elsewhere": 0,
        "summaries": [summary | {"top_up": money(needed.amount) if needed.amount else None}],
        "budgets": [budget] if count > 3 else [],
    }


def held() -> dict[str, Any]:
    """Return tasks that were held: with its outcome, how many of how many, the balance and what was needed."""
    tasks = [
        ("night_batch", "caption_images", "failed", 19, 20, Balance(amount("0.02").credits), "0.25"),
        ("reports", "summaries", "skipped", 1, 1, Balance(amount("12.60").credits), "25"),
        (
            "reports",
            "which_model",
            "branched",
            1,
            1,
            Balance(amount("12.60").credits, budget=use_of("5 USD per day", "4.59")),
            "1",
        ),
        ("night_batch", "wait_for_balance", "failed", 1, 1, Balance(amount("12.60").credits), "25.20"),
    ]
    run_id = "scheduled__2026-11-26T02:00:00+00:00"
    rows = [
        {
            "dag_id": dag,
            "run_id": run_id,
            "task_id": task,
            "path": path(dag, run_id, task),
            "outcome": outcome,
            "held": count,
            "of": of,
            "reason": Gate(amount(needed)).decide(balance).reason,
            "last_at": ago(hours=at + 1),
        }
        for at, (dag, task, outcome, count, of, balance, needed) in enumerate(tasks)
    ]
    return {"since": ago(hours=24), "tasks": rows, "left_out": 0}


def runs(days: int) -> dict[str, Any]:
    costs = [
        ("14.20", "12.00", "+2.20 USD", "1.1833", 4210),
        ("9.87", "10.00", "-0.13 USD", "0.987", 1822),
        ("1.02", None, None, None, 40),
    ]
    run_ids = [f"scheduled__2026-11-{26 - at}T02:00:00+00:00" for at in range(len(costs))]
    rows = [
        {
            "dag_id": "night_batch",
            "run_id": run_ids[at],
            "path": path("night_batch", run_ids[at]),
            "cost": money(cost),
            "is_lower_bound": at == 2,
            "may_be_incomplete": at == 2,
            "estimate": money(estimate) if estimate else None,
            "difference": difference,
            "ratio": ratio,
            "requests": requests,
            "read_at": ago(days=at, hours=3),
        }
        for at, (cost, estimate, difference, ratio, requests) in enumerate(costs)
    ]
    return {"days": days, "runs": rows, "left_out": 0}
