"""What the page reads of an account through the client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TypeVar

from airflow_provider_aimlbilling.client import AimlBillingClient
from airflow_provider_aimlbilling.client.runway import read_runway_of
from airflow_provider_aimlbilling.client.spending import MAX_USAGE_LAG
from airflow_provider_aimlbilling.client.usage_groups import add_amounts, midnight, model_spending
from airflow_provider_aimlbilling.exceptions import AimlBillingError, InsufficientBalanceError
from airflow_provider_aimlbilling.money.account_state import Funds
from airflow_provider_aimlbilling.money.amount import Amount, Number
from airflow_provider_aimlbilling.money.runway import Runway
from airflow_provider_aimlbilling.money.time_zones import time_zone

# The longest window that the page shows, which is also the longest that the API reports in one answer. Shorter ones are
# cut from it, so that they take no further request.
SPENDING_DAYS = 92
# With thousands of models, preparing the response would hold up the API server. This much is quick, and readable.
MOST_MODELS = 50
OTHER_MODELS = f"models beyond the {MOST_MODELS} most expensive"

T = TypeVar("T")


@dataclass(frozen=True)
class Account:
    """
    An account as it was read. What could not be read has a text that says why.

    :param funds: the balance, the low mark and the key's limit.
    :param key_limit_text: why the key's limit is unknown; ``None`` if it is known, or there is none.
    :param auto_top_up: ``off``, or ``on`` with its terms, or the API's word for it; ``None`` if it is unknown.
    :param runway: for how long the money lasts; ``None`` if that is unknown.
    :param runway_text: why it is.
    """

    funds: Funds
    key_limit_text: str | None
    auto_top_up: str | None
    runway: Runway | None
    runway_text: str | None


@dataclass(frozen=True)
class Spending:
    """
    What a key spent, by day and model.

    :param last_day: the day on which it was read, in the time zone of the days.
    :param by_day_and_model: amounts by day and model, for :data:`SPENDING_DAYS` days up to the last.
    """

    last_day: date
    by_day_and_model: Mapping[tuple[date, str], Amount]


def read_account(client: AimlBillingClient) -> Account:
    """
    Read an account: its balance, and as much of the rest as can be read.

    :param client: the client of one connection.
    :raises AimlBillingError: or a subclass: the balance could not be read. Out of credits is a balance.
    """
    held: Number | None
    low_mark: Number | None = None
    status: str | None = None
    try:
        balance = client.get_balance()
        held, low_mark, status = balance.balance, balance.low_balance_threshold, balance.auto_debit_status
    except InsufficientBalanceError as refusal:
        overdrawn: Number | None = refusal.overdrawn_credits
        held = None if overdrawn is None else -overdrawn
    key_limit, key_limit_text = _try(client.get_key_limit)
    top_up, _ = _try(client.get_top_up)
    if top_up is not None:
        status = "enabled" if top_up.is_enabled else "disabled"
    runway, runway_text = _try(lambda: read_runway_of(client, held or 0, auto_debit_status=status))
    return Account(
        Funds(held, low_mark, key_limit),
        key_limit_text,
        str(top_up).removeprefix("auto top-up is ") if top_up else status,
        runway,
        runway_text,
    )


def read_spending(client: AimlBillingClient, tz: str) -> Spending:
    """
    Read what a key spent.

    :param client: the client of one connection.
    :param tz: IANA name of the time zone in which days begin and end.
    :raises AimlBillingError: or a subclass, as in :meth:`AimlBillingClient.get_usage`.
    """
    zone = time_zone(tz)
    now = datetime.now(timezone.utc)
    today = now.astimezone(zone).date()
    start = midnight(today - timedelta(days=SPENDING_DAYS - 1), zone)
    usage = client.get_usage(start=start, end=now, group_by="day,model", tz=tz)
    return Spending(today, _few_models(model_spending(usage, start, now, zone, lag=MAX_USAGE_LAG)))


def _few_models(spent: Mapping[tuple[date, str], Amount]) -> Mapping[tuple[date, str], Amount]:
    """Return spending by day and model with the models beyond the most expensive as one."""
    totals: dict[str, Amount] = {}
    for (_, model), amount in spent.items():
        totals[model] = add_amounts(totals.get(model), amount)
    named = set(sorted(totals, key=lambda model: (-Decimal(totals[model].credits), model))[:MOST_MODELS])
    few: dict[tuple[date, str], Amount] = {}
    for (day, model), amount in spent.items():
        key = day, model if model in named else OTHER_MODELS
        few[key] = add_amounts(few.get(key), amount)
    return few


def _try(read: Callable[[], T]) -> tuple[T | None, str | None]:
    """Return what a call returned, or why it failed. The balance must not depend on it."""
    try:
        return read(), None
    except AimlBillingError as error:
        return None, str(error)
