"""One poll for many subscribers in one event loop. Imports no Airflow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import Context, copy_context
from typing import Any

_log = logging.getLogger(__name__)

# How many subscribers receive a reading before the event loop may do something else. One that wakes its task counts as
# WAKE_COST of them.
READERS_PER_YIELD = 100
WAKE_COST = 20

# Starts a poll, see subscribe().
OpenPoll = Callable[[Callable[[], bool]], AsyncGenerator[Any, None]]

# The last thing that subscribers receive if a poll ends before they do.
POLL_CLOSED = object()


def poll_key(conn_id: str, poke_interval: float, *options: Hashable) -> Hashable:
    """
    Return the key of a poll. Gates and watchers with the same key share one poll.

    :param conn_id: id of the Airflow connection.
    :param poke_interval: seconds between two polls.
    :param options: what is requested besides the balance.
    """
    return (conn_id, poke_interval, *options)


class _Poll:
    """A poll in its own task, so that the end of one subscriber cannot end it for the others."""

    def __init__(self, open_poll: OpenPoll) -> None:
        self.subscribers: dict[Callable[[Any], object], None] = {}  # used as an ordered set
        self.closed = False
        self._joined = False
        # In a new context: otherwise log lines of the poll would appear under the first subscriber's name.
        self.task = Context().run(asyncio.create_task, self._run(open_poll(self._pop_joined)))

    def add(self, subscriber: Callable[[Any], object]) -> None:
        self._joined = bool(self.subscribers)
        self.subscribers[subscriber] = None

    def _pop_joined(self) -> bool:
        joined, self._joined = self._joined, False
        return joined

    async def _run(self, readings: AsyncGenerator[Any, None]) -> None:
        try:
            async with aclosing(readings):
                async for reading in readings:
                    await self._publish(reading)
        except Exception as fault:  # noqa: BLE001 - its text may contain anything
            _log.error("A poll failed with %s.", type(fault).__name__)
        finally:
            self.closed = True
        # Remaining subscribers must not wait forever. This is not reached if the task was cancelled: then the triggerer
        # is stopping, and another one takes over its gates.
        await self._publish(POLL_CLOSED)

    async def _publish(self, reading: Any) -> None:
        work = 0
        for callback in list(self.subscribers):
            if callback in self.subscribers:
                work += WAKE_COST if callback(reading) else 1
            if work >= READERS_PER_YIELD:
                work = 0
                await asyncio.sleep(0)


_polls: dict[Hashable, _Poll] = {}


@contextmanager
def subscribe(key: Hashable, open_poll: OpenPoll, callback: Callable[[Any], object]) -> Iterator[None]:
    """
    Receive the readings of a poll together with all other subscribers of its key in this event loop.

    The first subscriber opens the poll, and it closes when the last one leaves. A subscriber that joins later receives
    the next reading. A reading wakes no task by itself, so thousands of subscribers cost little: the callback wakes its
    task when there is something to do.

    :param key: identifies the poll, see :func:`poll_key`.
    :param open_poll: starts it. Its argument is a function that returns whether somebody joined since its last call.
    :param callback: receives each reading, and ``POLL_CLOSED`` if there are no more, in the context of the caller. It
        must be quick, must not raise, and returns something true if it woke its task.
    """
    key = (asyncio.get_running_loop(), key)
    poll = _polls.get(key)
    if poll is None or poll.closed or poll.task.done():
        poll = _polls[key] = _Poll(open_poll)
    context = copy_context()
    subscriber = lambda reading: context.run(callback, reading)  # noqa: E731 - unique even if callbacks are equal
    poll.add(subscriber)
    try:
        yield
    finally:
        del poll.subscribers[subscriber]
        if not poll.subscribers:
            if _polls.get(key) is poll:
                del _polls[key]
            poll.task.cancel()
