"""Sums over rows of the request log, and which task a row belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.money.amount import EXACT, Amount, format_usd
from airflow_provider_aimlbilling.money.request_id import (
    RequestId,
    full_name,
    is_shortened,
    parse_request_id,
)
from airflow_provider_aimlbilling.money.request_log import LoggedRequest

# What Airflow accepts as the name of a DAG or a task. An id is text from outside: anybody with the key can send any.
_AIRFLOW_NAME = re.compile(r"[\w.-]{1,250}")


@dataclass
class Tally:
    """
    Number, cost and tokens of requests.

    :param requests: all requests, the failed ones included.
    :param failed: the failed ones.
    :param without_outcome: those of which it is unknown whether they failed. Their cost counts.
    :param without_cost: requests whose row has no believable cost; they are not part of the cost.
    :param credits: the cost of all others.
    :param input_tokens: tokens that were sent; ``None`` if a request that did not fail does not say.
    :param output_tokens: tokens that were generated; ``None`` if a request that did not fail does not say.
    """

    requests: int = 0
    failed: int = 0
    without_outcome: int = 0
    without_cost: int = 0
    credits: Decimal = Decimal(0)
    input_tokens: int | None = 0
    output_tokens: int | None = 0

    def add(self, row: LoggedRequest) -> None:
        """Add one request."""
        self.requests += 1
        self.failed += row.succeeded is False
        self.without_outcome += row.succeeded is None
        if row.cost is None:
            self.without_cost += 1
        else:
            self.credits = EXACT.add(self.credits, Decimal(row.cost.credits))
        # A failed request often has no tokens, and is not charged for any.
        unknown = 0 if row.succeeded is False else None
        self.input_tokens = _sum(self.input_tokens, unknown if row.input_tokens is None else row.input_tokens)
        self.output_tokens = _sum(self.output_tokens, unknown if row.output_tokens is None else row.output_tokens)

    def merge(self, other: Tally) -> None:
        """Add what another tally holds."""
        self.requests += other.requests
        self.failed += other.failed
        self.without_outcome += other.without_outcome
        self.without_cost += other.without_cost
        self.credits = EXACT.add(self.credits, other.credits)
        self.input_tokens = _sum(self.input_tokens, other.input_tokens)
        self.output_tokens = _sum(self.output_tokens, other.output_tokens)

    @property
    def cost(self) -> Amount | None:
        """
        What the requests cost.

        At least that if ``without_cost`` is not 0; ``None`` if none of the requests has a cost.
        """
        return None if self.requests and self.without_cost == self.requests else Amount(self.credits)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain JSON dictionary with amounts as decimal text."""
        return {
            **cost_dict("cost", self.cost),
            "requests": self.requests,
            "failed_requests": self.failed,
            "requests_without_outcome": self.without_outcome,
            "requests_without_cost": self.without_cost,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }


def cost_dict(name: str, amount: Amount | None) -> dict[str, str | None]:
    """
    Return an amount for JSON as decimal text, as ``<name>_usd`` and ``<name>_credits``.

    :param name: what the amount is.
    :param amount: the amount; ``None`` if it is unknown.
    """
    return {
        f"{name}_usd": None if amount is None else format_usd(amount.usd),
        f"{name}_credits": None if amount is None else format(Decimal(amount.credits), "f"),
    }


def task_of(row: LoggedRequest) -> RequestId | None:
    """Return the task that sent a request; ``None`` if its id is not one of ours, or it has none."""
    task = parse_request_id(row.client_request_id)
    if task and _AIRFLOW_NAME.fullmatch(task.dag_id) and _AIRFLOW_NAME.fullmatch(task.task_id):
        return task
    return None


def full_names(names: Iterable[str], candidates: Iterable[str] = ()) -> dict[str, str]:
    """
    Return for each name from request ids the full name that it stands for.

    How much an id holds of a long name depends on the id's other parts, so one name may come in several lengths. If
    its full name is not known, all of them get the longest one.

    :param names: the names as ids hold them.
    :param candidates: full names that are known.
    """
    found = set(names)
    known = {*candidates, *(name for name in found if not is_shortened(name))}
    longest: dict[str, str] = {}
    resolved = {name: full_name(name, known) for name in found}
    for name in sorted(resolved.values(), key=lambda name: (len(name), name)):
        if is_shortened(name):
            longest[_hash_of(name)] = name
    return {name: longest[_hash_of(full)] if is_shortened(full) else full for name, full in resolved.items()}


def _hash_of(shortened: str) -> str:
    return shortened.rpartition("..-")[2]


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
