"""
What one DAG run cost, from the rows of the request log.

A row belongs to the run if its ``client_request_id`` says so. Nothing is guessed: rows without such an id, and rows
without a cost, are reported as such, and never count as zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact
from fractions import Fraction
from functools import reduce
from itertools import islice
from typing import Any

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.money.amount import EXACT, Amount, format_usd
from airflow_provider_aimlbilling.money.request_log import LoggedRequest
from airflow_provider_aimlbilling.money.tally import Tally, cost_dict, full_names, task_of

MAX_LINES = 1000  # most lines of the XCom, which Airflow stores in its database

_ROUNDED = Context(prec=60, rounding=ROUND_HALF_UP)


@dataclass(frozen=True)
class Line:
    """
    What one try of one task instance spent on one model.

    :param task_id: the task, with the names of its task groups.
    :param map_index: the index of a mapped task; -1 if the task is not mapped.
    :param try_number: the number of the try.
    :param model: the model.
    :param tally: its requests.
    :param superseded: whether a later try of the same task instance sent requests as well.
    """

    task_id: str
    map_index: int
    try_number: int
    model: str
    tally: Tally
    superseded: bool = False


class RunCost:
    """
    Adds up the rows of one DAG run. Its size does not depend on the number of rows.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param start: start of the window. Older rows count only if they are of this run.
    """

    def __init__(self, dag_id: str, run_id: str, start: datetime) -> None:
        self.dag_id = dag_id
        self.run_id = run_id
        self.total = Tally()
        self.other_runs = Tally()
        self.unattributed = Tally()
        self._start = start
        self._tallies: dict[tuple[str, int, int, str], Tally] = {}

    def add_all(self, rows: Iterable[LoggedRequest]) -> RunCost:
        """
        Add rows, in any order, and return this object.

        :param rows: rows from ``CLOCK_MARGIN`` before the start on.
        """
        for row in rows:
            task = task_of(row)
            if task and task.matches(self.dag_id, self.run_id):
                self.total.add(row)
                key = (task.task_id, task.map_index, task.try_number, row.model)
                self._tallies.setdefault(key, Tally()).add(row)
            elif row.created >= self._start:
                (self.other_runs if task else self.unattributed).add(row)
        return self

    @property
    def fingerprint(self) -> str:
        """Number and cost of the run's requests as text. Readings with the same text saw the same charges."""
        return f"{self.total.requests}:{self.total.without_cost}:{self.total.credits.normalize(EXACT):f}"

    def lines(self, task_ids: Iterable[str] = ()) -> list[Line]:
        """
        Return the parts of the cost, highest first.

        :param task_ids: all tasks of the DAG, if known, to complete the long names that request ids hold only in part.
        """
        names = full_names((key[0] for key in self._tallies), task_ids)
        merged: dict[tuple[str, int, int, str], Tally] = {}
        last: dict[tuple[str, int], int] = {}
        for (name, index, number, model), tally in self._tallies.items():
            task = names[name]
            merged.setdefault((task, index, number, model), Tally()).merge(tally)
            last[task, index] = max(number, last.get((task, index), 0))
        lines = [Line(*key, tally, superseded=key[2] < last[key[:2]]) for key, tally in merged.items()]
        return sorted(lines, key=_by_cost)

    def to_dict(
        self,
        *,
        end: datetime,
        may_be_incomplete: bool,
        task_ids: Iterable[str] = (),
        estimate: Amount | None = None,
    ) -> dict[str, Any]:
        """
        Return a plain JSON dictionary. Amounts are decimal text, and unknown ones are ``None``.

        :param end: end of the window.
        :param may_be_incomplete: whether charges may still be missing.
        :param task_ids: as in :meth:`lines`.
        :param estimate: what the run was estimated to cost; ``None`` if there is no estimate.
        """
        lines = self.lines(task_ids)
        retries, tasks, models = Tally(), dict[str, Tally](), dict[str, Tally]()
        for line in lines:
            tasks.setdefault(line.task_id, Tally()).merge(line.tally)
            models.setdefault(line.model, Tally()).merge(line.tally)
            if line.superseded:
                retries.merge(line.tally)
        cost = self.cost
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "start": self._start.isoformat(timespec="milliseconds"),
            "end": end.isoformat(timespec="milliseconds"),
            **self.total.to_dict(),
            **cost_dict("cost", cost),
            "is_lower_bound": self.total.without_cost > 0,
            "may_be_incomplete": may_be_incomplete,
            "retries": retries.to_dict(),
            "estimate": None if estimate is None else compare(estimate, cost),
            "tasks": [{"task_id": name, **tally.to_dict()} for name, tally in islice(tasks.items(), MAX_LINES)],
            "models": [{"model": name, **tally.to_dict()} for name, tally in islice(models.items(), MAX_LINES)],
            "lines": [
                {
                    "task_id": line.task_id,
                    "map_index": line.map_index,
                    "try_number": line.try_number,
                    "model": line.model,
                    **line.tally.to_dict(),
                }
                for line in lines[:MAX_LINES]
            ],
            "tasks_left_out": max(0, len(tasks) - MAX_LINES),
            "models_left_out": max(0, len(models) - MAX_LINES),
            "lines_left_out": max(0, len(lines) - MAX_LINES),
            "unattributed": self.unattributed.to_dict(),
            "other_runs": self.other_runs.to_dict(),
        }

    @property
    def cost(self) -> Amount | None:
        """
        What the run cost; ``None`` if that is unknown.

        A log without requests of the run is not proof that it cost nothing: they may have been sent without the header,
        or with another key.
        """
        return self.total.cost if self.total.requests else None


