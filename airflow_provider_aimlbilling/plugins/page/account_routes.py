"""The routes for connections, their accounts, and what they spent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from airflow.configuration import conf
from fastapi import APIRouter, Depends, HTTPException
from starlette.concurrency import run_in_threadpool

from airflow_provider_aimlbilling.client import AimlBillingClient
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.money.time_zones import time_zone
from airflow_provider_aimlbilling.plugins.page.access import (
    MAY_READ_CONNECTION,
    CurrentUser,
    readable_connection_ids,
)
from airflow_provider_aimlbilling.plugins.page.account_figures import account_figures, spending_figures
from airflow_provider_aimlbilling.plugins.page.account_models import (
    AccountFigures,
    ConnectionEntry,
    Connections,
    SpendingFigures,
)
from airflow_provider_aimlbilling.plugins.page.known_connections import listed_connections
from airflow_provider_aimlbilling.plugins.page.reading_cache import (
    REFRESH_SECONDS,
    Reading,
    ReadingCache,
    TooManyReadingsError,
)
from airflow_provider_aimlbilling.plugins.page.readings import SPENDING_DAYS, read_account, read_spending

WINDOWS = ("7", "28", str(SPENDING_DAYS))
MAX_ID_LENGTH = 250  # as in Airflow's database

# How long the list of connections waits for a secrets backend.
_LOOK_UP_SECONDS = 3.0

T = TypeVar("T")


def _check_id(connection_id: str) -> None:
    if not connection_id or len(connection_id) > MAX_ID_LENGTH or not connection_id.isprintable():
        raise HTTPException(404, "There is no connection with this id.")


def _nothing(_client: AimlBillingClient) -> bool:
    return True


def new_router(readings: ReadingCache) -> APIRouter:
    """
    Return the routes.

    :param readings: the figures of the accounts.
    """
    router = APIRouter()
    # The order counts: not every database takes every id that a request may have.
    may_read = [Depends(_check_id), MAY_READ_CONNECTION]

    async def reading_of(connection_id: str, name: str, read: Callable[[AimlBillingClient], T]) -> Reading[T]:
        try:
            reading = await readings.get(connection_id, name, read)
        except TooManyReadingsError as error:
            raise HTTPException(429, str(error)) from None
        if reading.is_missing:
            raise HTTPException(404, reading.error)
        return reading

    @router.get("/connections")
    async def connections(user: CurrentUser) -> Connections:
        found = await run_in_threadpool(listed_connections)
        if DEFAULT_CONN_ID not in found and conf.get("secrets", "backend", fallback=""):
            # Users who may not see it must not make the secrets backend work.
            may_look_up = await run_in_threadpool(readable_connection_ids, user, [DEFAULT_CONN_ID])
        else:
            may_look_up = set()
        if may_look_up:
            try:
                default = await readings.get(DEFAULT_CONN_ID, "look-up", _nothing, _LOOK_UP_SECONDS)
            except TooManyReadingsError:
                default = Reading()
            if default.value:
                found[DEFAULT_CONN_ID] = None
        readable = await run_in_threadpool(readable_connection_ids, user, found)
        return Connections(
            connections=[ConnectionEntry(connection_id=name, description=found[name]) for name in sorted(readable)],
            refresh_seconds=REFRESH_SECONDS,
        )

    @router.get("/connections/{connection_id:path}/account", dependencies=may_read)
    async def account(connection_id: str) -> AccountFigures:
        reading = await reading_of(connection_id, "account", read_account)
        return account_figures(connection_id, reading, readings.now())

    @router.get("/connections/{connection_id:path}/spending", dependencies=may_read)
    async def spending(connection_id: str, days: str = "28", tz: str = "UTC") -> SpendingFigures:
        if days not in WINDOWS:
            raise HTTPException(422, f"days must be one of {', '.join(WINDOWS)}.")
        try:
            time_zone(tz)
        except ValueError as error:
            raise HTTPException(422, f"tz: {error}") from None
        reading = await reading_of(connection_id, f"spending {tz}", partial(read_spending, tz=tz))
        return spending_figures(connection_id, int(days), tz, reading)

    return router
