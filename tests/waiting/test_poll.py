"""The poll behind waiting gates: one for many of them, whatever fails, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import sys
import time
import tracemalloc
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from gates import fire, trigger, until_requested
from support import KEY
from tls import enable_tls

from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.waiting import balance_source


def test_two_hundred_gates_share_one_poll(sandbox: Sandbox) -> None:
    """One request per interval, not per gate. A gate's end does not disturb the others; the last one ends the poll."""
    sandbox.set_balance(0)

    async def wait() -> tuple[list[dict[str, Any]], int]:
        gates = [trigger(threshold=str(1 + number % 2 * 1_000_000), poke_interval=0.3) for number in range(200)]
        tasks = [asyncio.ensure_future(fire(gate)) for gate in gates]
        await until_requested(sandbox, 3)
        sandbox.set_balance(1)
        await asyncio.wait(tasks[::2])
        assert not any(task.done() for task in tasks[1::2]), "the other half keeps waiting"
        sandbox.fail(status=500, times=2)
        sandbox.set_balance(1_000_001)
        events = await asyncio.wait_for(asyncio.gather(*tasks), timeout=5)
        requests = len(sandbox.requests)
        await asyncio.sleep(0.7)
        assert len(sandbox.requests) == requests, "the poll has ended"
        return events, requests

    events, requests = asyncio.run(wait())
    assert {event["status"] for event in events} == {"cleared"}
    assert requests <= 10
    assert sandbox.connections <= 3, "one connection is kept, except after each 500"


