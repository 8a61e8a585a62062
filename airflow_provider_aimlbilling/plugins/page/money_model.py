"""How the page's JSON writes an amount of money."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel

from airflow_provider_aimlbilling.money.amount import Amount, Number, format_usd


class Money(BaseModel):
    """
    An exact amount.

    :param usd: US dollars as decimal text.
    :param credits: credits as decimal text.
    :param text: the amount for people.
    """

    usd: str
    credits: str
    text: str


def money(credits: Number | Amount | None) -> Money | None:
    """
    Return an amount for JSON.

    :param credits: credits, negative for a debt; ``None`` if the amount is unknown.
    """
    return None if credits is None else known_money(credits)


def known_money(credits: Number | Amount) -> Money:
    """
    Return a known amount for JSON.

    :param credits: credits, negative for a debt.
    """
    number = Decimal(credits.credits if isinstance(credits, Amount) else credits)
    amount, sign = Amount(abs(number)), "-" if number < 0 else ""
    return Money(
        usd=sign + format_usd(amount.usd),
        credits=sign + format(Decimal(amount.credits), "f"),
        text=sign + amount.usd_text,
    )
