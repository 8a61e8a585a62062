"""What a key has spent: ``GET /v2/usage`` and ``GET /v2/usage/detail``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import partial

from airflow_provider_aimlbilling.client.api import Api, iso_time
from airflow_provider_aimlbilling.client.http import MAX_USAGE_BYTES
from airflow_provider_aimlbilling.client.responses import read_usage
from airflow_provider_aimlbilling.client.retries import with_retries
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.money.budget import Budget, BudgetUse
from airflow_provider_aimlbilling.money.usage import CLOCK_MARGIN, Usage, combine_usage, split_window

# An answer may end a little before the requested time, since usage is recorded late anyway. One that ends earlier is
# not the answer to the request.
MAX_USAGE_LAG = timedelta(minutes=5)


def read_budget_use(api: Api, budget: Budget) -> BudgetUse:
    """
    Read what a key has spent since the budget's current period began.

    :param api: the API.
    :param budget: the budget.
    :raises AimlBillingBudgetError: the budget's time zone is not known on this machine.
    :raises AimlBillingContractError: the answer leaves out a part of the period.
    :raises AimlBillingError: or another subclass, see :meth:`Api.get`.
    """
    now = datetime.now(timezone.utc)
    since, until = budget.period_at(now)
    # The API's clock stamps the charges, and may be ahead. What it stamps from `until` on is of the next period.
    end = min(api.clock.latest(now) + CLOCK_MARGIN, until)
    usage = _read_window(api, "/v2/usage", {}, since, end)
    if usage.start > since:
        raise AimlBillingContractError(
            f"The API reported the usage since {iso_time(usage.start)}, but the budget's period began at "
            f"{iso_time(since)}. What was spent before is unknown. Update this provider."
        )
    if usage.end < max(since, api.clock.earliest(now) - MAX_USAGE_LAG):
        raise AimlBillingContractError(
            f"The API was asked for the usage up to now, and answered up to {iso_time(usage.end)}. What was spent "
            "since then is unknown. Update this provider."
        )
    return BudgetUse(budget, since, until, usage.total.amount)


def read_spending(
    api: Api, retries: int, start: datetime, end: datetime, by_model: bool, options: Mapping[str, str | None]
) -> Usage:
    """
    Read what a key has spent, in parts if the API does not accept the window as a whole.

    :param api: the API.
    :param retries: as in :class:`AimlBillingClient`, for each part.
    :param start: start of the window; with a time zone.
    :param end: end of the window; with a time zone.
    :param by_model: also report spending by model.
    :param options: further parameters of the call.
    :raises ValueError: a time without a time zone, or an end before its start.
    :raises AimlBillingError: or a subclass, see :meth:`Api.get`.
    """
    iso_time(start), iso_time(end)  # both must have a time zone
    if end < start:
        raise ValueError("The end of the window is before its start.")
    query = {name: value for name, value in options.items() if value}
    path = "/v2/usage/detail" if by_model else "/v2/usage"

    def read(window: tuple[datetime, datetime]) -> Usage:
        return _read_window(api, path, query, *window)

    # In UTC: in a zone with daylight saving time, 92 days may be an hour longer than the API accepts.
    windows = split_window(start.astimezone(timezone.utc), end.astimezone(timezone.utc))
    return combine_usage([with_retries(partial(read, window), retries) for window in windows])


def _read_window(api: Api, path: str, query: Mapping[str, str], start: datetime, end: datetime) -> Usage:
    """Read the usage of a window; up to the present by the API's clock if it refuses an end in the future."""

    def read(until: datetime) -> Usage:
        times = {"start": iso_time(start), "end": iso_time(until)}
        return read_usage(api.get(path, {**times, **query}, max_bytes=MAX_USAGE_BYTES))

    if not api.clock.accepts_future:
        end = max(start, min(end, api.clock.present(datetime.now(timezone.utc))))
    try:
        return read(end)
    except AimlBillingContractError:
        now = datetime.now(timezone.utc)
        present = api.clock.present(now)
        if not api.refuses_future(end, now) or present < start:
            raise
    usage = read(present)
    api.clock.accepts_future = False  # it need not be tried with each poll
    return usage
