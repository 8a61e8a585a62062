"""The source of all readings of a connection: one request at a time, fresh settings, and no account delays another."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from itertools import chain, pairwise, repeat
from typing import Any

import pytest
from gates import fire, trigger, until_requested
from raw_server import BALANCE, RawServer, answer
from support import KEY

from airflow_provider_aimlbilling.exceptions import AimlBillingAuthError
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.waiting import balance_source as module
from airflow_provider_aimlbilling.waiting.balance_source import balance_source

SILENT = {"script": lambda: [60.0]}


def threads() -> int:
    return sum(thread.name.startswith("aimlbilling-poll") for thread in threading.enumerate())


def test_two_hundred_hung_accounts_do_not_delay_a_healthy_one(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """Each holds one thread until its gates' time is up, and then gives it back, even with a timeout of an hour."""
    sandbox.set_balance(0)
    with RawServer(**SILENT) as server:
        for number in range(200):
            monkeypatch.setenv(f"AIRFLOW_CONN_HUNG_{number}", server.connection(timeout=3600))

        async def scenario() -> tuple[list[dict[str, Any]], int, int]:
            deadline = time.time() + 6
            hung = [
                asyncio.ensure_future(fire(trigger(aimlbilling_conn_id=f"hung_{number}", deadline=deadline)))
                for number in range(200)
            ]
            while server.connections < 200:
                assert time.time() < deadline, "this machine is too slow to open 200 connections in time"
                await asyncio.sleep(0.05)
            healthy = asyncio.ensure_future(fire(trigger(poke_interval=0.5)))
            await until_requested(sandbox, 1)
            before = len(sandbox.requests)
            await asyncio.sleep(1.6)
            requests, busy = len(sandbox.requests) - before, threads()
            events = await asyncio.gather(*hung)
            late = time.time() - deadline
            healthy.cancel()
            await asyncio.wait([healthy])
            for _ in range(50):
                if not threads():
                    break
                await asyncio.sleep(0.1)
            assert late < 2
            return events, requests, busy

        events, requests, busy = asyncio.run(scenario())
    assert requests >= 3, "one request in each interval"
    assert busy >= 200, "the others are really waiting for an answer"
    assert {event["status"] for event in events} == {"timeout"}
    assert threads() == 0


def test_a_gate_ends_at_its_own_deadline_while_a_request_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(**SILENT) as server:
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", server.connection(timeout=3600))
        started = time.monotonic()
        event = asyncio.run(fire(trigger(deadline=time.time() + 0.5, poke_interval=30)))
        assert event["status"] == "timeout"
        assert time.monotonic() - started < 2


def test_gates_with_exponential_backoff_make_one_request_after_a_restart(sandbox: Sandbox) -> None:
    """They do not share a poll, but what one has just read serves the others."""
    sandbox.set_balance(0)

    async def scenario() -> int:
        past = time.time() - 5
        gates = [trigger(exponential_backoff=True, next_poll_at=past, poke_interval=1) for _ in range(300)]
        tasks = [asyncio.ensure_future(fire(gate)) for gate in gates]
        await asyncio.sleep(2.5)
        requests = len(sandbox.requests)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return requests

    assert 1 <= asyncio.run(scenario()) <= 4


