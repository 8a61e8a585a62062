"""The account's ledger, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from airflow_provider_aimlbilling.client.api import Api
from airflow_provider_aimlbilling.client.responses import read_transactions
from airflow_provider_aimlbilling.client.retries import with_retries
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.money.usage import Transaction

_LEDGER = "/v2/billing/transactions"


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
