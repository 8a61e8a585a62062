"""Readings of one connection's balance, for all polls of it in one event loop: one request at a time."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from airflow_provider_aimlbilling.client.client import AimlBillingClient
from airflow_provider_aimlbilling.client.settings import (
    Settings,
    missing_connection_error,
    unreachable_connection_error,
)
from airflow_provider_aimlbilling.compat import AirflowNotFoundException, get_async_connection
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingError,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.metrics import gauge_balance
from airflow_provider_aimlbilling.money.balance import Balance

# Seconds that one reading may take in a triggerer, whatever the connection's timeout.
MAX_READING_TIME = 60.0
# For how many seconds a new gate respects a Retry-After that was sent before it came: the key may have been fixed.
MAX_SHARED_RETRY_AFTER = 60.0
# At most one line about the state of the API in so many seconds, for each connection.
LOG_INTERVAL = 60.0

_log = logging.getLogger(__name__)


class BalanceSource:
    """
    Reads the balance of one connection.

    All polls of the connection in an event loop use the same source, so there is never more than one call in flight,
    and a connection whose server hangs holds one thread. The connection is looked up for each reading: a rotated key
    counts at once.

    :param conn_id: id of the Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self.not_before = 0.0  # by time.monotonic(); earlier, no new gate may cause a request
        self._conn_id = conn_id
        self._client: AimlBillingClient | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._polls = 0
        self._lock = asyncio.Lock()
        self._latest: dict[frozenset[tuple[str, Any]], tuple[float, Balance | AimlBillingError]] = {}
        self._logged_error = ""
        self._log_again_at = -math.inf

    def __enter__(self) -> BalanceSource:
        self._polls += 1
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client and give the thread back when the last poll ends, even if a call is still running."""
        self._polls -= 1
        if self._polls:
            return
        self._latest.clear()
        if self._client is not None:
            self._client.close()
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        self._client = self._executor = None

    async def read(self, options: Mapping[str, Any], max_age: float) -> Balance | AimlBillingError:
        """
        Return the balance, or the error that reading it ended with. It never raises.

        :param options: what to read besides the balance, as arguments of :meth:`AimlBillingClient.get_balance`.
        :param max_age: accept what another poll has read, if that was less than so many seconds ago.
        """
        key = frozenset(options.items())
        async with self._lock:
            read_at, reading = self._latest.get(key, (-math.inf, None))
            if reading is None or time.monotonic() - read_at >= max_age:
                reading = await self._request(options)
                self._latest[key] = time.monotonic(), reading
                self._log_change(reading)
        gap = max(max_age, min(getattr(reading, "retry_after", None) or 0.0, MAX_SHARED_RETRY_AFTER))
        self.not_before = max(self.not_before, time.monotonic() + gap)
        return reading

    async def _request(self, options: Mapping[str, Any]) -> Balance | AimlBillingError:
        try:
            client = await self._current_client()
            try:
                return await self._call(client, options)
            except AimlBillingAuthError:
                renewed = await self._current_client()
                if renewed is client:
                    raise
                return await self._call(renewed, options)  # the key was replaced just after the look-up
        except AimlBillingError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a poll must not raise
            # Only the type of an error that is not ours is passed on: its text may contain anything.
            return AimlBillingError(f"Reading the balance failed unexpectedly with {type(error).__name__}.")

    async def _call(self, client: AimlBillingClient, options: Mapping[str, Any]) -> Balance:
        # A thread instead of a second, asynchronous client. Not one of the event loop's own: each log line of a trigger
        # needs one of those, and APIs that hang could hold all of them.
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aimlbilling-poll")
        call = partial(client.get_balance, with_top_up=True, max_seconds=MAX_READING_TIME, **options)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def _current_client(self) -> AimlBillingClient:
        try:
            settings = Settings.from_connection(await get_async_connection(self._conn_id))
        except AimlBillingError:
            raise
        except Exception as error:  # noqa: BLE001 - a poll must not raise; only our own texts are passed on
            reason = "" if isinstance(error, AirflowNotFoundException) else type(error).__name__
            if self._client is None:
                raise missing_connection_error(self._conn_id, reason) from None
            raise unreachable_connection_error(self._conn_id, reason or "not found") from None
        if self._client is None or self._client.settings != settings:
            if self._client is not None:
                self._client.close()
            self._client = AimlBillingClient(settings, retries=0, on_balance=partial(gauge_balance, self._conn_id))
        return self._client

    def _log_change(self, reading: Balance | AimlBillingError) -> None:
        """Log in the triggerer's own log when the API stops answering as it should, and when it answers again."""
        works = not isinstance(reading, AimlBillingError) or isinstance(reading, InsufficientBalanceError)
        error = "" if works else f"{type(reading).__name__} {getattr(reading, 'status', None)}"
        now = time.monotonic()
        if error == self._logged_error or now < self._log_again_at:
            return
        self._logged_error, self._log_again_at = error, now + LOG_INTERVAL
        if works:
            _log.info("The balance of the connection %r can be read again.", self._conn_id)
        else:
            _log.warning("The balance of the connection %r cannot be read: %s", self._conn_id, reading)


_sources: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, BalanceSource]] = WeakKeyDictionary()


def balance_source(conn_id: str) -> BalanceSource:
    """
    Return the source of a connection in the running event loop. Use it as a context manager while polling.

    It is kept when nobody polls, because it knows when the connection may be polled again.

    :param conn_id: id of the Airflow connection.
    """
    sources = _sources.setdefault(asyncio.get_running_loop(), {})
    if conn_id not in sources:
        sources[conn_id] = BalanceSource(conn_id)
    return sources[conn_id]
