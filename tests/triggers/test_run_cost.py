"""The trigger that waits for charges to settle: it fires one event, raises nothing and reveals nothing."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from gates import until_requested
from support import KEY

from airflow_provider_aimlbilling.money.request_id import encode_request_id
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.triggers.run_cost import RunCostTrigger

START = datetime.now(timezone.utc) - timedelta(minutes=10)


def trigger(**changes: Any) -> RunCostTrigger:
    arguments: dict[str, Any] = {
        "aimlbilling_conn_id": "aimlbilling_default",
        "window": {"dag_id": "d", "run_id": "r", "start": START.isoformat(), "end": None},
        "settle_seconds": 0.3,
        "deadline": time.time() + 20,
        "fingerprint": "0:0:0",
        "since": time.time(),
        "try_number": 3,
    }
    return RunCostTrigger(**arguments | changes)


async def fire(waiting: RunCostTrigger) -> dict[str, Any]:
    """Run a trigger and return its one event."""
    (event,) = [event.payload async for event in waiting.run()]
    json.dumps(event)
    return event  # type: ignore[no-any-return]


def charge(sandbox: Sandbox, credits: int, run: str = "r") -> None:
    sandbox.spend(credits, "sandbox/chat", client_request_id=encode_request_id("d", run, "t", -1, 1))


def test_a_trigger_survives_serialization() -> None:
    first = trigger()
    path, arguments = first.serialize()
    assert path == f"{RunCostTrigger.__module__}.{RunCostTrigger.__name__}"
    assert RunCostTrigger(**json.loads(json.dumps(arguments))).serialize() == first.serialize()
    assert set(arguments) == set(RunCostTrigger.__init__.__code__.co_varnames[1:]) - {"__class__"}


def test_the_same_charges_again_have_settled(sandbox: Sandbox) -> None:
    charge(sandbox, 5)
    charge(sandbox, 7, "another")
    event = asyncio.run(fire(trigger(fingerprint="1:0:5")))
    assert event == {"status": "settled", "fingerprint": "1:0:5", "try_number": 3}
    assert len(sandbox.requests) == 1


def test_a_late_charge_starts_the_wait_over(sandbox: Sandbox) -> None:
    async def scenario() -> dict[str, Any]:
        waiting = asyncio.ensure_future(fire(trigger(settle_seconds=0.6)))
        charge(sandbox, 5)
        await until_requested(sandbox, 1)
        charge(sandbox, 6)
        return await waiting

    assert asyncio.run(scenario())["fingerprint"] == "2:0:11"
    assert len(sandbox.requests) == 3


def test_the_deadline_ends_the_wait(sandbox: Sandbox) -> None:
    async def scenario() -> dict[str, Any]:
        waiting = asyncio.ensure_future(fire(trigger(deadline=time.time() + 1, fingerprint="?")))
        for number in range(1, 20):
            charge(sandbox, number)
            await asyncio.sleep(0.1)
        return await waiting

    assert asyncio.run(scenario()) == {"status": "timeout", "try_number": 3}


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429, "retry_after": 3600}, {"reset": True}])
def test_an_api_that_is_away_is_waited_for_until_the_deadline(sandbox: Sandbox, fault: dict[str, Any]) -> None:
    sandbox.fail(**fault)
    assert asyncio.run(fire(trigger(deadline=time.time() + 1)))["status"] == "timeout"


def test_a_connection_that_the_worker_has_found_is_out_of_reach_and_not_missing(sandbox: Sandbox) -> None:
    event = asyncio.run(fire(trigger(aimlbilling_conn_id="nowhere", deadline=time.time() + 1)))
    assert event["status"] == "timeout"


ERRORS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "refused key": ({"status": 401}, {}, "AimlBillingAuthError"),
    "not the log": ({"body": b'{"message": "hello"}'}, {}, "AimlBillingContractError"),
    "no window": ({}, {"window": {}}, "AimlBillingError"),
    "no time": ({}, {"since": None}, "AimlBillingError"),
}


@pytest.mark.parametrize("row", ERRORS)
def test_every_error_becomes_an_event(sandbox: Sandbox, row: str) -> None:
    fault, changes, error = ERRORS[row]
    sandbox.fail(**fault)
    event = asyncio.run(fire(trigger(**changes)))
    assert (event["status"], event["error"], event["try_number"]) == ("failed", error, 3)
    assert KEY not in json.dumps(event)


def test_triggers_of_one_connection_take_turns(sandbox: Sandbox) -> None:
    sandbox.fail(delay=0.05)

    async def scenario() -> list[dict[str, Any]]:
        return await asyncio.gather(*(fire(trigger(since=0.0)) for _ in range(5)))

    assert [event["status"] for event in asyncio.run(scenario())] == ["settled"] * 5
    at = sorted(request.at for request in sandbox.requests)
    assert all(later - earlier >= 0.045 for earlier, later in pairwise(at))
