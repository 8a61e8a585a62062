"""What costs look like in the log of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_aimlbilling.money.amount import format_usd
from airflow_provider_aimlbilling.money.run_cost import Line, RunCost
from airflow_provider_aimlbilling.money.tally import Tally

MAX_TABLE = 30  # most lines of the table
NOTHING_FOUND = (
    "The log has no request of this run, so its cost is unknown. Either the run sent none, or it sent them without "
    "request_headers(), or with a key other than this connection's."
)


def describe(cost: RunCost, report: dict[str, Any]) -> str:
    """
    Return in a few sentences what a run cost.

    :param cost: the run.
    :param report: what :meth:`RunCost.to_dict` returned.
    """
    total = f"{cost.total.requests} requests at an unknown cost"
    if report["cost_usd"] is not None:
        total = describe_total(cost.total)
    sentences = [f"The run {cost.run_id!r} of {cost.dag_id!r}: {total}."]
    if report["retries"]["requests"]:
        sentences.append(f"Spent on earlier tries: {_usd(report['retries']['cost_usd'])}.")
    if estimate := report["estimate"]:
        ratio = f" (ratio {estimate['ratio']})" if estimate["ratio"] else ""
        actual = _usd(estimate["actual_usd"])
        sentences.append(f"Estimated: {_usd(estimate['estimated_usd'])}, actual: {actual}{ratio}.")
    if report["may_be_incomplete"]:
        sentences.append("Charges may still be missing.")
    return " ".join(sentences)


def describe_total(total: Tally) -> str:
    """Return number and cost of requests."""
    requests = f"{total.requests} request{'' if total.requests == 1 else 's'}"
    failed = f", {total.failed} of them failed" if total.failed else ""
    if total.without_outcome:
        failed += f", {total.without_outcome} without a known outcome"
    if total.cost is None:
        return f"{requests} at an unknown cost{failed}"
    return f"{'at least ' if total.without_cost else ''}{total.cost} for {requests}{failed}"


def lower_bound(total: Tally) -> str:
    """Return a sentence about requests without a cost; empty if there are none."""
    if not total.without_cost:
        return ""
    return f"The log has no cost for {total.without_cost} of {total.requests} requests. The total is a lower bound."


def not_attributed(unattributed: Tally) -> str:
    """Return a sentence about requests that name no task; empty if there are none."""
    if not unattributed.requests:
        return ""
    return (
        f"Requests that name no task: {describe_total(unattributed)}. To name the task, send request_headers() with "
        "each request."
    )


def table(lines: Sequence[Line]) -> str:
    """Return lines as a table for the log."""
    head = ("task", "index", "try", "model", "requests", "failed", "tokens in", "out", "USD")
    rows = [head, *(_cells(line) for line in lines[:MAX_TABLE])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if len(lines) > MAX_TABLE:
        text.append(f"… and {len(lines) - MAX_TABLE} more")
    return "\n".join(text)


def _cells(line: Line) -> tuple[str, ...]:
    tally = line.tally
    cost = "unknown" if tally.cost is None else format_usd(tally.cost.usd)
    tokens = ("?" if count is None else str(count) for count in (tally.input_tokens, tally.output_tokens))
    index = "-" if line.map_index < 0 else str(line.map_index)
    at_least = "≥ " if tally.cost is not None and tally.without_cost else ""
    numbers = (str(tally.requests), str(tally.failed), *tokens)
    return (line.task_id, index, str(line.try_number), line.model, *numbers, at_least + cost)


def _usd(usd: str | None) -> str:
    return "unknown" if usd is None else f"{usd} USD"