def test_a_waiting_gate_takes_little_memory(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """At most 5 KB each, even after several readings."""
    sandbox.set_balance(0)

    async def wait() -> float:
        gates = 1000
        tasks = [asyncio.ensure_future(fire(trigger(poke_interval=0.3)))]  # it loads what all of them need
        await until_requested(sandbox, 2)
        tracemalloc.start()
        tasks += [asyncio.ensure_future(fire(trigger(poke_interval=0.3))) for _ in range(gates)]
        await until_requested(sandbox, len(sandbox.requests) + 3)
        kilobytes = tracemalloc.get_traced_memory()[0] / gates / 1000
        tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return kilobytes

    with caplog.at_level("WARNING"):  # pytest keeps what is logged
        assert asyncio.run(wait()) < (5 if sys.version_info >= (3, 11) else 7)  # objects were larger in Python 3.10


def test_gates_that_come_and_go_do_not_poll_more_often(sandbox: Sandbox) -> None:
    """Each opens a new poll if the previous one has ended. That must neither burst nor forget Retry-After."""

    async def wait(status: int | None, again: bool = False, **fault: Any) -> list[float]:
        sandbox.requests.clear()
        sandbox.fail(status=status, **fault) if status else sandbox.recover()
        tasks = []
        for _ in range(40):
            tasks.append(asyncio.ensure_future(fire(trigger(poke_interval=0.5, deadline=time.time() + 1.5))))
            await asyncio.sleep(0.03)
        await asyncio.gather(*tasks)
        if again:
            await fire(trigger(poke_interval=0.5, deadline=time.time() + 1.5))
        return [request.at for request in sandbox.requests]

    for status in (None, 401):
        times = asyncio.run(wait(status))
        assert min(later - earlier for earlier, later in pairwise(times)) >= 0.45
    assert len(asyncio.run(wait(429, retry_after=60, again=True))) == 1, (
        "not even by gates that come after all others have ended"
    )


def test_failed_gates_are_released(sandbox: Sandbox) -> None:
    """Even if another one keeps waiting: all received the same error object, which must not keep them in memory."""
    sandbox.fail(status=401)

    async def wait() -> int:
        keeps_waiting = asyncio.ensure_future(fire(trigger(silent_fail=True)))
        gates = [trigger() for _ in range(50)]
        await asyncio.gather(*(fire(gate) for gate in gates))
        alive = [weakref.ref(gate) for gate in gates]
        gates.clear()
        left = sum(gate() is not None for gate in alive)
        keeps_waiting.cancel()
        await asyncio.wait([keeps_waiting])
        return left

    gc.disable()
    try:
        assert asyncio.run(wait()) <= 1, "the event loop may still hold the last one"
    finally:
        gc.enable()


def test_a_poll_without_subscribers_sends_no_further_request(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it look up the connection again."""
    look_up = balance_source.get_async_connection
    looked_up: list[str] = []

    async def count(conn_id: str) -> Any:
        looked_up.append(conn_id)
        return await look_up(conn_id)

    monkeypatch.setattr(balance_source, "get_async_connection", count)
    sandbox.fail(delay=0.3)

    async def wait() -> None:
        task = asyncio.ensure_future(fire(trigger(respect_key_limit=True)))
        await until_requested(sandbox, 1)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.6)

    asyncio.run(wait())
    assert [request.path for request in sandbox.requests] == ["/v1/billing/balance"]
    assert looked_up == ["aimlbilling_default"]


def test_hanging_polls_do_not_use_the_threads_of_the_event_loop(sandbox: Sandbox) -> None:
    """Airflow needs one of those for each log line of each trigger."""
    sandbox.fail(delay=1)

    async def wait() -> float:
        tasks = [asyncio.ensure_future(fire(trigger(exponential_backoff=True))) for _ in range(30)]
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await asyncio.to_thread(lambda: None)
        seconds = time.monotonic() - started
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return seconds

    assert asyncio.run(wait()) < 0.4


def test_gates_of_different_accounts_never_share_a_reading(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Each key, host, API version and interval has its own poll."""
    sandbox.set_balance(0)
    with Sandbox("100 USD", key="another-key-0123") as rich:
        monkeypatch.setenv("AIRFLOW_CONN_RICH", rich.connection())
        monkeypatch.setenv("AIRFLOW_CONN_RICH_V2", rich.connection(api_version="v2"))
        monkeypatch.setenv("AIRFLOW_CONN_REFUSED", json.dumps(json.loads(rich.connection()) | {"password": "expired"}))
        variants: list[dict[str, Any]] = [
            {"deadline": time.time() + 1.5},
            {"deadline": time.time() + 1.5, "poke_interval": 0.3},
            {"aimlbilling_conn_id": "rich"},
            {"aimlbilling_conn_id": "rich_v2"},
            {"aimlbilling_conn_id": "refused"},
        ]

        async def wait() -> list[dict[str, Any]]:
            return await asyncio.gather(*(fire(trigger(**changes)) for changes in variants))

        events = asyncio.run(wait())
        assert {request.path for request in rich.requests} == {"/v1/billing/balance", "/v2/billing/detail"}
    assert [event["status"] for event in events] == ["timeout", "timeout", "cleared", "cleared", "failed"]


def test_a_cancelled_gate_does_not_disturb_the_others(sandbox: Sandbox) -> None:
    """Even if it opened the poll."""
    sandbox.set_balance(0)

    async def wait() -> list[dict[str, Any]]:
        tasks = [asyncio.ensure_future(fire(trigger())) for _ in range(3)]
        await until_requested(sandbox, 2)
        tasks.pop(0).cancel()
        await until_requested(sandbox, len(sandbox.requests) + 2)
        assert not any(task.done() for task in tasks)
        sandbox.set_balance("2 USD")
        return await asyncio.gather(*tasks)

    assert [event["status"] for event in asyncio.run(wait())] == ["cleared", "cleared"]


def test_each_event_loop_has_its_own_poll(sandbox: Sandbox) -> None:
    for _ in range(2):
        assert asyncio.run(fire(trigger()))["status"] == "cleared"
    assert len(sandbox.requests) == 2


FAULTS = {
    "refused": {"status": 401},
    "rate limited": {"status": 429},
    "rate limited with Retry-After": {"status": 429, "retry_after": 1},
    "server error": {"status": 500},
    "hanging": {"delay": 0.5},
    "not JSON": {"body": b"<html>"},
    "reset": {"reset": True},
}


@pytest.mark.parametrize("row", FAULTS)
def test_fifty_gates_poll_no_faster_than_one_whatever_fails(sandbox: Sandbox, row: str) -> None:
    """They keep waiting after any error (silent_fail), send one request per interval, and respect Retry-After."""
    sandbox.fail(**FAULTS[row])
    interval = 0.2
    lasts = 2.5 + 2 * FAULTS[row].get("retry_after", 0)

    async def wait() -> list[dict[str, Any]]:
        gates = [
            trigger(poke_interval=interval, deadline=time.time() + lasts, silent_fail=True, threshold="9000000")
            for _ in range(50)
        ]
        return await asyncio.gather(*(fire(gate) for gate in gates))

    events = asyncio.run(wait())
    assert {event["status"] for event in events} == {"timeout"}
    gaps = [later.at - earlier.at for earlier, later in pairwise(sandbox.requests)]
    assert len(gaps) >= 2, "it kept polling"
    assert min(gaps) >= max(interval, FAULTS[row].get("retry_after", 0)) * 0.9


@pytest.mark.parametrize("caller", ["hook", "trigger"])
def test_a_poll_opens_one_session_and_one_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caller: str
) -> None:
    """All polls of a hook, or of a trigger, use one session, one connection and one CA bundle, even with TLS."""
    from airflow_provider_aimlbilling.client import api
    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

    made: list[str] = []
    load, open_session = ssl.SSLContext.load_verify_locations, api.open_session
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *a, **k: made.append("bundle") or load(*a, **k))
    monkeypatch.setattr(api, "open_session", lambda *a: made.append("session") or open_session(*a))
    account = Sandbox(0, key=KEY)
    url = enable_tls(account, tmp_path / "certificate.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    connection = json.loads(account.connection()) | {"host": url}
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", json.dumps(connection))
    with account:
        if caller == "hook":
            hook = AimlBillingHook()
            for _ in range(10):
                hook.get_balance()
        else:
            asyncio.run(fire(trigger(poke_interval=0.1, deadline=time.time() + 1.5)))
        assert len(account.requests) >= 10
        assert account.connections == 1
    assert sorted(made) == ["bundle", "session"]


def test_gates_with_the_same_budget_share_one_request_for_their_usage(sandbox: Sandbox) -> None:
    """Each poll reads the balance once and the usage once. Gates without a budget cause no request for usage."""

    async def paths(gates: list[Any]) -> list[str]:
        sandbox.requests.clear()
        tasks = [asyncio.ensure_future(fire(gate)) for gate in gates]
        await until_requested(sandbox, 8)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return [request.path.partition("?")[0] for request in sandbox.requests][:8]

    sandbox.set_balance(0)
    same = ["1 USD per month", "$1 per month", "2000000 credits per month in UTC"]
    budgeted = asyncio.run(paths([trigger(budget=same[number % 3]) for number in range(60)]))
    assert budgeted == ["/v1/billing/balance", "/v2/usage"] * 4
    usage_at = [request.at for request in sandbox.requests if request.path.startswith("/v2/usage")]
    assert min(later - earlier for earlier, later in pairwise(usage_at)) > 0.15, "one in each interval"
    assert asyncio.run(paths([trigger() for _ in range(60)])) == ["/v1/billing/balance"] * 8
