"""
What DAGs cost by day and model, as rows for a warehouse.

Columns have the names of FOCUS, the FinOps Open Cost and Usage Specification, where it has one; all others begin with
``x_``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any

from airflow_provider_aimlbilling.money.request_log import LoggedRequest
from airflow_provider_aimlbilling.money.tally import Tally, cost_dict, full_names, task_of

SERVICE = "AI/ML API"


class CostReport:
    """
    Adds up rows of the request log. Its size depends on the number of DAGs, days and models, not on the number of rows.

    :param start: start of the window, UTC.
    :param end: end of the window, UTC.
    :param zone: the time zone in which days begin and end.
    """

    def __init__(self, start: datetime, end: datetime, zone: tzinfo = timezone.utc) -> None:
        self.total = Tally()
        self.unattributed = Tally()
        self._start = start
        self._end = end
        self._zone = zone
        self._tallies: dict[tuple[date, str | None, str], Tally] = {}

    def add_all(self, rows: Iterable[LoggedRequest]) -> CostReport:
        """
        Add rows of the window, in any order, and return this object.

        :param rows: the rows.
        """
        for row in rows:
            task = task_of(row)
            self.total.add(row)
            if not task:
                self.unattributed.add(row)
            day = row.created.astimezone(self._zone).date()
            self._tallies.setdefault((day, task.dag_id if task else None, row.model), Tally()).add(row)
        return self

    def rows(self, dag_ids: Iterable[str] = ()) -> list[dict[str, Any]]:
        """
        Return one row for each day, DAG and model, in that order. Amounts are decimal text; unknown ones are ``None``.

        :param dag_ids: known DAGs, to complete the long names that request ids hold only in part.
        """
        names = full_names((key[1] for key in self._tallies if key[1]), dag_ids)
        merged: dict[tuple[date, str | None, str], Tally] = {}
        for (day, name, model), tally in self._tallies.items():
            merged.setdefault((day, names[name] if name else None, model), Tally()).merge(tally)
        by_day = sorted(merged.items(), key=lambda item: (item[0][0], item[0][1] or "", item[0][2]))
        return [self._row(*key, tally) for key, tally in by_day]

    def to_dict(self, *, may_be_incomplete: bool) -> dict[str, Any]:
        """
        Return the totals as a plain JSON dictionary.

        :param may_be_incomplete: whether charges may still be missing.
        """
        return {
            "start": self._start.isoformat(timespec="milliseconds"),
            "end": self._end.isoformat(timespec="milliseconds"),
            **self.total.to_dict(),
            "is_lower_bound": self.total.without_cost > 0,
            "may_be_incomplete": may_be_incomplete,
            "unattributed": self.unattributed.to_dict(),
        }

    def _row(self, day: date, dag_id: str | None, model: str, tally: Tally) -> dict[str, Any]:
        cost = cost_dict("cost", tally.cost)
        return {
            "ChargePeriodStart": _iso(max(self._start, self._midnight(day))),
            "ChargePeriodEnd": _iso(min(self._end, self._midnight(day + timedelta(days=1)))),
            "ChargeCategory": "Usage",
            "BilledCost": cost["cost_usd"],
            "BillingCurrency": "USD",
            "ConsumedQuantity": tally.requests,
            "ConsumedUnit": "Requests",
            "ServiceCategory": "AI and Machine Learning",
            "ServiceName": SERVICE,
            "ServiceProviderName": SERVICE,
            "x_day": day.isoformat(),
            "x_dag_id": dag_id,
            "x_model": model,
            "x_cost_credits": cost["cost_credits"],
            "x_failed_requests": tally.failed,
            "x_requests_without_outcome": tally.without_outcome,
            "x_requests_without_cost": tally.without_cost,
            "x_input_tokens": tally.input_tokens,
            "x_output_tokens": tally.output_tokens,
        }

    def _midnight(self, day: date) -> datetime:
        """Return the start of a day in UTC. Days have 23 or 25 hours when the clock changes."""
        return datetime(day.year, day.month, day.day, tzinfo=self._zone).astimezone(timezone.utc)


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
