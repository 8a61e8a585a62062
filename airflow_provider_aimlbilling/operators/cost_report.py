"""The operator that reports what DAGs cost, over many runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import NOTSET, BaseOperator
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.links.billing import BillingPageLink

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context


class GetCostReportOperator(BaseOperator):
    """
    Report what DAGs cost in a window of time, by day and model, as rows for a warehouse.

    Returns a list of dictionaries, one for each day, DAG and model. Columns have the names of FOCUS where it has one,
    and begin with ``x_`` where it has none; see ``docs/guides/what-a-run-cost.md``. Requests that name no task are
    in rows whose ``x_dag_id`` is ``None``. Also pushes the XCom ``summary`` with the totals.

    Without ``start`` and ``end``, the window is the run's data interval.

    :param start: start of the window, as ``datetime`` or ISO 8601 text; UTC if it has no time zone; templated.
    :param end: end of the window, in the same form; templated. Default if ``start`` is set: now.
    :param timezone: IANA name of the time zone in which days begin and end, such as ``Europe/Berlin``; templated.
    :param aimlbilling_conn_id: id of the Airflow connection whose key sent the requests; templated.
    :raises ValueError: as in :class:`GetUsageOperator`, or this machine does not know the time zone.
    :raises AimlBillingError: or a subclass, as in :meth:`AimlBillingHook.iter_requests`.
    """

    template_fields: Sequence[str] = ("start", "end", "timezone", "aimlbilling_conn_id")
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)

    def __init__(
        self,
        *,
        start: object = NOTSET,
        end: object = NOTSET,
        timezone: str = "UTC",
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.start = None if start is NOTSET else start
        self.end = None if end is NOTSET else end
        # A template that renders to None must not silently fall back to the data interval.
        self._declared: dict[str, object] = {"start": start, "end": end}
        self.timezone = timezone
        self.aimlbilling_conn_id = aimlbilling_conn_id

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Read the request log of the window."""
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
        from airflow_provider_aimlbilling.money.cost_report import CostReport
        from airflow_provider_aimlbilling.money.cost_text import describe_total, lower_bound, not_attributed
        from airflow_provider_aimlbilling.money.time_zones import time_zone
        from airflow_provider_aimlbilling.money.usage import SETTLED_AFTER
        from airflow_provider_aimlbilling.windows import check_log_start, resolve_window

        now = datetime.now(timezone.utc)
        zone = time_zone(self.timezone)
        start, end = resolve_window(self.start, self.end, self._declared, context, now)
        check_log_start(start)
        report = CostReport(start, end, zone)
        if end > start:
            report.add_all(AimlBillingHook(self.aimlbilling_conn_id).iter_requests(start=start, end=end))
        is_recent = end > now - SETTLED_AFTER
        rows = report.rows([str(getattr(context["ti"], "dag_id", ""))])
        self.log.info(
            "From %s to %s: %s, in %d row%s.%s",
            *(start.isoformat(timespec="seconds"), end.isoformat(timespec="seconds"), describe_total(report.total)),
            *(len(rows), "" if len(rows) == 1 else "s", " Charges may still be missing." if is_recent else ""),
        )
        if gap := lower_bound(report.total):
            self.log.warning("%s", gap)
        if note := not_attributed(report.unattributed):
            self.log.info("%s", note)
        if self.do_xcom_push:
            context["ti"].xcom_push(key="summary", value=report.to_dict(may_be_incomplete=is_recent))
        return rows
