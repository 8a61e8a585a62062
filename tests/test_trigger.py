"""The wait without a worker: one event, nothing raised, nothing blocking, nothing secret, one poll for many."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import ssl
import sys
import time
import tracemalloc
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY

from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingError
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from tls import over_tls


def trigger(**changes: Any) -> BalanceTrigger:
    arguments: dict[str, Any] = {
        "aimlbilling_conn_id": "aimlbilling_default",
        "threshold": "4000000",
        "poke_interval": 0.2,
        "deadline": time.time() + 20,
    }
    return BalanceTrigger(**arguments | changes)


async def fire(waiting: BalanceTrigger) -> dict[str, Any]:
    events = [event.payload async for event in waiting.run()]
    assert len(events) == 1
    json.dumps(events)
    return events[0]


async def asked(sandbox: Sandbox, times: int) -> None:
    while len(sandbox.requests) < times:  # noqa: ASYNC110 - the sandbox lives in other threads
        await asyncio.sleep(0.05)


def test_serialize_makes_the_same_trigger_again() -> None:
    more = {"respect_key_limit": True, "top_up_grace": 60.0}
    first = trigger(max_wait=7.0, exponential_backoff=True, silent_fail=True, next_poll_at=3.0, last_seen="x", **more)
    path, arguments = first.serialize()
    assert path == f"{BalanceTrigger.__module__}.{BalanceTrigger.__name__}"
    again = BalanceTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == first.serialize()
    assert set(arguments) == set(BalanceTrigger.__init__.__code__.co_varnames[1:]) - {"__class__"}
    plain = set(trigger().serialize()[1])
    assert not plain & set(more), "a triggerer of 0.1.0 does not know them"


def test_cleared(sandbox: Sandbox) -> None:
    event = asyncio.run(fire(trigger()))
    assert event["status"] == "cleared"
    assert event["balance"]["balance"] == 5_000_000


def test_deadline_is_its_own(sandbox: Sandbox) -> None:
    event = asyncio.run(fire(trigger(threshold="9000000", deadline=time.time() + 0.5)))
    assert event["status"] == "timeout"
    assert "missing 4,000,000 credits (2.00 USD)" in event["message"]


def test_deadline_is_kept_while_retry_after_asks_for_patience(sandbox: Sandbox) -> None:
    sandbox.fail(status=429, retry_after=600)
    began = time.monotonic()
    event = asyncio.run(fire(trigger(deadline=time.time() + 1)))
    assert event["status"] == "timeout"
    assert time.monotonic() - began < 5
    assert len(sandbox.requests) == 1, "and the API is left in peace"


def test_nothing_is_asked_before_its_time(sandbox: Sandbox) -> None:
    began = time.monotonic()
    asyncio.run(fire(trigger(next_poll_at=time.time() + 1)))
    assert sandbox.requests[0].at - began >= 0.9


FAILURES = {
    "auth": ({"status": 401}, {}, "AimlBillingAuthError"),
    "contract": ({"body": b"[]"}, {}, "AimlBillingContractError"),
    "no connection": ({}, {"aimlbilling_conn_id": "nowhere"}, "AimlBillingConnectionError"),
    "threshold": ({}, {"threshold": "12 EUR"}, "AimlBillingThresholdError"),
    "no deadline": ({}, {"threshold": "9000000", "deadline": None}, "AimlBillingError"),
    "no interval": ({}, {"threshold": "9000000", "poke_interval": None}, "AimlBillingError"),
}


@pytest.mark.parametrize("row", FAILURES)
def test_whatever_is_wrong_becomes_an_event_and_nothing_is_raised(sandbox: Sandbox, row: str) -> None:
    fault, changes, error = FAILURES[row]
    sandbox.fail(**fault)
    event = asyncio.run(fire(trigger(**changes)))
    assert (event["status"], event["error"]) == ("failed", error)
    assert KEY not in json.dumps(event)


def test_a_fault_that_is_not_ours_leaves_only_its_type(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

    def broken(self: object, **asked: object) -> None:
        raise RuntimeError(f"Bearer {KEY}")

    monkeypatch.setattr(AimlBillingHook, "get_balance", broken)
    event = asyncio.run(fire(trigger()))
    assert event == {
        "status": "failed",
        "error": "AimlBillingError",
        "message": "The poll of the balance broke with RuntimeError.",
    }


def test_the_event_loop_is_never_blocked(sandbox: Sandbox) -> None:
    sandbox.fail(delay=1.0, times=1)

    async def longest_stall() -> float:
        task = asyncio.ensure_future(fire(trigger()))
        longest, last = 0.0, time.monotonic()
        while not task.done():
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await task
        return longest

    assert asyncio.run(longest_stall()) < 0.5, "the answer took a second"


def test_a_rotated_key_counts_at_the_next_poll(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    sandbox.set_balance(0)

    async def rotate() -> dict[str, Any]:
        task = asyncio.ensure_future(fire(trigger()))
        await asyncio.sleep(0.5)
        sandbox.key = "another-key-0123"
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection())
        sandbox.set_balance("2.50 USD")
        return await task

    assert asyncio.run(rotate())["status"] == "cleared"


def test_faults_make_one_log_line_a_change(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.set_balance(0)
    monkeypatch.setattr(BalanceTrigger, "_log", logging.getLogger("gate"))  # Airflow 3 logs past caplog

    async def story() -> None:
        task = asyncio.ensure_future(fire(trigger()))
        for change in ({"status": 500}, {"status": 429}, None, {"reset": True}):
            await asyncio.sleep(0.7)
            sandbox.mend() if change is None else sandbox.fail(**change)
        await asyncio.sleep(0.7)
        sandbox.mend()
        sandbox.set_balance("2 USD")
        await task

    with caplog.at_level("INFO", logger="gate"):
        asyncio.run(story())
    lines = [record.getMessage() for record in caplog.records if record.name == "gate"]
    assert [line[:15] for line in lines] == [
        *("The gate waits:", "The gate still ", "The gate still "),
        *("The gate waits:", "The gate still ", "The gate opens:"),
    ], lines
    assert len(sandbox.requests) > 10


def test_repr_and_serialize_hold_no_secret(sandbox: Sandbox) -> None:
    waiting = trigger()
    asyncio.run(fire(waiting))
    assert KEY not in repr(waiting) + repr(waiting.serialize()) + repr(vars(waiting))


def test_a_task_that_asks_for_a_triggerer_queue_gets_it() -> None:
    assert getattr(BalanceTrigger, "supports_triggerer_queue", True)


def test_what_differs_in_connection_or_interval_is_not_shared() -> None:
    key = trigger()._poll_key()
    assert trigger(threshold="1", deadline=0.0, next_poll_at=9.0, silent_fail=True)._poll_key() == key
    others = [
        *({"poke_interval": 0.3}, {"aimlbilling_conn_id": "another"}, {"exponential_backoff": True}),
        *({"respect_key_limit": True}, {"top_up_grace": 60.0}, {"top_up_grace": 61.0}),
    ]
    assert len({key, *(trigger(**other)._poll_key() for other in others)}) == 7


def test_two_hundred_gates_share_one_poll(sandbox: Sandbox) -> None:
    """Requests count intervals, not gates; one gate's end disturbs no other; the poll ends with the last."""
    sandbox.set_balance(0)

    async def wait() -> tuple[list[dict[str, Any]], int]:
        gates = [trigger(threshold=str(1 + number % 2 * 1_000_000), poke_interval=0.5) for number in range(200)]
        tasks = [asyncio.ensure_future(fire(gate)) for gate in gates]
        await asyncio.sleep(2.2)
        sandbox.set_balance(1)
        await asyncio.wait(tasks[::2])
        assert not any(task.done() for task in tasks[1::2]), "the other half waits on"
        sandbox.fail(status=500, times=2)
        sandbox.set_balance(1_000_001)
        events = await asyncio.wait_for(asyncio.gather(*tasks), timeout=0.5 + 5)  # no stampede that takes longer
        seen = len(sandbox.requests)
        await asyncio.sleep(1.2)
        assert len(sandbox.requests) == seen, "nobody waits, nobody asks"
        return events, seen

    events, requests = asyncio.run(wait())
    assert {event["status"] for event in events} == {"cleared"}
    assert requests <= 10
    assert sandbox.connections <= 3, "one kept connection, and anew after each 500"


