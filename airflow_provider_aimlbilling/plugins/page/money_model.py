"""An amount of money in the page's JSON."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel

from airflow_provider_aimlbilling.money.amount import Amount, format_usd


class Money(BaseModel):
    """
    An exact amount.

    :param usd: in US dollars, as decimal text.
    :param credits: in the API's unit, as decimal text.
    :param text: for people.
    """

    usd: str
    credits: str
    text: str

    @classmethod
    def of(cls, amount: Amount) -> Money:
        """
        Return an amount for the page.

        :param amount: the amount.
        """
        return cls(usd=format_usd(amount.usd), credits=f"{Decimal(amount.credits):f}", text=amount.usd_text)


def money_or_none(amount: Amount | None) -> Money | None:
    """
    Return an amount for the page; ``None`` if it is unknown.

    :param amount: the amount.
    """
    return None if amount is None else Money.of(amount)
