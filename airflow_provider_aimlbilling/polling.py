"""The poll behind waiting triggers: one reading after another, faults as values. It never raises and never ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_aimlbilling.balance import Balance
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.transport import LONGEST_RETRY_AFTER

if TYPE_CHECKING:
    import requests

    from airflow_provider_aimlbilling.connection import Settings

# What one poll said. None: nothing was asked, but time has passed.
Reading = Balance | AimlBillingError | None

# Seconds between two requests where gates come and go so quickly that each begins a poll of its own.
PEACE = 1.0
# The longest that a new poll keeps a Retry-After that another was told: the key may have been mended since.
PATIENCE = 60.0

# Not those of the event loop: each log line of a trigger needs one, and an API that hangs may hold all that there are.
_threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="aimlbilling-poll")

# When a connection may be asked again, by the monotonic clock, also where nobody waited on it in between.
_not_before: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, float]] = WeakKeyDictionary()


class _PollHook(AimlBillingHook):
    def _opened(self) -> tuple[Settings, requests.Session]:
        # It looks nothing up by itself: in a thread of a triggerer that stops, that would hang. And a poll that was
        # closed while it asked asks no further.
        if self._open is None:
            raise AimlBillingUnavailable("Nobody waits any more, so nothing more is asked.")
        return self._open


async def poll(
    conn_id: str, waits: Iterator[float], tick: float, next_poll_at: float, asked: Mapping[str, Any] | None = None
) -> AsyncGenerator[Reading, None]:
    """
    Poll for ever. Yields faults as values and never raises.

    :param waits: seconds before each further poll; an API that asks for more by Retry-After gets it.
    :param tick: seconds after which a long wait yields ``None``, so that deadlines are kept also then.
    :param asked: what is asked beside the balance, as the arguments of :meth:`AimlBillingHook.get_balance`.
    """
    hook = _PollHook(conn_id, retries=0)
    found = False
    not_before = _not_before.setdefault(asyncio.get_running_loop(), {})
    # Wall-clock time came from another process. From here on the clock may be set: that must not stop a poll.
    wait = min(next_poll_at - time.time(), max(tick, LONGEST_RETRY_AFTER))
    due = max(time.monotonic() + wait, not_before.get(conn_id, 0.0))
    try:
        while True:
            while (left := due - time.monotonic()) > 0:
                await asyncio.sleep(min(left, tick))
                if left > tick:
                    yield None
            # Looked up for each poll: a key that was mended or rotated meanwhile counts at once.
            fault = await _look_up(hook, found)
            found = found or fault is None
            reading = fault or await _ask(hook, asked or {})
            retry_after, wait = getattr(reading, "retry_after", None) or 0.0, next(waits)
            peace = max(min(retry_after, PATIENCE), min(wait, PEACE))
            not_before[conn_id] = max(time.monotonic() + peace, not_before.get(conn_id, 0.0))
            yield reading
            due = time.monotonic() + max(wait, retry_after)
    finally:
        hook.close()


async def _look_up(hook: AimlBillingHook, found: bool) -> AimlBillingError | None:
    try:
        hook.use_connection(await get_async_connection(hook.aimlbilling_conn_id))
    except AimlBillingError as error:
        return error
    except Exception as fault:  # noqa: BLE001 - a poll must not raise
        # What was there a moment ago is more likely out of reach than gone, and a shared poll speaks for many gates.
        # Of texts that are not ours only the type leaves: they may hold anything.
        if found:
            return AimlBillingUnavailable(
                f"The connection {hook.aimlbilling_conn_id!r} cannot be looked up ({type(fault).__name__})."
            )
        if isinstance(fault, AirflowNotFoundException):
            return hook.connection_missing()
        return AimlBillingError(f"Looking up the connection broke with {type(fault).__name__}.")
    return None


async def _ask(hook: AimlBillingHook, asked: Mapping[str, Any]) -> Balance | AimlBillingError:
    try:
        # One thread for one poll, in place of a second, asynchronous client.
        ask = partial(hook.get_balance, with_top_up=True, **asked)
        return await asyncio.get_running_loop().run_in_executor(_threads, ask)
    except AimlBillingError as error:
        return error
    except Exception as fault:  # noqa: BLE001 - a poll must not raise
        return AimlBillingError(f"The poll of the balance broke with {type(fault).__name__}.")
