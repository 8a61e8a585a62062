"""The state of an account in one word and a sentence, for people who look at it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from airflow_provider_aimlbilling.money.amount import Amount, Number
from airflow_provider_aimlbilling.money.balance import KeyLimit

# An older balance does not tell whether the account can pay now.
MAX_AGE = timedelta(minutes=15)

FINE, LOW, EMPTY, UNKNOWN = "fine", "low", "empty", "unknown"


@dataclass(frozen=True)
class Funds:
    """
    What is known of what an account can pay.

    :param held: credits; negative if the account is overdrawn, ``None`` if the API only says that it is out of credits.
    :param low_mark: credits below which the account counts as low by its own settings; ``None`` if that is unknown.
    :param key_limit: what the key may spend; ``None`` if it has no limit, or that is unknown.
    """

    held: Number | None
    low_mark: Number | None = None
    key_limit: KeyLimit | None = None


@dataclass(frozen=True)
class AccountState:
    """
    The state of an account.

    :param name: ``fine``, ``low``, ``empty`` or ``unknown``.
    :param text: the state in words.
    """

    name: str
    text: str


def account_state(funds: Funds | None, age: timedelta) -> AccountState:
    """
    Return the state of an account.

    A balance of exactly the low mark is not below it. A key that has spent its limit cannot pay, whatever the account
    holds.

    :param funds: what the last reading said; ``None`` if there was none.
    :param age: how old that reading is.
    """
    if funds is None:
        return AccountState(UNKNOWN, "Unknown: the balance could not be read yet.")
    if age > MAX_AGE:
        minutes = MAX_AGE // timedelta(minutes=1)
        return AccountState(UNKNOWN, f"Unknown: the balance was last read more than {minutes} minutes ago.")
    held = funds.held
    if held is None:
        return AccountState(EMPTY, "Empty: the API says that the account is out of credits.")
    if held < 0:
        return AccountState(EMPTY, f"Empty: the account is overdrawn by {Amount(-held).usd_text}.")
    if not held:
        return AccountState(EMPTY, "Empty: the account holds nothing.")
    if funds.key_limit is not None and not funds.key_limit.remaining.credits:
        return AccountState(EMPTY, "Empty: the key has spent its limit, so it cannot use what the account holds.")
    if funds.low_mark is None:
        return AccountState(FINE, "Fine: the account can pay. Its low-balance threshold is not known.")
    mark = Amount(funds.low_mark).usd_text
    if held < funds.low_mark:
        return AccountState(LOW, f"Low: below the account's low-balance threshold of {mark}.")
    return AccountState(FINE, f"Fine: not below the account's low-balance threshold of {mark}.")
