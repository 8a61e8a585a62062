"""
The trigger that waits without a worker until the charges of a DAG run have settled.

As every trigger of this package, it must never raise: see :mod:`airflow_provider_aimlbilling.triggers.balance`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

from airflow_provider_aimlbilling.client.client import AimlBillingClient
from airflow_provider_aimlbilling.client.settings import Settings, unreachable_connection_error
from airflow_provider_aimlbilling.compat import BaseTrigger, TriggerEvent, get_async_connection
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable
from airflow_provider_aimlbilling.money.run_cost import RunCost, Settling
from airflow_provider_aimlbilling.waiting.run_window import RunWindow
from airflow_provider_aimlbilling.waiting.trigger_event import error_event, unexpected_error

# Seconds after the deadline that a reading which began before it may still take.
READING_GRACE = 60.0

_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = WeakKeyDictionary()


class RunCostTrigger(BaseTrigger):
    """
    Read the request log until two readings at least ``settle_seconds`` apart show the same charges of a DAG run.

    Fires exactly one event, a dictionary with ``status``:

    - ``settled``: with ``fingerprint``, as :attr:`RunCost.fingerprint`;
    - ``timeout``: the charges have not settled by the deadline;
    - ``failed``: with ``error`` (the name of a class in ``exceptions``) and ``message``;

    and with ``try_number``, the try of the task that it belongs to. The worker then reads the figures themselves,
    because an event should be small.

    All triggers of one connection in one triggerer take turns, because the API limits requests for its log.

    :param aimlbilling_conn_id: id of the Airflow connection. The key itself is never part of a trigger.
    :param window: as :meth:`RunWindow.to_dict` returns it.
    :param settle_seconds: seconds between two readings that agree.
    :param deadline: seconds since the epoch.
    :param fingerprint: of the worker's reading.
    :param since: when that reading ended, in seconds since the epoch.
    :param try_number: try of the task that defers.
    """

    def __init__(
        self,
        aimlbilling_conn_id: str,
        window: dict[str, Any],
        settle_seconds: float,
        deadline: float,
        fingerprint: str,
        since: float,
        try_number: int | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.window = window
        self.settle_seconds = settle_seconds
        self.deadline = deadline
        self.fingerprint = fingerprint
        self.since = since
        self.try_number = try_number

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores to recreate this trigger. It contains no secret."""
        return (
            "airflow_provider_aimlbilling.triggers.run_cost.RunCostTrigger",
            {
                "aimlbilling_conn_id": self.aimlbilling_conn_id,
                "window": self.window,
                "settle_seconds": self.settle_seconds,
                "deadline": self.deadline,
                "fingerprint": self.fingerprint,
                "since": self.since,
                "try_number": self.try_number,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire this trigger's one event."""
        try:
            event = await self._wait()
        except AimlBillingError as error:
            event = error_event(error)
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            event = error_event(unexpected_error("the charges to settle", fault))
        yield TriggerEvent({**event, "try_number": self.try_number})  # type: ignore[no-untyped-call]

    async def _wait(self) -> dict[str, Any]:
        window = RunWindow.from_dict(self.window)
        settling = Settling(self.settle_seconds, self.fingerprint, self.since)
        pause = settling.next_reading(time.time(), self.deadline)
        while True:
            await asyncio.sleep(pause)
            began = time.time()
            seconds_left = max(self.deadline - began, 0.0)
            try:
                cost, began = await asyncio.wait_for(self._read(window), seconds_left + READING_GRACE)
                if settling.update(cost.fingerprint, began, time.time()):
                    return {"status": "settled", "fingerprint": settling.fingerprint}
                pause = settling.next_reading(time.time(), self.deadline)
            except AimlBillingUnavailable as error:
                self.log.warning("Still waiting for the charges to settle: %s", error)
                pause = min(max(self.settle_seconds, error.retry_after or 0.0), seconds_left)
            except asyncio.TimeoutError:  # in Python 3.10 it is not the built-in one
                seconds_left = 0.0
            if not seconds_left or time.time() >= self.deadline:
                return {"status": "timeout"}

    async def _read(self, window: RunWindow) -> tuple[RunCost, float]:
        """Read the log. Return what the run cost so far, and when the reading began."""
        locks = _locks.setdefault(asyncio.get_running_loop(), {})
        async with locks.setdefault(self.aimlbilling_conn_id, asyncio.Lock()):
            client = AimlBillingClient(await self._settings())  # looked up each time: a rotated key counts at once
            # Not a thread of the event loop's own: each log line of a trigger needs one of those.
            executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aimlbilling-run-cost")
            try:
                began = time.time()
                cost = await asyncio.get_running_loop().run_in_executor(executor, window.read, client, began)
                return cost, began
            finally:
                client.close()
                executor.shutdown(wait=False)

    async def _settings(self) -> Settings:
        try:
            return Settings.from_connection(await get_async_connection(self.aimlbilling_conn_id))
        except AimlBillingError:
            raise
        except Exception as fault:  # noqa: BLE001 - a secrets backend may raise anything; the worker found it before
            raise unreachable_connection_error(self.aimlbilling_conn_id, type(fault).__name__) from None
