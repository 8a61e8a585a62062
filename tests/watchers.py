"""Watchers of the balance, run without a triggerer."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from support import KEY

from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger
from airflow_provider_aimlbilling.waiting import watcher_state


def watcher(store: Any = None, **changes: Any) -> BalanceEventTrigger:
    """
    Return a watcher for a fall below 1 USD, which can fire again after the balance has been 1.50 USD.

    :param store: its asset state store; ``None`` for none.
    """
    created = BalanceEventTrigger(**{"threshold": "1 USD", "hysteresis": "0.50 USD", "poke_interval": 0.1} | changes)
    created._log = logging.getLogger("watcher")  # Airflow 3 logs past caplog
    if store is not None:
        created.asset_state_store = store
    return created


class Store:
    """
    Stands in for Airflow's asset state store, which needs a triggerer around it.

    :param failures: how many calls fail.
    """

    def __init__(self, failures: int = 0) -> None:
        self.saved: dict[str, Any] = {}
        self.failures = failures
        self.writes = 0

    async def aget(self, key: str, default: Any = None) -> Any:
        self._fail_if_due()
        return self.saved.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self._fail_if_due()
        self.writes += 1
        self.saved[key] = json.loads(json.dumps(value))
        assert value is not None, "Airflow refuses None"

    def _fail_if_due(self) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise RuntimeError(f"Bearer {KEY}")


class Triggerer:
    """Runs watchers as a triggerer does. Leaving the block kills it at once."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def watch(self, trigger: Any) -> list[dict[str, Any]]:
        """Start a trigger, and return the list to which its events are added."""
        events: list[dict[str, Any]] = []
        self.tasks.append(asyncio.ensure_future(self._run(trigger, events)))
        return events

    async def _run(self, trigger: Any, events: list[dict[str, Any]]) -> None:
        async for event in trigger.run():
            json.dumps(event.payload)
            events.append(event.payload)

    async def __aenter__(self) -> Triggerer:
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self.tasks:
            if task.done():
                task.result()  # raises what the trigger raised
            task.cancel()
        await asyncio.wait(self.tasks)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        await asyncio.sleep(0.02)


async def polled(sandbox: Sandbox) -> None:
    """Wait until the current balance has been read and processed."""
    before = len(sandbox.requests)
    await until(lambda: len(sandbox.requests) >= before + 3)


def run_for(sandbox: Sandbox, trigger: BalanceEventTrigger, *balances: str) -> list[dict[str, Any]]:
    """Run a triggerer from start to end while the account has these balances, and return the events."""

    async def run() -> list[dict[str, Any]]:
        async with Triggerer() as triggerer:
            sandbox.set_balance(balances[0])
            events = triggerer.watch(trigger)
            for balance in balances:
                sandbox.set_balance(balance)
                await polled(sandbox)
            await asyncio.sleep(watcher_state.SETTLE_TIME + 0.2)
            return list(events)

    return asyncio.run(run())
