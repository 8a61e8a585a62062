"""What a key has spent of a budget, from ``GET /v2/usage``."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow_provider_aimlbilling.client.api import Api, iso_time
from airflow_provider_aimlbilling.client.responses import read_usage
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.money.budget import Budget, BudgetUse


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
    # Times are truncated to milliseconds, and a window excludes its end: add one millisecond to include the latest
    # charges. So the window is never empty, not even when the period has just begun.
    end = now + timedelta(milliseconds=1)
    usage = read_usage(api.get("/v2/usage", {"start": iso_time(since), "end": iso_time(end)}))
    if usage.start > since:
        raise AimlBillingContractError(
            f"The API reported the usage since {iso_time(usage.start)}, but the budget's period began at "
            f"{iso_time(since)}. What was spent before is unknown. Update this provider."
        )
    return BudgetUse(budget, since, until, usage.total.amount)