class Settling:
    """
    Decides when charges have settled: when readings at least this many seconds apart saw the same ones.

    :param seconds: how far apart.
    :param fingerprint: of an earlier reading; empty if there was none.
    :param since: when that reading ended, in seconds since the epoch.
    """

    def __init__(self, seconds: float, fingerprint: str = "", since: float = 0.0) -> None:
        self.fingerprint = fingerprint
        self.since = since
        self._seconds = seconds

    def update(self, fingerprint: str, began: float, ended: float) -> bool:
        """
        Take one reading, and return whether the charges have settled.

        :param fingerprint: :attr:`RunCost.fingerprint`.
        :param began: when the reading began, in seconds since the epoch.
        :param ended: when it ended. A long one may have read its last rows only then.
        """
        if fingerprint != self.fingerprint:
            self.fingerprint, self.since = fingerprint, ended
        return began - self.since >= self._seconds

    def next_reading(self, at: float, deadline: float) -> float:
        """
        Return the seconds until the next reading, which may settle the charges or is the last one.

        :param at: seconds since the epoch.
        :param deadline: when the wait ends, in seconds since the epoch.
        """
        return max(0.0, min(self.since + self._seconds, deadline) - at)


def read_estimate(value: object) -> Amount:
    """
    Return an estimate as an amount.

    :param value: the output of an ``EstimateCostOperator``, its XCom ``estimate``, any amount as :meth:`Amount.parse`
        reads it, or several of these, which are added up.
    :raises AimlBillingThresholdError: if it is anything else, or empty.
    """
    if isinstance(value, Mapping) and isinstance(value.get("amount_credits"), str):
        return Amount.parse(f"{value['amount_credits']} credits")
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        parts = [read_estimate(part).credits for part in value]
        if not parts:
            raise AimlBillingThresholdError("The estimate is an empty list. Leave it out if there is none.")
        try:
            return Amount(reduce(EXACT.add, map(Decimal, parts)))
        except Inexact:
            raise AimlBillingThresholdError("The amounts of the estimate have too many digits to be added.") from None
    return Amount.parse(value)


def compare(estimate: Amount, actual: Amount | None) -> dict[str, Any]:
    """
    Return an estimate, the actual cost and how they differ as a plain JSON dictionary.

    :param estimate: what was estimated.
    :param actual: what it cost; ``None`` if that is unknown.
    """
    difference = ratio = None
    if actual is not None:
        difference = EXACT.subtract(Decimal(actual.credits), Decimal(estimate.credits))
        if estimate.credits:
            exact = Fraction(actual.credits) / Fraction(estimate.credits)
            quotient = _ROUNDED.divide(Decimal(exact.numerator), Decimal(exact.denominator))
            ratio = format(quotient.quantize(Decimal("0.0001"), context=_ROUNDED), "f")
    return {
        **cost_dict("estimated", estimate),
        **cost_dict("actual", actual),
        "difference_usd": None if difference is None else _signed_usd(difference),
        "difference_credits": None if difference is None else format(difference, "f"),
        "ratio": ratio,
    }


def _signed_usd(credits: Decimal) -> str:
    return ("-" if credits < 0 else "") + format_usd(Amount(abs(credits)).usd)


def _by_cost(line: Line) -> tuple[Decimal, str, int, int, str]:
    return (-line.tally.credits, line.task_id, line.map_index, line.try_number, line.model)
