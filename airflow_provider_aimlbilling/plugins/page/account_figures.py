"""From readings to the JSON of the page."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from airflow_provider_aimlbilling.links.billing import BILLING_PAGE
from airflow_provider_aimlbilling.money.account_state import account_state
from airflow_provider_aimlbilling.money.amount import EXACT, Amount
from airflow_provider_aimlbilling.money.balance import KeyLimit
from airflow_provider_aimlbilling.money.runway import Runway
from airflow_provider_aimlbilling.plugins.page.account_models import (
    AccountFigures,
    KeyLimitFigures,
    RunwayFigures,
    SpendingFigures,
    SpendingRow,
)
from airflow_provider_aimlbilling.plugins.page.money_model import known_money, money
from airflow_provider_aimlbilling.plugins.page.reading_cache import Reading
from airflow_provider_aimlbilling.plugins.page.readings import Account, Spending

MISSING_TEXT = (
    "These are the costs of this connection's key. The API reports a cost some time after the request that caused it, "
    "so costs of the last hour may still be missing."
)


def account_figures(connection_id: str, reading: Reading[Account], now: datetime) -> AccountFigures:
    """
    Return the figures of an account.

    :param connection_id: id of the connection.
    :param reading: the last reading.
    :param now: the time, to tell how old it is.
    """
    account = reading.value
    age = now - reading.read_at if reading.read_at else timedelta()
    state = account_state(account.funds if account else None, age)
    funds = account.funds if account else None
    return AccountFigures(
        connection_id=connection_id,
        state=state.name,
        state_text=state.text,
        balance=money(funds.held if funds else None),
        low_mark=money(funds.low_mark if funds else None),
        key_limit=_key_limit(funds.key_limit) if funds else None,
        key_limit_text=account.key_limit_text if account else None,
        auto_top_up=account.auto_top_up if account else None,
        read_at=reading.read_at,
        error=reading.error,
        runway=_runway(account.runway) if account else None,
        runway_text=account.runway_text if account else None,
        billing_url=BILLING_PAGE,
    )


def spending_figures(connection_id: str, days: int, tz: str, reading: Reading[Spending]) -> SpendingFigures:
    """
    Return what was spent on the last days of a reading.

    :param connection_id: id of the connection.
    :param days: how many days, the last included.
    :param tz: time zone of the days.
    :param reading: the last reading.
    """
    spending = reading.value
    first = spending.last_day - timedelta(days=days - 1) if spending else None
    spent = {
        key: amount
        for key, amount in sorted((spending.by_day_and_model if spending else {}).items())
        if amount.credits and first is not None and key[0] >= first
    }
    by_model: dict[str, Decimal] = {}
    for (_, model), amount in spent.items():
        by_model[model] = EXACT.add(by_model.get(model, Decimal(0)), Decimal(amount.credits))
    total = Decimal(0)
    for credits in by_model.values():
        total = EXACT.add(total, credits)
    return SpendingFigures(
        connection_id=connection_id,
        days=days,
        tz=tz,
        first_day=first,
        last_day=spending.last_day if spending else None,
        read_at=reading.read_at,
        error=reading.error,
        total=known_money(Amount(total)) if spending else None,
        rows=[SpendingRow(day=day, model=model, cost=known_money(spent[day, model])) for day, model in spent],
        models=sorted(by_model, key=lambda model: (-by_model[model], model)),
        missing_text=MISSING_TEXT,
    )


def _key_limit(limit: KeyLimit | None) -> KeyLimitFigures | None:
    if limit is None:
        return None
    return KeyLimitFigures(
        period=limit.period,
        limit=known_money(limit.limit),
        spent=money(limit.spent),
        remaining=known_money(limit.remaining),
    )


def _runway(runway: Runway | None) -> RunwayFigures | None:
    if runway is None:
        return None
    return RunwayFigures(
        shortest_days=format(runway.shortest_days, "f"),
        longest_days=format(runway.longest_days, "f"),
        summary=runway.summary,
    )
