"""The poll behind waiting triggers: one reading after another, errors as values. It never raises and never ends."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any

from airflow_provider_aimlbilling.exceptions import AimlBillingError
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.waiting.balance_source import balance_source

# The result of one poll. None: time has passed, but nothing was read.
Reading = Balance | AimlBillingError | None

# Least seconds between two requests for a connection, however many polls it has.
MIN_POLL_GAP = 1.0
# Seconds after which a poll yields None while it waits for an answer.
MAX_TICK = 1.0
# Seconds that exponential backoff grows to if max_wait is not set.
MAX_BACKOFF = 3600.0


async def poll(
    conn_id: str,
    waits: Iterator[float],
    tick: float,
    first_wait: float = 0.0,
    options: Mapping[str, Any] | None = None,
    joined: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Reading, None]:
    """
    Poll forever. Errors are yielded, never raised.

    :param conn_id: id of the Airflow connection.
    :param waits: seconds before each further poll; a longer ``Retry-After`` of the API takes precedence.
    :param tick: seconds after which a long wait yields ``None``, so that deadlines are met even then. While a request
        is in flight, ``None`` comes at least once a second.
    :param first_wait: seconds before the first poll.
    :param options: what to read besides the balance, as arguments of :meth:`AimlBillingClient.get_balance`.
    :param joined: returns whether somebody has joined this poll since the last call. For them, a ``Retry-After`` that
        was sent before they came counts no longer than for a new poll.
    """
    with balance_source(conn_id) as source:
        due = soonest = max(time.monotonic() + first_wait, source.not_before)
        while True:
            while (left := due - time.monotonic()) > 0:
                await asyncio.sleep(min(left, tick))
                if left > tick:
                    yield None
                if joined():
                    due = min(due, max(soonest, source.not_before))
            wait = next(waits)
            request = asyncio.ensure_future(source.read(options or {}, 0.9 * min(wait, MIN_POLL_GAP)))
            try:
                while not request.done():
                    if not (await asyncio.wait({request}, timeout=min(tick, MAX_TICK)))[0]:
                        yield None
                reading = request.result()
            finally:
                request.cancel()
            joined()  # gates that joined during the request receive this reading, too
            yield reading
            soonest = time.monotonic() + wait
            due = max(soonest, time.monotonic() + (getattr(reading, "retry_after", None) or 0.0))


def backoff_waits(poke_interval: float, max_wait: float | None, deadline: float) -> Iterator[float]:
    """
    Yield the seconds before each poll of a gate with exponential backoff.

    They double from poll to poll, with jitter of up to the same again, and the last one ends at the deadline.

    :param poke_interval: the least of them.
    :param max_wait: the most of them; ``None`` for an hour.
    :param deadline: when the gate stops waiting, in seconds since the epoch.
    """
    wait, longest = poke_interval, max(poke_interval, MAX_BACKOFF)
    while True:
        jittered = min(wait * random.uniform(1, 2), max_wait or longest)  # noqa: S311 - not a secret
        yield min(jittered, max(deadline - time.time(), poke_interval))
        wait = min(wait * 2, longest)