def test_a_waiting_gate_is_small(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """At most 5 KB each, also after it has seen readings."""
    sandbox.set_balance(0)

    async def wait() -> float:
        gates = 1000
        tasks = [asyncio.ensure_future(fire(trigger(poke_interval=0.3)))]  # the first loads what all need
        await asked(sandbox, 2)
        tracemalloc.start()
        tasks += [asyncio.ensure_future(fire(trigger(poke_interval=0.3))) for _ in range(gates)]
        await asyncio.sleep(1.5)
        kilobytes = tracemalloc.get_traced_memory()[0] / gates / 1000
        tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return kilobytes

    with caplog.at_level("WARNING"):  # pytest keeps what is logged
        assert asyncio.run(wait()) < (5 if sys.version_info >= (3, 11) else 7)  # objects were larger in Python 3.10


def test_gates_that_come_and_go_leave_the_api_in_peace(sandbox: Sandbox) -> None:
    """Each begins a poll of its own where the one before has ended: that must neither burst nor forget Retry-After."""

    async def wait(status: int | None, again: bool = False, **fault: Any) -> list[float]:
        sandbox.requests.clear()
        sandbox.fail(status=status, **fault) if status else sandbox.mend()
        tasks = []
        for _ in range(40):
            tasks.append(asyncio.ensure_future(fire(trigger(poke_interval=0.5, deadline=time.time() + 2))))
            await asyncio.sleep(0.03)
        await asyncio.gather(*tasks)
        if again:
            await fire(trigger(poke_interval=0.5, deadline=time.time() + 2))
        return [request.at for request in sandbox.requests]

    for status in (None, 401):
        asked = asyncio.run(wait(status))
        assert min(later - earlier for earlier, later in pairwise(asked)) >= 0.45
    assert len(asyncio.run(wait(429, retry_after=60, again=True))) == 1, "nor do those that come when all have ended"


def test_a_clock_that_is_set_stops_no_poll(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    sandbox.set_balance(0)
    now = time.time

    async def wait() -> dict[str, Any]:
        task = asyncio.ensure_future(fire(trigger(deadline=now() + 3600)))
        await asyncio.sleep(0.5)
        monkeypatch.setattr(time, "time", lambda: now() - 3600)
        sandbox.set_balance("2 USD")
        return await asyncio.wait_for(task, 5)

    assert asyncio.run(wait())["status"] == "cleared"


def test_gates_that_failed_are_forgotten(sandbox: Sandbox) -> None:
    """Also where another of them waits on: one error was shown to all, and holds none of them."""
    sandbox.fail(status=401)

    async def wait() -> int:
        stays = asyncio.ensure_future(fire(trigger(silent_fail=True)))
        gates = [trigger() for _ in range(50)]
        await asyncio.gather(*(fire(gate) for gate in gates))
        alive = [weakref.ref(gate) for gate in gates]
        gates.clear()
        left = sum(gate() is not None for gate in alive)
        stays.cancel()
        await asyncio.wait([stays])
        return left

    gc.disable()
    try:
        assert asyncio.run(wait()) <= 1, "the loop may still hold the last one"
    finally:
        gc.enable()


def test_a_poll_that_nobody_waits_on_any_more_asks_no_further(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it look the connection up from its thread, in which a triggerer that stops would hang."""
    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

    looked_up: list[str] = []
    monkeypatch.setattr(AimlBillingHook, "get_connection", looked_up.append)
    sandbox.fail(delay=0.5)

    async def wait() -> None:
        task = asyncio.ensure_future(fire(trigger(respect_key_limit=True)))
        await asked(sandbox, 1)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(1)

    asyncio.run(wait())
    assert [request.path for request in sandbox.requests] == ["/v1/billing/balance"]
    assert not looked_up


def test_polls_that_hang_leave_the_threads_of_the_loop_alone(sandbox: Sandbox) -> None:
    """Airflow needs one for each log line of each trigger."""
    sandbox.fail(delay=1.5)

    async def wait() -> float:
        tasks = [asyncio.ensure_future(fire(trigger(exponential_backoff=True))) for _ in range(30)]
        await asyncio.sleep(0.5)
        began = time.monotonic()
        await asyncio.to_thread(lambda: None)
        took = time.monotonic() - began
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return took

    assert asyncio.run(wait()) < 0.5


def test_gates_that_differ_never_read_each_others_figures(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Other keys, hosts, versions and intervals are other polls."""
    sandbox.set_balance(0)
    with Sandbox("100 USD", key="another-key-0123") as rich:
        monkeypatch.setenv("AIRFLOW_CONN_RICH", rich.connection())
        monkeypatch.setenv("AIRFLOW_CONN_RICH_V2", rich.connection(api_version="v2"))
        monkeypatch.setenv("AIRFLOW_CONN_REFUSED", json.dumps(json.loads(rich.connection()) | {"password": "expired"}))
        differ: list[dict[str, Any]] = [
            {"deadline": time.time() + 1.5},
            {"deadline": time.time() + 1.5, "poke_interval": 0.3},
            {"aimlbilling_conn_id": "rich"},
            {"aimlbilling_conn_id": "rich_v2"},
            {"aimlbilling_conn_id": "refused"},
        ]

        async def wait() -> list[dict[str, Any]]:
            return await asyncio.gather(*(fire(trigger(**changes)) for changes in differ))

        events = asyncio.run(wait())
        assert {request.path for request in rich.requests} == {"/v1/billing/balance", "/v2/billing/detail"}
    assert [event["status"] for event in events] == ["timeout", "timeout", "cleared", "cleared", "failed"]


def test_a_gate_that_is_cancelled_disturbs_no_other(sandbox: Sandbox) -> None:
    """Also the one that began the poll."""
    sandbox.set_balance(0)

    async def wait() -> list[dict[str, Any]]:
        tasks = [asyncio.ensure_future(fire(trigger())) for _ in range(3)]
        await asyncio.sleep(0.5)
        tasks.pop(0).cancel()
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in tasks)
        sandbox.set_balance("2 USD")
        return await asyncio.gather(*tasks)

    assert [event["status"] for event in asyncio.run(wait())] == ["cleared", "cleared"]


def test_a_second_wait_in_another_loop_polls_anew(sandbox: Sandbox) -> None:
    for _ in range(2):
        assert asyncio.run(fire(trigger()))["status"] == "cleared"
    assert len(sandbox.requests) == 2


FAULTS = {
    "refused": {"status": 401},
    "too many": {"status": 429},
    "asked for patience": {"status": 429, "retry_after": 1},
    "broken": {"status": 500},
    "hanging": {"delay": 0.5},
    "no JSON": {"body": b"<html>"},
    "reset": {"reset": True},
}


@pytest.mark.parametrize("row", FAULTS)
def test_no_fault_makes_more_than_one_request_an_interval(sandbox: Sandbox, row: str) -> None:
    """Fifty gates that wait on through anything (silent_fail) ask no more often than one, and keep Retry-After."""
    sandbox.fail(**FAULTS[row])
    interval, lasts = 0.25, 4.0

    async def wait() -> list[dict[str, Any]]:
        gates = [
            trigger(poke_interval=interval, deadline=time.time() + lasts, silent_fail=True, threshold="9000000")
            for _ in range(50)
        ]
        return await asyncio.gather(*(fire(gate) for gate in gates))

    events = asyncio.run(wait())
    assert {event["status"] for event in events} == {"timeout"}
    apart = [later.at - earlier.at for earlier, later in pairwise(sandbox.requests)]
    assert len(apart) >= 2, "it went on asking"
    assert min(apart) >= max(interval, FAULTS[row].get("retry_after", 0)) * 0.9


@pytest.mark.parametrize("asked_by", ["hook", "trigger"])
def test_a_poll_makes_nothing_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked_by: str) -> None:
    """One session, one connection and one CA bundle serve all polls of a hook and of a trigger, also over TLS."""
    from airflow_provider_aimlbilling.hooks import aimlbilling

    made: list[str] = []
    load, open_session = ssl.SSLContext.load_verify_locations, aimlbilling.open_session
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *a, **k: made.append("bundle") or load(*a, **k))
    monkeypatch.setattr(aimlbilling, "open_session", lambda *a: made.append("session") or open_session(*a))
    account = Sandbox(0, key=KEY)
    url = over_tls(account, tmp_path / "certificate.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    connection = json.loads(account.connection()) | {"host": url}
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", json.dumps(connection))
    with account:
        if asked_by == "hook":
            hook = aimlbilling.AimlBillingHook()
            for _ in range(10):
                hook.get_balance()
        else:
            asyncio.run(fire(trigger(poke_interval=0.1, deadline=time.time() + 1.5)))
        assert len(account.requests) >= 10
        assert account.connections == 1
    assert sorted(made) == ["bundle", "session"]


EVENTS = {
    "nothing": None,
    "no dictionary": "cleared",
    "no status": {},
    "unknown status": {"status": "success"},
    "cleared without balance": {"status": "cleared"},
    "cleared with half a balance": {"status": "cleared", "balance": {"low_balance": False}},
    "cleared with a boolean": {"status": "cleared", "balance": {"balance": True}},
    "time-out without message": {"status": "timeout"},
    "failure without message": {"status": "failed", "error": "AimlBillingAuthError"},
    "failure of an unknown kind": {"status": "failed", "error": "ValueError", "message": "x"},
    "failure of a kind that is none": {"status": "failed", "error": "annotations", "message": "x"},
}


@pytest.mark.parametrize("row", EVENTS)
def test_an_event_that_is_not_known_is_no_success(row: str) -> None:
    with pytest.raises(AimlBillingContractError):
        BalanceSensor(task_id="gate").execute_complete({}, EVENTS[row])  # type: ignore[typeddict-item]


@pytest.mark.parametrize("kind", [kind.__name__ for kind in AimlBillingError.__subclasses__()])
def test_a_failure_is_raised_again_as_what_it_was(kind: str) -> None:
    with pytest.raises(AimlBillingError, match="the next step") as caught:
        BalanceSensor(task_id="gate").execute_complete(
            {},  # type: ignore[typeddict-item]
            {"status": "failed", "error": kind, "message": "the next step"},
        )
    assert type(caught.value).__name__ == kind


FRAMEWORK_FAULTS = {
    # what Airflow says when the triggerer is gone, or could not run the trigger -> soft_fail, never_fail, no flag
    "Trigger/execution timeout": ("AirflowSkipException", "AirflowSkipException", "AirflowSensorTimeout"),
    "Trigger timeout": ("AirflowSkipException", "AirflowSkipException", "AirflowSensorTimeout"),
    "Trigger failure": ("TaskDeferralError", "AirflowSkipException", "TaskDeferralError"),
}


@pytest.mark.parametrize("fault", FRAMEWORK_FAULTS)
def test_soft_fail_hides_no_fault_of_the_triggerer(fault: str) -> None:
    flags: list[dict[str, Any]] = [{"soft_fail": True}, {"never_fail": True}, {}]
    for flag, outcome in zip(flags, FRAMEWORK_FAULTS[fault], strict=True):
        sensor = BalanceSensor(task_id="gate", **flag)
        with pytest.raises(Exception) as caught:
            sensor.resume_execution("__fail__", {"error": fault}, {})  # type: ignore[typeddict-item]
        assert type(caught.value).__name__ == outcome
