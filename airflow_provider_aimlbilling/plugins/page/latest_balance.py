"""What an account held when the page last read it, for the gates that wait for it."""

from __future__ import annotations

from airflow_provider_aimlbilling.money.account_state import MAX_AGE
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.top_up_needed import KnownBalance
from airflow_provider_aimlbilling.plugins.page.reading_cache import Reading, ReadingCache
from airflow_provider_aimlbilling.plugins.page.readings import Account


def latest_balance(cache: ReadingCache, connection_id: str) -> KnownBalance | None:
    """
    Return the last balance that was read; ``None`` if none is known, or it is too old. The API is not asked.

    :param cache: the figures of the accounts.
    :param connection_id: id of the connection.
    """
    reading: Reading[Account] = cache.latest(connection_id, "account")
    if reading.value is None or reading.read_at is None or cache.now() - reading.read_at > MAX_AGE:
        return None
    funds = reading.value.funds
    if funds.held is None:
        return None
    balance = Balance(
        max(funds.held, 0),
        low_balance=None if funds.low_mark is None else funds.held < funds.low_mark,
        low_balance_threshold=funds.low_mark,
        key_limit=funds.key_limit,
    )
    return KnownBalance(balance, key_limit_known=reading.value.key_limit_text is None, overdrawn=max(-funds.held, 0))
