"""The trigger of one gate: it fires one event, raises nothing, blocks nothing and reveals nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from gates import fire, trigger, until_requested
from support import KEY

from airflow_provider_aimlbilling.client.client import AimlBillingClient
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger
from airflow_provider_aimlbilling.waiting import wait_state


def test_a_trigger_survives_serialization() -> None:
    more = {"respect_key_limit": True, "top_up_grace": 60.0, "first_wait": 9.0, "budget": "1 USD per day"}
    first = trigger(max_wait=7.0, exponential_backoff=True, silent_fail=True, next_poll_at=3.0, last_seen="x", **more)
    path, arguments = first.serialize()
    assert path == f"{BalanceTrigger.__module__}.{BalanceTrigger.__name__}"
    again = BalanceTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == first.serialize()
    assert set(arguments) == set(BalanceTrigger.__init__.__code__.co_varnames[1:]) - {"__class__"}
    plain = set(trigger().serialize()[1])
    assert not plain & set(more), "an older triggerer does not know them"


def test_a_trigger_that_an_older_version_stored_loads_and_reads_no_usage(sandbox: Sandbox) -> None:
    """Version 0.2 stored exactly this. Airflow creates the trigger from it after an upgrade."""
    stored = {
        "aimlbilling_conn_id": "aimlbilling_default",
        "threshold": "4000000",
        "poke_interval": 0.2,
        "deadline": time.time() + 20,
        "next_poll_at": 0.0,
        "exponential_backoff": False,
        "max_wait": None,
        "silent_fail": False,
        "last_seen": "",
        "last_fault": "",
        "end_from_trigger": False,
        "try_number": 1,
    }
    waiting = BalanceTrigger(**stored)
    assert waiting.serialize()[1] == stored, "and an older triggerer can load what this version stores"
    event = asyncio.run(fire(waiting))
    assert event["status"] == "cleared"
    assert "budget" not in event["balance"]
    assert len(sandbox.requests) == 1


def test_a_balance_that_is_enough_fires_cleared(sandbox: Sandbox) -> None:
    event = asyncio.run(fire(trigger()))
    assert event["status"] == "cleared"
    assert event["balance"]["balance"] == 5_000_000


def test_the_deadline_is_the_gate_s_own(sandbox: Sandbox) -> None:
    event = asyncio.run(fire(trigger(threshold="9000000", deadline=time.time() + 0.5)))
    assert event["status"] == "timeout"
    assert "2.00 USD missing" in event["message"]


def test_the_deadline_holds_during_a_long_retry_after(sandbox: Sandbox) -> None:
    sandbox.fail(status=429, retry_after=600)
    started = time.monotonic()
    event = asyncio.run(fire(trigger(deadline=time.time() + 0.6)))
    assert event["status"] == "timeout"
    assert time.monotonic() - started < 5
    assert len(sandbox.requests) == 1, "the API asked for no further request"


def test_the_first_poll_waits_for_next_poll_at(sandbox: Sandbox) -> None:
    started = time.monotonic()
    asyncio.run(fire(trigger(next_poll_at=time.time() + 0.6, first_wait=0.6)))
    assert sandbox.requests[0].at - started >= 0.55


ERRORS = {
    "refused key": ({"status": 401}, {}, "AimlBillingAuthError"),
    "threshold": ({}, {"threshold": "12 EUR"}, "AimlBillingThresholdError"),
    "budget": ({}, {"budget": "12 EUR per day"}, "AimlBillingBudgetError"),
    "empty budget": ({}, {"budget": ""}, "AimlBillingBudgetError"),
    "no deadline": ({}, {"threshold": "9000000", "deadline": None}, "AimlBillingError"),
    "no interval": ({}, {"threshold": "9000000", "poke_interval": None}, "AimlBillingError"),
}


@pytest.mark.parametrize("row", ERRORS)
def test_every_error_becomes_an_event(sandbox: Sandbox, row: str) -> None:
    fault, changes, error = ERRORS[row]
    sandbox.fail(**fault)
    event = asyncio.run(fire(trigger(**changes)))
    assert (event["status"], event["error"]) == ("failed", error)
    assert KEY not in json.dumps(event)


ODD_ANSWERS: dict[str, dict[str, Any]] = {
    "404": {"status": 404},
    "410": {"status": 410},
    "302": {"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}},
    "a message with 200": {"body": b'{"message": "hello"}'},
    "a list": {"body": b"[]"},
    "403 of a firewall": {"status": 403, "body": b"<html>Blocked</html>"},
    "503": {"status": 503},
}


@pytest.mark.parametrize("row", ODD_ANSWERS)
def test_one_odd_answer_ends_no_gate_of_a_shared_poll(sandbox: Sandbox, row: str) -> None:
    sandbox.set_balance(0)

    async def scenario() -> list[dict[str, Any]]:
        tasks = [asyncio.ensure_future(fire(trigger())) for _ in range(50)]
        await until_requested(sandbox, 1)
        sandbox.fail(**ODD_ANSWERS[row], times=1)
        await until_requested(sandbox, 3)
        sandbox.set_balance("3 USD")
        return await asyncio.gather(*tasks)

    assert {event["status"] for event in asyncio.run(scenario())} == {"cleared"}


def test_an_odd_answer_that_lasts_ends_the_gate(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """It must have been so for several polls, and for some minutes; a balance in between starts over."""
    monkeypatch.setattr(wait_state, "ODD_ANSWER_SECONDS", 0.7)
    sandbox.fail(status=404)
    event = asyncio.run(fire(trigger()))
    assert (event["status"], event["error"]) == ("failed", "AimlBillingContractError")
    assert "answered 404" in event["message"]
    assert len(sandbox.requests) >= wait_state.ODD_ANSWER_POLLS


def test_a_connection_that_the_worker_has_found_is_out_of_reach_and_not_missing(sandbox: Sandbox) -> None:
    """Also after a restart of the triggerer, which has never found it itself."""
    event = asyncio.run(fire(trigger(aimlbilling_conn_id="nowhere", deadline=time.time() + 0.7)))
    assert event["status"] == "timeout"
    assert "'nowhere' was found before, but cannot be looked up now" in event["message"]


def test_a_connection_that_was_never_found_is_missing(sandbox: Sandbox) -> None:
    gate = trigger(aimlbilling_conn_id="nowhere", deadline=None)
    gate.timeout_after = datetime.now(timezone.utc) + timedelta(hours=1)  # as Airflow sets it
    event = asyncio.run(fire(gate))
    assert (event["status"], event["error"]) == ("failed", "AimlBillingConnectionError")


def test_an_event_names_the_try_that_it_belongs_to(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    assert asyncio.run(fire(trigger(try_number=3)))["try_number"] == 3
    started_here = trigger(deadline=None)
    started_here.timeout_after = datetime.now(timezone.utc) + timedelta(hours=1)
    monkeypatch.setattr(BalanceTrigger, "task_instance", SimpleNamespace(try_number=2), raising=False)
    vars(started_here).pop("task_instance", None)  # Airflow 2.11 has it on the instance, 3.3 as a property
    assert asyncio.run(fire(started_here))["try_number"] == 2


def test_an_unexpected_error_shows_only_its_type(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    def fail(self: object, **options: object) -> None:
        raise RuntimeError(f"Bearer {KEY}")

    monkeypatch.setattr(AimlBillingClient, "get_balance", fail)
    event = asyncio.run(fire(trigger()))
    assert event == {
        "status": "failed",
        "error": "AimlBillingError",
        "message": "Reading the balance failed unexpectedly with RuntimeError.",
        "verdict": None,
        "aimlbilling_conn_id": "aimlbilling_default",
        "try_number": None,
    }


def test_the_event_loop_is_never_blocked(sandbox: Sandbox) -> None:
    sandbox.fail(delay=0.6, times=1)

    async def longest_stall() -> float:
        task = asyncio.ensure_future(fire(trigger()))
        longest, last = 0.0, time.monotonic()
        while not task.done():
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await task
        return longest

    assert asyncio.run(longest_stall()) < 0.4, "the response took longer"


def test_a_rotated_key_is_used_at_the_next_poll(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    sandbox.set_balance(0)

    async def rotate() -> dict[str, Any]:
        task = asyncio.ensure_future(fire(trigger()))
        await until_requested(sandbox, 2)
        sandbox.key = "another-key-0123"
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection())
        sandbox.set_balance("2.50 USD")
        return await task

    assert asyncio.run(rotate())["status"] == "cleared"


def test_the_log_has_one_line_for_each_change(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.set_balance(0)
    monkeypatch.setattr(BalanceTrigger, "_log", logging.getLogger("gate"))  # Airflow 3 logs past caplog

    async def wait() -> None:
        task = asyncio.ensure_future(fire(trigger(poke_interval=0.1)))
        for change in ({"status": 500}, {"status": 429}, None, {"reset": True}):
            await until_requested(sandbox, len(sandbox.requests) + 3)
            sandbox.recover() if change is None else sandbox.fail(**change)
        await until_requested(sandbox, len(sandbox.requests) + 3)
        sandbox.recover()
        sandbox.set_balance("2 USD")
        await task

    with caplog.at_level("INFO", logger="gate"):
        asyncio.run(wait())
    lines = [record.getMessage() for record in caplog.records if record.name == "gate"]
    assert [line.partition(" ")[0] for line in lines] == [
        *("Waiting:", "Still", "Still"),
        *("Waiting:", "Still", "Gate"),
    ], lines
    assert len(sandbox.requests) > 10


def test_repr_and_serialization_contain_no_secret(sandbox: Sandbox) -> None:
    waiting = trigger()
    asyncio.run(fire(waiting))
    assert KEY not in repr(waiting) + repr(waiting.serialize()) + repr(vars(waiting))


def test_the_trigger_supports_triggerer_queues() -> None:
    assert getattr(BalanceTrigger, "supports_triggerer_queue", True)


def test_only_triggers_that_poll_alike_share_a_poll() -> None:
    key = trigger()._poll_key()
    assert trigger(threshold="1", deadline=0.0, next_poll_at=9.0, silent_fail=True)._poll_key() == key
    others = [
        *({"poke_interval": 0.3}, {"aimlbilling_conn_id": "another"}, {"exponential_backoff": True}),
        *({"respect_key_limit": True}, {"top_up_grace": 60.0}, {"top_up_grace": 61.0}),
        *({"budget": "1 USD per day"}, {"budget": "1 USD per week"}),
    ]
    assert len({key, *(trigger(**other)._poll_key() for other in others)}) == 9


def test_setting_the_clock_back_does_not_stop_the_poll(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    sandbox.set_balance(0)
    now = time.time

    async def wait() -> dict[str, Any]:
        task = asyncio.ensure_future(fire(trigger(deadline=now() + 3600)))
        await until_requested(sandbox, 2)
        monkeypatch.setattr(time, "time", lambda: now() - 3600)
        sandbox.set_balance("2 USD")
        return await asyncio.wait_for(task, 5)

    assert asyncio.run(wait())["status"] == "cleared"
