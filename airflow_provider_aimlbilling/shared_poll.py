"""One poll for many readers in one event loop, for Airflow before 3.3, which shares no streams. No Airflow in here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import aclosing
from contextvars import Context
from typing import Any


def poll_key(conn_id: str, poke_interval: float, *more: Hashable) -> Hashable:
    """
    Name the poll of a connection, for our own sharing and for Airflow's: gates and watchers of one name share it.

    :param more: what is asked beside the balance.
    """
    return ("aimlbilling-balance", conn_id, poke_interval, *more)


class _Poll:
    """A poll that runs in a task of its own, so that no reader's end can end it for the others."""

    def __init__(self, readings: AsyncGenerator[Any, None]) -> None:
        self.readers = 0
        self.next: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        # In a context of its own, or what is logged while it polls would be told as the first reader's, ended or not.
        self.task = Context().run(asyncio.create_task, self._run(readings))

    async def _run(self, readings: AsyncGenerator[Any, None]) -> None:
        try:
            async with aclosing(readings):
                async for reading in readings:
                    arrived, self.next = self.next, asyncio.get_running_loop().create_future()
                    arrived.set_result(reading)
        finally:
            self.next.set_result(None)  # whoever still reads must not wait for ever


_polls: dict[Hashable, _Poll] = {}


async def shared(key: Hashable, open_poll: Callable[[], AsyncGenerator[Any, None]]) -> AsyncGenerator[Any, None]:
    """
    Read along with all readers of a key in this event loop. The first opens the poll, the last one's end closes it.

    A reader that joins later gets what comes next. A poll that ends gives ``None`` and ends the reading.

    :param key: names the poll.
    :param open_poll: starts it.
    """
    key = (asyncio.get_running_loop(), key)
    poll = _polls.get(key)
    if poll is None or poll.task.done():
        poll = _polls[key] = _Poll(open_poll())
    poll.readers += 1
    try:
        while not poll.task.done():
            # Shielded: one reader's cancellation must not cancel what the others wait for.
            yield await asyncio.shield(poll.next)
    finally:
        poll.readers -= 1
        if not poll.readers:
            poll.task.cancel()
            if _polls.get(key) is poll:
                del _polls[key]
