"""The account's ledger, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from airflow_provider_aimlbilling.client.api import Api, iso_time
from airflow_provider_aimlbilling.client.responses import read_transactions
from airflow_provider_aimlbilling.client.retries import with_retries
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.money.usage import DIRECTIONS, TRANSACTION_TYPES, Transaction

_LEDGER = "/v2/billing/transactions"


def ledger_query(
    start: datetime | None, end: datetime | None, direction: str | None, type: str | None
) -> dict[str, str]:
    """
    Return the query for a part of the ledger.

    :param start: only entries from this time on; with a time zone.
    :param end: only entries before this time; with a time zone.
    :param direction: ``TOPUP`` or ``CHARGE``.
    :param type: one of :data:`~airflow_provider_aimlbilling.money.usage.TRANSACTION_TYPES`.
    :raises ValueError: a time without a time zone, an empty window, or an unknown direction or type.
    """
    if direction is not None and direction not in DIRECTIONS:
        raise ValueError(f"direction is one of {', '.join(DIRECTIONS)}, not {direction!r}.")
    if type is not None and type not in TRANSACTION_TYPES:
        raise ValueError(f"type is one of {', '.join(TRANSACTION_TYPES)}, not {type!r}.")
    times = {"from": start and iso_time(start), "to": end and iso_time(end)}
    if start and end and end - start < timedelta(milliseconds=1):
        raise ValueError("The end of the window must be after its start.")
    query = {"limit": "100", "direction": direction, "type": type, **times}
    return {name: value for name, value in query.items() if value}


def iter_ledger(api: Api, query: Mapping[str, str], retries: int) -> Iterator[Transaction]:
    """
    Iterate over the ledger, newest entry first. A page is requested when its first entry is needed.

    :param api: the API.
    :param query: filters and page size.
    :param retries: how often a page that got no believable answer is requested again.
    :raises AimlBillingError: or a subclass, see :meth:`Api.get`.
    """
    seen: set[str] = set()
    cursor: str | None = None
    while True:
        page_query = {**query, "cursor": cursor} if cursor else dict(query)

        def read_page(page_query: Mapping[str, str] = page_query) -> tuple[list[Transaction], str | None]:
            return read_transactions(api.get(_LEDGER, page_query))

        entries, cursor = with_retries(read_page, retries)
        yield from entries
        if cursor is None:
            return
        if cursor in seen:
            raise AimlBillingContractError("The ledger returned the same cursor twice. Please report this.")
        seen.add(cursor)
