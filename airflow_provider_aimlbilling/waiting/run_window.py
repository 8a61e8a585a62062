"""Which rows of the request log to read for a DAG run. Imports no Airflow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_provider_aimlbilling.money.run_cost import RunCost
from airflow_provider_aimlbilling.money.usage import CLOCK_MARGIN


@dataclass(frozen=True)
class RunWindow:
    """
    A DAG run, and the window of time that its requests are in.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param start: start of the window, UTC.
    :param end: end of the window, UTC; ``None`` for the time of the reading.
    """

    dag_id: str
    run_id: str
    start: datetime
    end: datetime | None = None

    def end_at(self, now: float) -> datetime:
        """
        Return the end of the window for a reading.

        :param now: when the reading begins, in seconds since the epoch.
        """
        moment = datetime.fromtimestamp(now, tz=timezone.utc)
        return moment if self.end is None else min(self.end, moment)

    def read(self, source: Any, now: float) -> RunCost:
        """
        Read the log.

        :param source: an ``AimlBillingHook`` or ``AimlBillingClient``.
        :param now: the current time, in seconds since the epoch.
        :raises AimlBillingError: or a subclass, as in ``AimlBillingClient.iter_requests``.
        """
        # The API's clock stamps the rows, and may be ahead or behind.
        end = None if self.end is None else min(self.end, datetime.fromtimestamp(now, tz=timezone.utc) + CLOCK_MARGIN)
        rows = source.iter_requests(start=self.start - CLOCK_MARGIN, end=end)
        return RunCost(self.dag_id, self.run_id, self.start).add_all(rows)

    def to_dict(self) -> dict[str, str | None]:
        """Return a plain JSON dictionary."""
        end = None if self.end is None else self.end.isoformat()
        return {"dag_id": self.dag_id, "run_id": self.run_id, "start": self.start.isoformat(), "end": end}

    @classmethod
    def from_dict(cls, window: dict[str, Any]) -> RunWindow:
        """Return the window that :meth:`to_dict` described."""
        start, end = (window[name] and datetime.fromisoformat(window[name]) for name in ("start", "end"))
        return cls(window["dag_id"], window["run_id"], start, end)