def test_one_request_is_in_flight_for_a_connection_whatever_its_gates_ask(sandbox: Sandbox) -> None:
    sandbox.set_balance(0)
    sandbox.fail(delay=0.3)

    async def scenario() -> None:
        gates = [trigger(poke_interval=0.2 + number / 10) for number in range(5)]
        gates += [trigger(respect_key_limit=True), trigger(top_up_grace=60.0)]
        tasks = [asyncio.ensure_future(fire(gate)) for gate in gates]
        await asyncio.sleep(2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(scenario())
    times = [request.at for request in sandbox.requests]
    assert len(times) > 3
    assert min(later - earlier for earlier, later in pairwise(times)) > 0.28


def test_a_gate_that_joins_does_not_wait_for_an_old_retry_after(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """The API may be well again, and the gate that received it can wait. A new gate must not wait for an hour."""
    monkeypatch.setattr(module, "MAX_SHARED_RETRY_AFTER", 1.0)
    sandbox.fail(status=503, retry_after=3600, times=1)

    async def scenario() -> float:
        first = asyncio.ensure_future(fire(trigger()))
        await until_requested(sandbox, 1)
        await asyncio.sleep(0.5)
        assert not first.done()
        started = time.monotonic()
        events = await asyncio.wait_for(asyncio.gather(first, fire(trigger())), 5)
        assert [event["status"] for event in events] == ["cleared", "cleared"]
        return time.monotonic() - started

    assert asyncio.run(scenario()) < 2
    assert len(sandbox.requests) == 2


def test_without_a_new_gate_a_long_retry_after_is_honoured(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setattr(module, "MAX_SHARED_RETRY_AFTER", 0.2)
    sandbox.fail(status=503, retry_after=3600, times=1)
    event = asyncio.run(fire(trigger(deadline=time.time() + 1.5)))
    assert event["status"] == "timeout"
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_the_worker_s_clock_may_be_wrong(sandbox: Sandbox, seconds: float) -> None:
    """A worker whose clock is an hour ahead must not keep a gate from polling for an hour."""
    event = asyncio.run(asyncio.wait_for(fire(trigger(next_poll_at=time.time() + seconds)), 3))
    assert event["status"] == "cleared"


def test_a_key_that_was_rotated_between_look_up_and_request_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    current = [f"{KEY}-old"]

    async def look_up(_: str) -> Any:
        from airflow_provider_aimlbilling.compat import Connection

        host, key = json.loads(sandbox.connection())["host"], current[0]
        current[:] = [KEY]  # rotated just after the first look-up
        return Connection(conn_id="aimlbilling_default", conn_type="aimlbilling", host=host, password=key)

    monkeypatch.setattr(module, "get_async_connection", look_up)

    async def scenario() -> Any:
        with balance_source("aimlbilling_default") as source:
            return await source.read({}, 0.0)

    assert isinstance(asyncio.run(scenario()), Balance)
    assert len(sandbox.requests) == 2


def test_a_key_that_stays_refused_is_asked_for_once(sandbox: Sandbox) -> None:
    sandbox.fail(status=401)

    async def scenario() -> Any:
        with balance_source("aimlbilling_default") as source:
            return await source.read({}, 0.0)

    assert isinstance(asyncio.run(scenario()), AimlBillingAuthError)
    assert len(sandbox.requests) == 1


def test_an_api_that_fails_and_recovers_all_the_time_makes_few_log_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At most one line a minute for the connection, and a few for each gate, which keeps what happened to it."""
    monkeypatch.setattr(module, "LOG_INTERVAL", 1.0)
    low, down = answer(BALANCE | {"balance": 0}), answer({}, status="503 Down")
    answers = chain.from_iterable(repeat([low, down]))
    with RawServer(lambda: [next(answers)]) as server:
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", server.connection(timeout=2))

        async def scenario() -> list[dict[str, Any]]:
            deadline = time.time() + 2.6
            return await asyncio.gather(*(fire(trigger(poke_interval=0.1, deadline=deadline)) for _ in range(50)))

        with caplog.at_level("INFO"):
            events = asyncio.run(scenario())
        assert server.connections > 15
    lines = [record for record in caplog.records if record.name == module.__name__]
    assert 1 <= len(lines) <= 3
    assert all(event["status"] == "timeout" and "missing: balance" in event["message"] for event in events)


def test_the_state_of_each_gate_is_logged_a_few_times_at_most(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    from airflow_provider_aimlbilling.exceptions import AimlBillingUnavailable
    from airflow_provider_aimlbilling.money.amount import Amount
    from airflow_provider_aimlbilling.money.gate import Gate
    from airflow_provider_aimlbilling.waiting import log_limit
    from airflow_provider_aimlbilling.waiting.wait_state import WaitState

    now = [1000.0]
    monkeypatch.setattr(log_limit.time, "monotonic", lambda: now[0])
    lines: list[str] = []

    class Log:
        def info(self, message: str, *arguments: object) -> None:
            lines.append(message % arguments)

        warning = info

    state = WaitState(Gate(Amount.parse("1 USD")), Log())
    for _ in range(600):  # ten minutes of an API that changes every second
        now[0] += 1
        state.update(AimlBillingUnavailable("down", status=503) if now[0] % 2 else Balance(balance=0))
    assert 10 <= len(lines) <= 15
    now[0] += 60
    state.update(AimlBillingUnavailable("down", status=500))
    assert lines[-1].endswith("down"), "a change after a quiet minute is logged"
