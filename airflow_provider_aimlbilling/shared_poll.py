"""One poll for many readers in one event loop. No Airflow in here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import Context, copy_context
from typing import Any

_log = logging.getLogger(__name__)

# How many readers are shown a reading before the event loop may do something else.
AT_ONCE = 100
WAKING = 20  # and as how many of them counts one that this wakes

# What readers are shown last, by a poll that ends by itself.
ENDED = object()


def poll_key(conn_id: str, poke_interval: float, *more: Hashable) -> Hashable:
    """
    Name the poll of a connection: gates and watchers of one name share it.

    :param more: what is asked beside the balance.
    """
    return (conn_id, poke_interval, *more)


class _Poll:
    """A poll that runs in a task of its own, so that no reader's end can end it for the others."""

    def __init__(self, readings: AsyncGenerator[Any, None]) -> None:
        self.readers: dict[Callable[[Any], object], None] = {}  # a set that keeps its order
        self.ended = False
        # In a context of its own, or what is logged while it polls would be told as the first reader's, ended or not.
        self.task = Context().run(asyncio.create_task, self._run(readings))

    async def _run(self, readings: AsyncGenerator[Any, None]) -> None:
        try:
            async with aclosing(readings):
                async for reading in readings:
                    await self._show(reading)
        except Exception as fault:  # noqa: BLE001 - its text may hold anything
            _log.error("A poll broke with %s.", type(fault).__name__)
        finally:
            self.ended = True
        # Whoever still reads must not wait for ever. Where this task was cancelled it is another thing: the triggerer
        # stops, and its gates wait on in another.
        await self._show(ENDED)

    async def _show(self, reading: Any) -> None:
        work = 0
        for show in list(self.readers):
            if show in self.readers:
                work += WAKING if show(reading) else 1
            if work >= AT_ONCE:
                work = 0
                await asyncio.sleep(0)


_polls: dict[Hashable, _Poll] = {}


@contextmanager
def reading_along(
    key: Hashable, open_poll: Callable[[], AsyncGenerator[Any, None]], show: Callable[[Any], object]
) -> Iterator[None]:
    """
    Read along with all readers of a key in this event loop. The first opens the poll, the last one's end closes it.

    A reader that joins later is shown what comes next. To be shown a reading wakes no task, so thousands of readers
    cost little: ``show`` wakes its own when there is something to do.

    :param key: names the poll.
    :param open_poll: starts it.
    :param show: is called with each reading, and with ``ENDED`` if there will be no more, in the context of the caller.
        It must neither raise nor take long, and gives something true if it woke its reader.
    """
    key = (asyncio.get_running_loop(), key)
    poll = _polls.get(key)
    if poll is None or poll.ended or poll.task.done():
        poll = _polls[key] = _Poll(open_poll())
    context = copy_context()
    reader = lambda reading: context.run(show, reading)  # noqa: E731 - another one each time, where show may be the same
    poll.readers[reader] = None
    try:
        yield
    finally:
        del poll.readers[reader]
        if not poll.readers:
            if _polls.get(key) is poll:
                del _polls[key]
            poll.task.cancel()
