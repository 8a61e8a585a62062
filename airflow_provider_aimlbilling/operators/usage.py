"""The operator that reports what was spent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import NOTSET, BaseOperator
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.links.billing import BillingPageLink

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context

# Charges post after the calls that they are for, and usage comes from the vendor's analytics. The vendor does not say
# when the figures are complete; this value is our own.
SETTLED_AFTER = timedelta(hours=1)

# Clocks may differ by this much before a window counts as being in the future.
_MAX_CLOCK_SKEW = timedelta(hours=1)

# A window up to now that is shorter holds nothing yet.
_SHORTEST = timedelta(seconds=1)


class GetUsageOperator(BaseOperator):
    """
    Report what the connection's key spent in a window of time, by model, in USD and credits.

    Its XCom has ``start``, ``end``, ``spend_usd``, ``spend_credits`` (decimal text), ``requests``, the same three for
    each of ``models``, and ``may_be_incomplete``: true if the window ended less than an hour ago or has not ended. The
    figures are the vendor's analytics, for attribution. For reconciliation use the ledger
    (:meth:`AimlBillingHook.iter_transactions`).

    Without ``start`` and ``end``, the window is the run's data interval. A window that begins just now, such as that of
    a month that has just begun, is reported as nothing spent so far, without a request.

    :param start: start of the window, as ``datetime`` or ISO 8601 text; UTC if it has no time zone; templated.
    :param end: end of the window, in the same form; templated. Default if ``start`` is set: now.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :raises ValueError: ``start`` or ``end`` cannot be read, or the window is in the future, or it is empty and in the
        past. Neither is set, and the run has no data interval or an empty one: a manually triggered run, or a plain
        cron schedule in Airflow 3, unless its timetable is a ``CronDataIntervalTimetable``. Set ``start`` there.
    :raises AimlBillingError: or a subclass, as in :meth:`AimlBillingHook.get_usage`.
    """

    template_fields: Sequence[str] = ("start", "end", "aimlbilling_conn_id")
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)

    def __init__(
        self,
        *,
        start: object = NOTSET,
        end: object = NOTSET,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.start = None if start is NOTSET else start
        self.end = None if end is NOTSET else end
        # A template that renders to None must not silently fall back to the data interval.
        self._declared = {"start": start, "end": end}
        self.aimlbilling_conn_id = aimlbilling_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the usage in the window."""
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
        from airflow_provider_aimlbilling.money.amount import Amount
        from airflow_provider_aimlbilling.money.usage import Spend, Usage

        # Read before the request, because later charges may be missing from its answer.
        now = datetime.now(timezone.utc)
        start, end = self._window(context, now)
        if end > start:
            usage = AimlBillingHook(self.aimlbilling_conn_id).get_usage(start=start, end=end)
        else:
            usage = Usage(start, end, Spend(Amount(0), 0), {})
        may_be_incomplete = end > now - SETTLED_AFTER
        requests = usage.total.requests
        self.log.info(
            "From %s to %s the key of %s spent %s in %d request%s.%s",
            usage.start.isoformat(timespec="seconds"),
            usage.end.isoformat(timespec="seconds"),
            self.aimlbilling_conn_id,
            usage.total.amount,
            requests,
            "" if requests == 1 else "s",
            " The latest charges may be missing." if may_be_incomplete else "",
        )
        return {
            "start": usage.start.isoformat(timespec="milliseconds"),
            "end": usage.end.isoformat(timespec="milliseconds"),
            **usage.total.to_dict(),
            "models": [{"model": name, **spend.to_dict()} for name, spend in usage.models.items()],
            "may_be_incomplete": may_be_incomplete,
        }

    def _window(self, context: Context, now: datetime) -> tuple[datetime, datetime]:
        """Return the window; empty if it begins just now."""
        declared = [name for name, value in self._declared.items() if value is not NOTSET]
        if declared == ["end"]:
            raise ValueError("Set start as well: the data interval's start does not belong to another end.")
        start = self._resolve_time("start", self.start, context)
        end = now if declared == ["start"] else self._resolve_time("end", self.end, context)
        if start > now + _MAX_CLOCK_SKEW:
            raise ValueError(f"The window starts in the future, at {start.isoformat()}: nothing can have been spent.")
        if declared == ["start"] and end - start < _SHORTEST:  # or the clock that start comes from is ahead
            return start, start
        if start > end:
            raise ValueError(f"The end of the window, {end.isoformat()}, is before its start, {start.isoformat()}.")
        if start == end and (not declared or end < now - _MAX_CLOCK_SKEW):
            raise ValueError(
                f"The window from {start.isoformat()} to {end.isoformat()} is empty. Set start. A run only has a "
                "data interval of its own if its timetable provides one, such as CronDataIntervalTimetable."
            )
        return start, end

    def _resolve_time(self, name: str, value: object, context: Context) -> datetime:
        use_data_interval = self._declared[name] is NOTSET
        time: Any = context.get(f"data_interval_{name}") if use_data_interval else value
        if isinstance(time, str):
            try:
                time = datetime.fromisoformat(time.strip().replace("Z", "+00:00"))
            except ValueError:
                time = None
        if not isinstance(time, datetime):
            raise ValueError(  # noqa: TRY004 - the value is wrong or missing, and the default comes from Airflow
                "This run has no data interval. Set start."
                if use_data_interval
                else f"{name} is {str(value)[:40]!r}, which is not a time. Write it like 2026-11-01T00:00:00Z."
            )
        try:
            # In UTC, because in another time zone Python compares the clock on the wall.
            return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
        except OverflowError:
            raise ValueError(f"{name} is {str(value)[:40]!r}, which is out of range.") from None
