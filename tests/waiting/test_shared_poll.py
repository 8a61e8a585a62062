"""One poll for many subscribers: who receives what, in which context, and what it costs the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import pytest

from airflow_provider_aimlbilling.waiting.shared_poll import POLL_CLOSED, READERS_PER_YIELD, WAKE_COST, subscribe

owner: ContextVar[str] = ContextVar("owner", default="nobody")


class Source:
    """A poll whose readings the test supplies."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.opened = self.closed = 0
        self.context = ""
        self.joined: Callable[[], bool] = lambda: False

    async def readings(self, joined: Callable[[], bool]) -> AsyncGenerator[Any, None]:
        self.joined = joined
        self.opened += 1
        self.context = owner.get()
        try:
            while True:
                reading = await self.queue.get()
                if isinstance(reading, Exception):
                    raise reading
                if reading is POLL_CLOSED:
                    return
                yield reading
        finally:
            self.closed += 1

    async def publish(self, reading: Any) -> None:
        self.queue.put_nowait(reading)
        for _ in range(20):
            await asyncio.sleep(0)


def collect(into: list[Any]) -> Callable[[Any], object]:
    return lambda reading: into.append((owner.get(), reading))


def test_callbacks_run_in_the_context_of_their_subscriber() -> None:
    """Otherwise log lines of one gate would appear in the log of another. The poll itself belongs to nobody."""

    async def scenario() -> None:
        source, received = Source(), []
        with ExitStack() as subscribers:
            for name in ("one", "two"):
                owner.set(name)
                subscribers.enter_context(subscribe("key", source.readings, collect(received)))
            await source.publish(1)
        assert received == [("one", 1), ("two", 1)]
        assert (source.opened, source.context) == (1, "nobody")

    asyncio.run(scenario())


def test_late_subscribers_receive_the_next_reading_and_the_last_one_to_leave_closes_the_poll() -> None:
    async def scenario() -> None:
        source, first, second = Source(), [], []
        with subscribe("key", source.readings, collect(first)):
            await source.publish(1)
            with subscribe("key", source.readings, collect(second)):
                await source.publish(2)
            await source.publish(3)
            assert (len(first), len(second), source.closed) == (3, 1, 0)
        await asyncio.sleep(0.01)
        assert (source.opened, source.closed) == (1, 1)
        with subscribe("key", source.readings, collect(first)):
            await asyncio.sleep(0.01)
            assert source.opened == 2, "the next subscriber opens another poll"

    asyncio.run(scenario())


@pytest.mark.parametrize(("wakes", "per_yield"), [(False, READERS_PER_YIELD), (True, READERS_PER_YIELD // WAKE_COST)])
def test_thousands_of_subscribers_do_not_block_the_event_loop(wakes: bool, per_yield: int) -> None:
    """Everything else in the triggerer gets a turn after a hundred of them, or after a few that wake their task."""

    async def scenario() -> None:
        source, called, most = Source(), 0, 0

        def callback(reading: Any) -> bool:
            nonlocal called
            called += 1
            return wakes

        async def other_work() -> None:
            nonlocal most
            last = 0
            while True:
                most, last = max(most, called - last), called
                await asyncio.sleep(0)

        with ExitStack() as subscribers:
            for _ in range(10 * per_yield):
                subscribers.enter_context(subscribe("key", source.readings, callback))
            task = asyncio.ensure_future(other_work())
            await source.publish(1)
            task.cancel()
        assert (called, most) == (10 * per_yield, per_yield)

    asyncio.run(scenario())


def test_a_subscriber_that_left_receives_nothing() -> None:
    async def scenario() -> None:
        source, received = Source(), []
        subscribers = ExitStack()

        def callback(reading: Any) -> None:
            received.append(reading)
            asyncio.get_running_loop().call_soon(subscribers.close)

        for _ in range(3 * READERS_PER_YIELD):
            subscribers.enter_context(subscribe("key", source.readings, callback))
        await source.publish(1)
        assert len(received) == READERS_PER_YIELD

    asyncio.run(scenario())


@pytest.mark.parametrize("end", [POLL_CLOSED, RuntimeError("Bearer secret")], ids=["ends", "fails"])
def test_subscribers_learn_that_a_poll_has_ended(end: Any, caplog: pytest.LogCaptureFixture) -> None:
    """None of them waits forever, and only the type of an error is logged."""

    async def scenario() -> None:
        source, received = Source(), []
        with subscribe("key", source.readings, collect(received)):
            await source.publish(1)
            await source.publish(end)
            assert [reading for _, reading in received] == [1, POLL_CLOSED]
            another = Source()
            with subscribe("key", another.readings, collect(received)):
                await another.publish(2)
            assert received[-1][1] == 2, "a later subscriber opens another poll"

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    assert ("A poll failed with RuntimeError." in caplog.messages) == (end is not POLL_CLOSED)
    assert "secret" not in caplog.text


def test_cancelling_a_poll_notifies_nobody() -> None:
    """A triggerer that stops cancels its tasks. Its gates continue in another triggerer, and must not fire here."""

    async def scenario() -> None:
        source, received = Source(), []
        with subscribe("key", source.readings, collect(received)):
            await source.publish(1)
            (poll,) = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            poll.cancel()
            await asyncio.wait([poll])
            with subscribe("key", source.readings, collect([])):
                await source.publish(2)
                assert source.opened == 2
        assert [reading for _, reading in received] == [1]

    asyncio.run(scenario())


def test_nobody_subscribes_to_a_poll_that_is_ending() -> None:
    """It would wait forever."""

    async def scenario() -> None:
        source, late = Source(), []
        with ExitStack() as subscribers:

            def callback(reading: Any) -> None:
                if reading is POLL_CLOSED and not late:
                    subscribers.enter_context(subscribe("key", source.readings, late.append))
                    late.append("joined")

            for _ in range(2 * READERS_PER_YIELD):
                subscribers.enter_context(subscribe("key", source.readings, callback))
            await source.publish(POLL_CLOSED)
            await source.publish(1)
        assert late == ["joined", 1]

    asyncio.run(scenario())
