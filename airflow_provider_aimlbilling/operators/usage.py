"""The operator that says what was spent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.left_out import LEFT_OUT
from airflow_provider_aimlbilling.links import BillingPageLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

# Charges land after the calls that they are for, and usage comes from the vendor's analytics. The vendor names no time
# after which they are complete; this one is ours.
SETTLED_AFTER = timedelta(hours=1)


class GetUsageOperator(BaseOperator):
    """
    Report what the connection's key spent in a time, by model, in USD and credits.

    Its XCom has ``start``, ``end``, ``spend_usd``, ``spend_credits`` (decimal text), ``requests``, the same for each of
    ``models``, and ``may_be_incomplete``: true where the time ended less than an hour ago, or has not ended. These are
    the vendor's analytics, for attribution; the ledger (:meth:`AimlBillingHook.iter_transactions`) is for reconciling.

    :param start: begin of the time, as ``datetime`` or ISO 8601 text; by default the begin of the run's data interval;
        templated. Without a time zone it is UTC.
    :param end: end of the time; by default the end of the run's data interval; templated.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :raises ValueError: a time that cannot be read, or one that is empty. Runs that were triggered by hand have no data
        interval, or one of no length; so have those of a plain cron schedule in Airflow 3, unless its timetable is a
        ``CronDataIntervalTimetable``. Give these ``start`` and ``end``.
    :raises AimlBillingError: its children, as :meth:`AimlBillingHook.get_usage` says.
    """

    template_fields: Sequence[str] = ("start", "end", "aimlbilling_conn_id")
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)

    def __init__(
        self,
        *,
        start: object = LEFT_OUT,
        end: object = LEFT_OUT,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.start = None if start is LEFT_OUT else start
        self.end = None if end is LEFT_OUT else end
        # A template that renders to None must not silently fall back to the data interval.
        self._written = {"start": start, "end": end}
        self.aimlbilling_conn_id = aimlbilling_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask the API."""
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

        start, end = self._moment("start", self.start, context), self._moment("end", self.end, context)
        if end < start:
            raise ValueError(f"The end of the time, {end.isoformat()}, lies before its start, {start.isoformat()}.")
        if start > datetime.now(timezone.utc) + timedelta(hours=1):  # clocks differ, but not that much
            raise ValueError(f"The time from {start.isoformat()} on has not begun: nothing can have been spent in it.")
        if end == start:
            raise ValueError(
                f"The time from {start.isoformat()} to {end.isoformat()} is empty. Set start and end; a run has a data "
                "interval of its own only by a timetable that gives one, such as CronDataIntervalTimetable."
            )
        now = datetime.now(timezone.utc)  # what lands while it is asked may be missing
        usage = AimlBillingHook(self.aimlbilling_conn_id).get_usage(start=start, end=end)
        unsettled = end > now - SETTLED_AFTER
        self.log.info(
            "From %s to %s the key of %s spent %s in %d requests.%s",
            usage.start.isoformat(timespec="seconds"),
            usage.end.isoformat(timespec="seconds"),
            self.aimlbilling_conn_id,
            usage.total.amount,
            usage.total.requests,
            " The last charges may still be missing." if unsettled else "",
        )
        return {
            "start": usage.start.isoformat(timespec="milliseconds"),
            "end": usage.end.isoformat(timespec="milliseconds"),
            **usage.total.to_dict(),
            "models": [{"model": name, **spend.to_dict()} for name, spend in usage.models.items()],
            "may_be_incomplete": unsettled,
        }

    def _moment(self, name: str, given: object, context: Context) -> datetime:
        left_out = self._written[name] is LEFT_OUT
        moment: Any = context.get(f"data_interval_{name}") if left_out else given
        if isinstance(moment, str):
            try:
                moment = datetime.fromisoformat(moment.strip().replace("Z", "+00:00"))
            except ValueError:
                moment = None
        if not isinstance(moment, datetime):
            raise ValueError(  # noqa: TRY004 - the value is wrong, or missing; Airflow gives the default
                "This run has no data interval. Set start and end."
                if left_out
                else f"{name} is {str(given)[:40]!r}, which is no time. Write it like 2026-11-01T00:00:00Z."
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
