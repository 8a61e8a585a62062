"""The operator that estimates how long the money lasts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import BaseOperator
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.links.billing import BillingPageLink

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context
    from airflow_provider_aimlbilling.money.amount import Amount


class EstimateRunwayOperator(BaseOperator):
    """
    Estimate how many days the balance lasts, and what the account must hold to last a given number of days.

    Returns what the account must hold to last ``days`` days at the cautious rate, as text that every ``threshold``
    accepts, such as ``"617500 credits"``. Pushes the XCom ``runway`` (:meth:`Runway.to_dict`): the range in days, the
    balance, the rates per day in credits and USD, and whether the account tops itself up; with ``days``,
    ``threshold_credits`` and ``threshold_usd``.

    The rates are those of the connection's key in the last 28 complete days, from the first day with spending: the
    most expensive three days in a row (the cautious one), and the mean. An account that is out of credits lasts 0 days.

    :param days: how many days the returned amount lasts, above 0; templated.
    :param tz: IANA name of the time zone in which days begin and end, such as ``Europe/Berlin``; templated.
    :param earlier: an earlier XCom ``runway``, as a dictionary or as JSON, to include what has left the account since
        then without being spent by this key, such as the spending of other keys; templated. ``None`` or ``"null"`` for
        none. It must be at least 20 hours old.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :raises AimlBillingRunwayError: nothing was spent, there are fewer than seven days of history, or ``days`` or
        ``earlier`` is unusable.
    :raises ValueError: the time zone is unknown.
    :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.get_runway`.
    """

    template_fields: Sequence[str] = ("days", "tz", "earlier", "aimlbilling_conn_id")
    template_fields_renderers = {"earlier": "json"}  # noqa: RUF012 - as in Airflow's operators
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)

    def __init__(
        self,
        *,
        days: object = 3,
        tz: str = "UTC",
        earlier: Mapping[str, Any] | str | None = None,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.days = days
        self.tz = tz
        self.earlier = earlier
        self.aimlbilling_conn_id = aimlbilling_conn_id

    def execute(self, context: Context) -> str:
        """Read balance and spending, and estimate."""
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
        from airflow_provider_aimlbilling.money.amount import in_both_units

        runway = AimlBillingHook(self.aimlbilling_conn_id).get_runway(tz=self.tz, earlier=self._earlier())
        threshold = runway.threshold_for(self.days)
        self.log.info("%s To last %s days, the account must hold %s.", runway.summary, self.days, threshold)
        if self.do_xcom_push:
            figures = {"days": str(self.days), **in_both_units("threshold", threshold)}
            context["ti"].xcom_push(key="runway", value=runway.to_dict() | figures)
        return threshold.text

    def _earlier(self) -> tuple[datetime, Amount] | None:
        from airflow_provider_aimlbilling.exceptions import AimlBillingRunwayError
        from airflow_provider_aimlbilling.money.amount import Amount

        try:
            found = json.loads(self.earlier) if isinstance(self.earlier, str) else self.earlier
            if found is None:
                return None
            stored = found["balance_credits"]
            credits = f"{stored} credits" if isinstance(stored, str) else stored
            return datetime.fromisoformat(found["read_at"]), Amount.parse(credits)
        except (ValueError, TypeError, LookupError):
            raise AimlBillingRunwayError(
                "earlier is not an XCom 'runway' of this operator. Write "
                "earlier=\"{{ ti.xcom_pull(task_ids='…', key='runway', include_prior_dates=True) | tojson }}\"."
            ) from None
