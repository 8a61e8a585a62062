"""The operator that reports what was spent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import NOTSET, BaseOperator
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.links.billing import BillingPageLink

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context


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
        self._declared: dict[str, object] = {"start": start, "end": end}
        self.aimlbilling_conn_id = aimlbilling_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the usage in the window."""
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
        from airflow_provider_aimlbilling.money.amount import Amount
        from airflow_provider_aimlbilling.money.usage import SETTLED_AFTER, Spend, Usage
        from airflow_provider_aimlbilling.windows import resolve_window

        # Read before the request, because later charges may be missing from its answer.
        now = datetime.now(timezone.utc)
        start, end = resolve_window(self.start, self.end, self._declared, context, now)
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
