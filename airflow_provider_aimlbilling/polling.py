"""The poll behind waiting triggers: one reading after another, faults as values. It never raises and never ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_aimlbilling.balance import Balance
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

# What one poll said. None: nothing was asked, but time has passed.
Reading = Balance | AimlBillingError | None


async def poll(
    conn_id: str, waits: Iterator[float], tick: float, next_poll_at: float, asked: Mapping[str, Any] | None = None
) -> AsyncGenerator[Reading, None]:
    """
    Poll for ever. Yields faults as values and never raises.

    :param waits: seconds before each further poll; an API that asks for more by Retry-After gets it.
    :param tick: seconds after which a long wait yields ``None``, so that deadlines are kept also then.
    :param asked: what is asked beside the balance, as the arguments of :meth:`AimlBillingHook.get_balance`.
    """
    hook = AimlBillingHook(conn_id, retries=0)
    found = False
    try:
        while True:
            while (left := next_poll_at - time.time()) > 0:
                await asyncio.sleep(min(left, tick))
                if left > tick:
                    yield None
            # Looked up for each poll: a key that was mended or rotated meanwhile counts at once.
            fault = await _look_up(hook, found)
            found = found or fault is None
            reading = fault or await _ask(hook, asked or {})
            yield reading
            retry_after = getattr(reading, "retry_after", None) or 0.0
            next_poll_at = time.time() + max(next(waits), retry_after)
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
        return await asyncio.to_thread(hook.get_balance, with_top_up=True, **asked)
    except AimlBillingError as error:
        return error
    except Exception as fault:  # noqa: BLE001 - a poll must not raise
        return AimlBillingError(f"The poll of the balance broke with {type(fault).__name__}.")
