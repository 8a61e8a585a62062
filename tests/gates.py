"""Gates that wait in the triggerer, run without one."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger


def trigger(**changes: Any) -> BalanceTrigger:
    """Return the trigger of a gate at 2 USD that polls five times a second, for 20 seconds."""
    arguments: dict[str, Any] = {
        "aimlbilling_conn_id": "aimlbilling_default",
        "threshold": "4000000",
        "poke_interval": 0.2,
        "deadline": time.time() + 20,
    }
    return BalanceTrigger(**arguments | changes)


async def fire(waiting: BalanceTrigger) -> dict[str, Any]:
    """Run a trigger and return its one event."""
    events = [event.payload async for event in waiting.run()]
    assert len(events) == 1
    json.dumps(events)
    return events[0]


async def until_requested(sandbox: Sandbox, times: int) -> None:
    """Wait until the sandbox has received so many requests."""
    deadline = time.monotonic() + 20
    while len(sandbox.requests) < times:
        assert time.monotonic() < deadline, f"{len(sandbox.requests)} requests instead of {times}"
        await asyncio.sleep(0.02)
