"""How often the API is asked, and that an account that does not answer delays nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support import wait_until

from airflow_provider_aimlbilling.client import AimlBillingClient
from airflow_provider_aimlbilling.plugins.page import reading_cache
from airflow_provider_aimlbilling.plugins.page.reading_cache import ReadingCache, TooManyReadingsError
from airflow_provider_aimlbilling.sandbox import Sandbox

API = "/aimlbilling/api/connections"
ACCOUNT = f"{API}/aimlbilling_default/account"
# In UTC: in a zone with daylight saving time, 92 days can be an hour too long for one request.
SPENDING = f"{API}/aimlbilling_default/spending?tz=UTC"
PER_ROUND = 5  # balance, key, auto top-up, usage by day, and usage by day and model


def run(app: Any, token: Callable[..., str], use: Callable[[Any], Awaitable[None]]) -> None:
    """Use the API server from many clients in one event loop, as uvicorn does."""
    from httpx import ASGITransport, AsyncClient

    async def main() -> None:
        transport = ASGITransport(app=app)
        headers = {"Authorization": f"Bearer {token()}"}
        async with AsyncClient(transport=transport, base_url="http://testserver", headers=headers) as client:
            await use(client)

    asyncio.run(main())


def test_many_viewers_ask_the_api_once_a_minute(
    app: Any, token: Callable[..., str], sandbox: Sandbox, clock: Any
) -> None:
    async def watch(client: Any) -> None:
        for minute in range(5):
            for second in (0, 1, 30, 59):
                clock.seconds = 60 * minute + second
                routes = [ACCOUNT, SPENDING, API] * 20
                answers = await asyncio.gather(*(client.get(route) for route in routes))
                assert {answer.status_code for answer in answers} == {200}
            assert len(sandbox.requests) == PER_ROUND * (minute + 1)

    run(app, token, watch)


def test_a_failing_api_is_not_asked_more_often(
    app: Any, token: Callable[..., str], sandbox: Sandbox, clock: Any
) -> None:
    sandbox.fail(status=500)

    async def watch(client: Any) -> None:
        for minute in range(3):
            for second in (0, 59):
                clock.seconds = 60 * minute + second
                answers = await asyncio.gather(*(client.get(ACCOUNT) for _ in range(20)))
                assert all(answer.json()["error"] for answer in answers)
            assert len(sandbox.requests) == minute + 1

    run(app, token, watch)


def test_an_account_that_does_not_answer_delays_nobody(
    app: Any, token: Callable[..., str], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Sandbox("1 USD").start()
    hanging.fail(delay=3600)
    for number in range(20):
        monkeypatch.setenv(f"AIRFLOW_CONN_HANGING_{number}", hanging.connection(timeout=3000))

    async def watch(client: Any) -> None:
        stuck = [asyncio.create_task(client.get(f"{API}/hanging_{number}/account")) for number in range(20)]
        await asyncio.to_thread(wait_until, lambda: len(hanging.requests) == len(stuck), 60)
        for route in (ACCOUNT, SPENDING, API, "/aimlbilling/page", "/api/v2/version"):
            assert (await client.get(route)).status_code == 200
        assert not any(task.done() for task in stuck)
        hanging.stop()
        for answer in await asyncio.gather(*stuck):
            assert answer.status_code == 200

    try:
        run(app, token, watch)
    finally:
        hanging.stop()


def test_a_reading_ends_in_time(sandbox: Sandbox, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request may take as long as the connection says, but all of them together not."""
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(timeout=3000))
    monkeypatch.setattr(reading_cache, "MAX_READING_SECONDS", 0.3)
    sandbox.fail(delay=3600)
    reading = asyncio.run(ReadingCache(clock, clock.now).get("aimlbilling_default", "x", lambda c: c.get_balance()))
    assert reading.error
    assert reading.value is None


def test_who_waits_too_long_gets_the_last_figures(sandbox: Sandbox, clock: Any) -> None:
    cache = ReadingCache(clock, clock.now)
    started: list[AimlBillingClient] = []

    async def read(wait: float) -> Any:
        return await cache.get("aimlbilling_default", "x", look, wait)

    def look(client: AimlBillingClient) -> int:
        started.append(client)
        if len(started) > 1:
            sandbox.pause(3600)
        return len(started)

    async def main() -> None:
        assert (await read(60)).value == 1
        clock.seconds = 60
        for _ in range(3):
            reading = await read(0.01)
            assert (reading.value, reading.read_at < clock.now()) == (1, True)
            assert "not answered yet" in reading.error
        assert len(started) == 2, "there is one attempt at a time"
        sandbox.stop()  # ends the pause
        assert (await read(60)).value == 2

    asyncio.run(main())


def test_an_unexpected_error_is_one_of_the_reading(sandbox: Sandbox, clock: Any) -> None:
    def fail(client: AimlBillingClient) -> None:
        raise KeyError(client.settings.key)

    reading = asyncio.run(ReadingCache(clock, clock.now).get("aimlbilling_default", "x", fail))
    assert reading.error == "The reading failed unexpectedly with KeyError."


def test_the_cache_is_bounded(sandbox: Sandbox, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_cache, "MAX_ENTRIES", 3)
    cache = ReadingCache(clock, clock.now)
    for number in range(6):
        monkeypatch.setenv(f"AIRFLOW_CONN_C{number}", sandbox.connection())

    async def read(number: int) -> int | None:
        return (await cache.get(f"c{number}", "x", lambda client: number)).value

    async def main() -> None:
        assert [await read(number) for number in range(3)] == [0, 1, 2]
        with pytest.raises(TooManyReadingsError):
            await read(3)  # the others are too fresh to be forgotten
        clock.seconds = 60
        assert [await read(number) for number in (3, 4, 5, 3)] == [3, 4, 5, 3]
        assert len(cache._entries) == 3

    asyncio.run(main())


def test_unknown_connections_leave_nothing_behind(database: None, sandbox: Sandbox, clock: Any) -> None:
    cache = ReadingCache(clock, clock.now)

    async def main() -> None:
        for number in range(50):
            assert (await cache.get(f"unknown{number}", "x", lambda client: 1)).is_missing

    asyncio.run(main())
    assert not cache._entries


def test_a_thread_that_cannot_start_is_tried_again(
    app: Any, token: Callable[..., str], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread:
        def __init__(self, **_: Any) -> None: ...

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    cache = ReadingCache()
    with monkeypatch.context() as patch:
        patch.setattr(reading_cache.threading, "Thread", NoThread)
        with pytest.raises(TooManyReadingsError):
            asyncio.run(cache.get("aimlbilling_default", "account", lambda client: client.get_balance()))
    reading = asyncio.run(cache.get("aimlbilling_default", "account", lambda client: client.get_balance()))
    assert reading.value is not None
