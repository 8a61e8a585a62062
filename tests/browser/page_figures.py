"""Figures for the billing page, in the shapes of its API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

CREDITS_PER_USD = 2_000_000
MODELS = ("openai/gpt-4o", "anthropic/claude-sonnet-4.5", "black-forest-labs/flux-pro", "openai/gpt-4o-mini")
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


def ago(**delta: float) -> str:
    """Return a moment of the past as ISO 8601."""
    return (datetime.now(timezone.utc) - timedelta(**delta)).isoformat()


def money(usd: str) -> dict[str, str]:
    amount = Decimal(usd)
    return {"usd": usd, "credits": f"{amount * CREDITS_PER_USD:f}".partition(".")[0], "text": f"{amount:.2f} USD"}


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
    nothing = {"gates": [], "left_out": 0, "summaries": [], "budgets": []}
    return usual() | {
        "connections": connections("aimlbilling_default"),
        "account": account("aimlbilling_default", {})
        | {"state": "empty", "state_text": "Empty: the account holds nothing.", "balance": money("0")}
        | {"key_limit": None, "key_limit_text": "the key has no limit", "runway": None}
        | {"runway_text": "no estimate: nothing was spent", "low_mark": None, "auto_top_up": None},
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


def account(name: str, options: Mapping[str, str]) -> dict[str, Any]:
    low = name.endswith("default")
    text = (
        "Low: below the account's low-balance threshold of 15.00 USD."
        if low
        else "Fine: not below the account's low-balance threshold of 15.00 USD."
    )
    return {
        "connection_id": name,
        "state": "low" if low else "fine",
        "state_text": text,
        "balance": money("12.60" if low else "184.02"),
        "low_mark": money("15.00"),
        "key_limit": {"period": "month", "limit": money("200"), "spent": money("61.37"), "remaining": money("138.63")},
        "key_limit_text": None,
        "auto_top_up": "off" if low else "on, 50.00 USD when below 20.00 USD",
        "read_at": ago(seconds=20),
        "error": None,
        "runway": {"shortest_days": "3.5", "longest_days": "12.0", "summary": "after the spending of the last 28 days"},
        "runway_text": None,
        "billing_url": "https://aimlapi.com/app/billing",
    }


def spending(name: str, options: Mapping[str, str]) -> dict[str, Any]:
    days = int(options["days"])
    last = datetime.now(timezone.utc).date()
    rows, total = [], Decimal(0)
    for back in range(days):
        date = last - timedelta(days=back)
        quiet = date.weekday() >= 5
        for at, model in enumerate(MODELS):
            cost = Decimal((7 * back + 13 * at) % 17 + 3) / Decimal(10 * (at + 1) * (4 if quiet else 1))
            cost = cost.quantize(Decimal("0.01"))
            total += cost
            rows.append({"day": date.isoformat(), "model": model, "cost": money(str(cost))})
    return {
        "connection_id": name,
        "days": days,
        "tz": options["tz"],
        "first_day": (last - timedelta(days=days - 1)).isoformat(),
        "last_day": last.isoformat(),
        "read_at": ago(seconds=20),
        "error": None,
        "total": money(str(total)),
        "rows": rows[::-1],
        "models": list(MODELS),
        "missing_text": "Charges of the last minutes may still be missing: the API posts them late.",
    }


def gates(count: int) -> dict[str, Any]:
    asks = ("2.50 USD", "12.00 USD", "the account's own low-balance threshold", "25.20 USD")
    missing = (None, money("0.40"), money("2.40"), money("12.60"))
    rows = [
        {
            "dag_id": "night_batch",
            "run_id": f"scheduled__2026-11-{day % 28 + 1:02}T02:00:00+00:00",
            "task_id": ("wait_for_balance", "enrich.gate", "gate", "wait_for_budget")[day % 4],
            "map_index": day // 4 if day % 4 == 1 else None,
            "state": ("deferred", "up_for_reschedule", "running")[day % 3],
            "since": ago(hours=9 - day / 100, minutes=17),
            "connection_id": "aimlbilling_default",
            "asks": asks[day % 4],
            "limits": ["the key's limit", "200 USD per month"] if day % 4 == 3 else [],
            "missing": missing[day % 4],
            "short_of": "the balance" if day % 4 else None,
            "reason": None if day % 4 else "its threshold is a template that has not been rendered",
            "deadline": ago(hours=-15) if day % 2 else None,
            "path": f"dags/night_batch/runs/scheduled__2026-11-{day % 28 + 1:02}T02%3A00%3A00%2B00%3A00/tasks/g{day}",
        }
        for day in range(count)
    ]
    text = f"{count} gates are waiting; a top-up of 12.60 USD releases all of them."
    summary = {"connection_id": "aimlbilling_default", "waiting": count, "top_up": money("12.60"), "text": text}
    budget = {
        "connection_id": "aimlbilling_default",
        "text": "200 USD per month",
        "left": money("138.63"),
        "spent": money("61.37"),
        "read_at": ago(seconds=40),
    }
    return {"gates": rows, "left_out": 0, "summaries": [summary], "budgets": [budget]}


def held() -> dict[str, Any]:
    tasks = [
        ("night_batch", "caption_images", "failed", 19, 20, "the balance of 0.02 USD is below 0.25 USD"),
        ("reports", "summaries", "skipped", 1, 1, "the balance of 12.60 USD is below 25.00 USD"),
        ("reports", "which_model", "branched", 1, 1, "the budget of 5 USD per day has 0.41 USD left"),
        ("night_batch", "wait_for_balance", "timed out", 1, 1, "it waited for 6 hours; 12.60 USD were missing"),
    ]
    rows = [
        {
            "dag_id": dag,
            "run_id": "scheduled__2026-11-26T02:00:00+00:00",
            "task_id": task,
            "path": f"dags/{dag}/runs/scheduled__2026-11-26T02%3A00%3A00%2B00%3A00/tasks/{task}",
            "outcome": outcome,
            "held": count,
            "of": of,
            "reason": reason,
            "last_at": ago(hours=at + 1),
        }
        for at, (dag, task, outcome, count, of, reason) in enumerate(tasks)
    ]
    return {"since": ago(hours=24), "tasks": rows, "left_out": 0}


def runs(days: int) -> dict[str, Any]:
    costs = [
        ("14.20", "12.00", "+2.20 USD", "1.18", 4210),
        ("9.87", "10.00", "-0.13 USD", "0.99", 1822),
        ("1.02", None, None, None, 40),
    ]
    rows = [
        {
            "dag_id": "night_batch",
            "run_id": f"scheduled__2026-11-{26 - at}T02:00:00+00:00",
            "path": f"dags/night_batch/runs/scheduled__2026-11-{26 - at}T02%3A00%3A00%2B00%3A00",
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
