"""One poll for many: what is shown to whom, in whose name, and at what cost to the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import pytest

from airflow_provider_aimlbilling.shared_poll import AT_ONCE, ENDED, WAKING, reading_along

who: ContextVar[str] = ContextVar("who", default="nobody")


class Source:
    """A poll that gives what it is told to give."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.opened = self.closed = 0
        self.polled_as = ""

    async def readings(self) -> AsyncGenerator[Any, None]:
        self.opened += 1
        self.polled_as = who.get()
        try:
            while True:
                reading = await self.queue.get()
                if isinstance(reading, Exception):
                    raise reading
                if reading is ENDED:
                    return
                yield reading
        finally:
            self.closed += 1

    async def give(self, reading: Any) -> None:
        self.queue.put_nowait(reading)
        for _ in range(20):
            await asyncio.sleep(0)


def seen(into: list[Any]) -> Callable[[Any], object]:
    return lambda reading: into.append((who.get(), reading))


def test_each_reads_in_its_own_name_and_the_poll_in_nobodys() -> None:
    """Or what a gate logs would be told as another's."""

    async def story() -> None:
        source, told = Source(), []
        with ExitStack() as readers:
            for name in ("one", "two"):
                who.set(name)
                readers.enter_context(reading_along("key", source.readings, seen(told)))
            await source.give(1)
        assert told == [("one", 1), ("two", 1)]
        assert (source.opened, source.polled_as) == (1, "nobody")

    asyncio.run(story())


def test_who_comes_later_is_shown_what_comes_next_and_the_last_one_ends_it() -> None:
    async def story() -> None:
        source, first, second = Source(), [], []
        with reading_along("key", source.readings, seen(first)):
            await source.give(1)
            with reading_along("key", source.readings, seen(second)):
                await source.give(2)
            await source.give(3)
            assert (len(first), len(second), source.closed) == (3, 1, 0)
        await asyncio.sleep(0.01)
        assert (source.opened, source.closed) == (1, 1)
        with reading_along("key", source.readings, seen(first)):
            await asyncio.sleep(0.01)
            assert source.opened == 2, "and the next begins anew"

    asyncio.run(story())


@pytest.mark.parametrize(("wakes", "at_once"), [(False, AT_ONCE), (True, AT_ONCE // WAKING)])
def test_thousands_of_readers_leave_the_loop_its_turns(wakes: bool, at_once: int) -> None:
    """However many: whatever else lives in the triggerer gets its turn after each hundred, or the few that end."""

    async def story() -> None:
        source, shown, most = Source(), 0, 0

        def show(reading: Any) -> bool:
            nonlocal shown
            shown += 1
            return wakes

        async def another() -> None:
            nonlocal most
            last = 0
            while True:
                most, last = max(most, shown - last), shown
                await asyncio.sleep(0)

        with ExitStack() as readers:
            for _ in range(10 * at_once):
                readers.enter_context(reading_along("key", source.readings, show))
            task = asyncio.ensure_future(another())
            await source.give(1)
            task.cancel()
        assert (shown, most) == (10 * at_once, at_once)

    asyncio.run(story())


def test_who_has_left_meanwhile_is_shown_nothing_more() -> None:
    async def story() -> None:
        source, shown = Source(), []
        readers = ExitStack()

        def show(reading: Any) -> None:
            shown.append(reading)
            asyncio.get_running_loop().call_soon(readers.close)

        for _ in range(3 * AT_ONCE):
            readers.enter_context(reading_along("key", source.readings, show))
        await source.give(1)
        assert len(shown) == AT_ONCE

    asyncio.run(story())


@pytest.mark.parametrize("end", [ENDED, RuntimeError("Bearer secret")], ids=["ends", "breaks"])
def test_who_reads_along_with_a_poll_that_ends_is_told(end: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No reader waits for ever, and of what broke only the type is told."""

    async def story() -> None:
        source, told = Source(), []
        with reading_along("key", source.readings, seen(told)):
            await source.give(1)
            await source.give(end)
            assert [reading for _, reading in told] == [1, ENDED]
            another = Source()
            with reading_along("key", another.readings, seen(told)):
                await another.give(2)
            assert told[-1][1] == 2, "a later reader gets a poll that lives"

    with caplog.at_level(logging.DEBUG):
        asyncio.run(story())
    assert ("A poll broke with RuntimeError." in caplog.messages) == (end is not ENDED)
    assert "secret" not in caplog.text


def test_a_poll_that_is_cancelled_tells_nobody_that_it_ended() -> None:
    """A triggerer that stops cancels what it runs: its gates wait on in another, and must not fire here."""

    async def story() -> None:
        source, told = Source(), []
        with reading_along("key", source.readings, seen(told)):
            await source.give(1)
            (poll,) = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            poll.cancel()
            await asyncio.wait([poll])
            with reading_along("key", source.readings, seen([])):
                await source.give(2)
                assert source.opened == 2
        assert [reading for _, reading in told] == [1]

    asyncio.run(story())


def test_nobody_joins_a_poll_that_is_ending() -> None:
    """Such a one would wait for ever."""

    async def story() -> None:
        source, late = Source(), []
        with ExitStack() as readers:

            def show(reading: Any) -> None:
                if reading is ENDED and not late:
                    readers.enter_context(reading_along("key", source.readings, late.append))
                    late.append("joined")

            for _ in range(2 * AT_ONCE):
                readers.enter_context(reading_along("key", source.readings, show))
            await source.give(ENDED)
            await source.give(1)
        assert late == ["joined", 1]

    asyncio.run(story())
