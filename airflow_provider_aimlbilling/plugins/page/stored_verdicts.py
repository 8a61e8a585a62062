"""Verdicts from XComs. Any DAG can push such an XCom, so nothing in one is believed before it is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import LargeBinary, Text, and_, case, cast, func

from airflow_provider_aimlbilling.client.text import clean_text
from airflow_provider_aimlbilling.exceptions import AimlBillingError
from airflow_provider_aimlbilling.guard_verdict import GUARD_VERDICT
from airflow_provider_aimlbilling.money.budget import BudgetUse

GATE_VERDICT = "verdict"
VERDICT_KEYS = (GATE_VERDICT, GUARD_VERDICT)

_KEYS = {"clears", "reason", "threshold_credits", "available_credits", "shortfall_credits", "short_of", "balance"}
_SHORT_OF = {
    *("balance", "key_limit", "both", "budget", "balance and budget", "key_limit and budget"),
    "balance and key_limit and budget",
}
_MAX_CHARACTERS = 20_000  # of a verdict as JSON; ours have at most 5,000


@dataclass(frozen=True)
class StoredVerdict:
    """
    What the page needs of a verdict.

    :param clears: whether the gate opened.
    :param reason: what was missing, or why it opened.
    :param short_of: what was too low, as in :attr:`Verdict.short_of`.
    :param had_key_limit: whether the key's limit counted; ``None`` if no balance was read.
    :param budget: what was spent of the budget; ``None`` if there was none.
    """

    clears: bool
    reason: str
    short_of: str | None
    had_key_limit: bool | None
    budget: BudgetUse | None


def read_verdict(value: object) -> StoredVerdict | None:
    """
    Read an XCom; return ``None`` if it is not one of our verdicts.

    :param value: what Airflow's database holds. With an XCom backend of its own, a deployment may store anything.
    """
    if not isinstance(value, Mapping) or not value.keys() >= _KEYS:
        return None
    clears, reason, short_of, balance = (value[name] for name in ("clears", "reason", "short_of", "balance"))
    if not isinstance(clears, bool) or not isinstance(reason, str) or not isinstance(balance, Mapping | None):
        return None
    return StoredVerdict(
        clears=clears,
        reason=clean_text(reason),
        short_of=short_of if isinstance(short_of, str) and short_of in _SHORT_OF else None,
        had_key_limit=None if balance is None else balance.get("key_limit") is not None,
        budget=_budget(balance),
    )


def _budget(balance: Mapping[str, Any] | None) -> BudgetUse | None:
    if balance is None or balance.get("budget") is None:
        return None
    try:
        use = BudgetUse.from_dict(balance["budget"])
    except AimlBillingError:
        return None
    # Not written by this provider if a time has no time zone. Such times could not be compared.
    return use if use.since.tzinfo and use.until.tzinfo else None


def as_text(value: Any) -> Any:
    """
    Return a JSON column as text, for conditions. It works alike on all of Airflow's databases, for any JSON.

    :param value: the column.
    """
    return cast(value, Text)


def if_small(value: Any, max_characters: int = _MAX_CHARACTERS, *, as_bytes: bool = False) -> Any:
    """
    Return a JSON column as text for :func:`parsed`, or NULL if it is too large, so that it is not loaded.

    :param value: the column, or a part of it.
    :param max_characters: the most characters that are not too large.
    :param as_bytes: whether to return the bytes of the text, which need not be valid UTF-8.
    """
    text = as_text(value)
    return case((func.length(text) <= max_characters, cast(value, LargeBinary) if as_bytes else text))


def parsed(text: str | bytes | None) -> Any:
    """
    Parse what :func:`if_small` returned; return ``None`` if it is nothing, or Python cannot read it.

    The database driver would fail with all rows at one that is nested too deeply or has a number with too many digits.

    :param text: the JSON.
    """
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def same_instance(left: Any, right: Any) -> Any:
    """
    Return the condition that rows of two tables belong to the same task instance.

    :param left: a table of Airflow's.
    :param right: another one.
    """
    names = ("dag_id", "task_id", "run_id", "map_index")
    return and_(*(getattr(left, name) == getattr(right, name) for name in names))
