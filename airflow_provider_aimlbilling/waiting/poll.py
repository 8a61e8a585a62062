"""The poll behind waiting triggers: one reading after another, errors as values. It never raises and never ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from airflow_provider_aimlbilling.client.client import AimlBillingClient
from airflow_provider_aimlbilling.client.http import MAX_RETRY_AFTER
from airflow_provider_aimlbilling.client.settings import Settings, missing_connection_error
from airflow_provider_aimlbilling.compat import AirflowNotFoundException, get_async_connection
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable
from airflow_provider_aimlbilling.metrics import gauge_balance
from airflow_provider_aimlbilling.money.balance import Balance

# The result of one poll. None: time has passed, but nothing was requested.
Reading = Balance | AimlBillingError | None

# Least seconds between two requests for a connection when gates come and go so quickly that each starts a poll.
MIN_POLL_GAP = 1.0
# For how many seconds a new poll respects a Retry-After that an earlier one received: the key may have been fixed.
MAX_SHARED_RETRY_AFTER = 60.0

# Not the event loop's own threads: each log line of a trigger needs one of those, and an API that hangs could hold all.
_threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="aimlbilling-poll")

# When a connection may be polled again, by time.monotonic(), also if nobody has been waiting in the meantime.
_not_before: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, float]] = WeakKeyDictionary()


async def poll(
    conn_id: str, waits: Iterator[float], tick: float, next_poll_at: float, options: Mapping[str, Any] | None = None
) -> AsyncGenerator[Reading, None]:
    """
    Poll forever. Errors are yielded, never raised.

    :param conn_id: id of the Airflow connection.
    :param waits: seconds before each further poll; a longer ``Retry-After`` of the API takes precedence.
    :param tick: seconds after which a long wait yields ``None``, so that deadlines are met even then.
    :param next_poll_at: seconds since the epoch before which nothing is requested.
    :param options: what to read besides the balance, as arguments of :meth:`AimlBillingClient.get_balance`.
    """
    source = _BalanceSource(conn_id)
    not_before = _not_before.setdefault(asyncio.get_running_loop(), {})
    # The wall-clock time came from another process. From here on the clock may be set without stopping the poll.
    wait = min(next_poll_at - time.time(), max(tick, MAX_RETRY_AFTER))
    due = max(time.monotonic() + wait, not_before.get(conn_id, 0.0))
    try:
        while True:
            while (left := due - time.monotonic()) > 0:
                await asyncio.sleep(min(left, tick))
                if left > tick:
                    yield None
            reading = await source.read(options or {})
            retry_after, wait = getattr(reading, "retry_after", None) or 0.0, next(waits)
            gap = max(min(retry_after, MAX_SHARED_RETRY_AFTER), min(wait, MIN_POLL_GAP))
            not_before[conn_id] = max(time.monotonic() + gap, not_before.get(conn_id, 0.0))
            yield reading
            due = time.monotonic() + max(wait, retry_after)
    finally:
        source.close()


class _BalanceSource:
    """Reads the balance of one connection, which it looks up for each reading: a rotated key counts at once."""

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._client: AimlBillingClient | None = None

    async def read(self, options: Mapping[str, Any]) -> Balance | AimlBillingError:
        try:
            client = await self._current_client()
            # One thread for one poll, instead of a second, asynchronous client.
            call = partial(client.get_balance, with_top_up=True, **options)
            return await asyncio.get_running_loop().run_in_executor(_threads, call)
        except AimlBillingError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a poll must not raise
            # Only the type of an error that is not ours is passed on: its text may contain anything.
            return AimlBillingError(f"Reading the balance failed unexpectedly with {type(error).__name__}.")

    async def _current_client(self) -> AimlBillingClient:
        try:
            settings = Settings.from_connection(await get_async_connection(self._conn_id))
        except AimlBillingError:
            raise
        except Exception as error:  # noqa: BLE001 - a poll must not raise; only our own texts are passed on
            # A connection that was found before is more likely unreachable than gone, and a shared poll serves many
            # gates.
            if self._client is not None:
                raise AimlBillingUnavailable(
                    f"The connection {self._conn_id!r} cannot be looked up ({type(error).__name__})."
                ) from None
            if isinstance(error, AirflowNotFoundException):
                raise missing_connection_error(self._conn_id) from None
            raise AimlBillingError(f"Looking up the connection failed with {type(error).__name__}.") from None
        if self._client is None or self._client.settings != settings:
            self.close()
            self._client = AimlBillingClient(settings, retries=0, on_balance=partial(gauge_balance, self._conn_id))
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
