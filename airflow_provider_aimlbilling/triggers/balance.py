"""
The wait without a worker.

A trigger must never raise: Airflow prints what escapes one in a process that never loaded the connection, where the
key would not be masked. So every fault becomes a value here, and only our own sanitized text leaves in an event.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Iterator
from contextlib import aclosing
from itertools import repeat
from typing import Any

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.triggers import base
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_aimlbilling.balance import Amount, Balance, Gate
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.waiting import Waiting

# Airflow 3 has it, 2.11 does not. From 3.3 on its shared stream also serves deferred tasks.
_Base: Any = getattr(base, "BaseEventTrigger", BaseTrigger)

LONGEST_WAIT = 3600.0  # seconds that exponential backoff grows to where no max_wait is set

# What one poll said. None: nothing was asked, but time has passed.
Reading = Balance | AimlBillingError | None


class BalanceTrigger(_Base):  # type: ignore[misc]
    """
    Wait in the triggerer until the balance clears the threshold, the deadline passes, or waiting has become hopeless.

    Fires exactly one event, a dictionary with ``status``:

    - ``cleared``: with ``balance``, as :meth:`Balance.to_dict` gives it;
    - ``timeout``: with ``message``;
    - ``failed``: with ``error`` (name of a class in ``exceptions``) and ``message``.

    On Airflow 3.3 all triggers of one connection and interval that wait in one triggerer share one poll; on older
    versions each polls.

    :param aimlbilling_conn_id: id of the Airflow connection. The key itself is never part of a trigger.
    :param threshold: as :meth:`Amount.parse` reads it; ``None`` leaves it to the account's own ``lowBalance``.
    :param poke_interval: seconds between two polls.
    :param deadline: seconds since the epoch. Wall-clock, since a trigger may be resumed on another machine.
    :param next_poll_at: seconds since the epoch before which nothing is asked: the worker has only just asked.
    :param exponential_backoff: let the time between two polls grow. Such a trigger polls for itself.
    :param max_wait: seconds that the grown time is limited to.
    :param silent_fail: log errors and wait on.
    :param last_seen: what the worker's poke said of the balance, for the message of a time-out.
    :param last_fault: what kept the worker's poke from seeing the balance, for the same.
    """

    # BaseEventTrigger turns this off, being made for watchers; a deferred task needs it.
    supports_triggerer_queue = True

    def __init__(
        self,
        aimlbilling_conn_id: str,
        threshold: str | None,
        poke_interval: float,
        deadline: float,
        next_poll_at: float = 0.0,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        silent_fail: bool = False,
        last_seen: str = "",
        last_fault: str = "",
    ) -> None:
        super().__init__()
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.threshold = threshold
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.next_poll_at = next_poll_at
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.silent_fail = silent_fail
        self.last_seen = last_seen
        self.last_fault = last_fault

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow stores to make this trigger anew. Nothing in it is secret."""
        return (
            "airflow_provider_aimlbilling.triggers.balance.BalanceTrigger",
            {
                "aimlbilling_conn_id": self.aimlbilling_conn_id,
                "threshold": self.threshold,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
                "next_poll_at": self.next_poll_at,
                "exponential_backoff": self.exponential_backoff,
                "max_wait": self.max_wait,
                "silent_fail": self.silent_fail,
                "last_seen": self.last_seen,
                "last_fault": self.last_fault,
            },
        )

    def shared_stream_key(self) -> Hashable | None:
        """Name the poll that this trigger can share: all that makes two polls differ, and nothing else."""
        if self.exponential_backoff:
            return None
        return ("aimlbilling-balance", self.aimlbilling_conn_id, self.poke_interval)

    @classmethod
    def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Reading]:
        """
        Poll for all triggers of one :meth:`shared_stream_key`.

        Of ``kwargs`` only ``next_poll_at`` is not in the key. It can but delay the group's first poll.
        """
        interval = kwargs["poke_interval"]
        return _readings(kwargs["aimlbilling_conn_id"], repeat(interval), interval, kwargs["next_poll_at"])

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait on a poll of one's own: Airflow before 3.3, and exponential backoff."""
        waits = self._growing_waits() if self.exponential_backoff else repeat(self.poke_interval)
        own = _readings(self.aimlbilling_conn_id, waits, self.poke_interval, self.next_poll_at)
        async with aclosing(own) as readings:
            async for event in self.filter_shared_stream(readings):
                yield event

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Turn readings, shared or not, into this trigger's one event."""
        try:
            event = await self._wait(shared_stream)
        except AimlBillingError as error:
            event = _failed(error)
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            # Not our text, so it may hold anything: only its type leaves.
            event = _failed(AimlBillingError(f"The wait for the balance broke with {type(fault).__name__}."))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _wait(self, readings: AsyncIterator[Any]) -> dict[str, Any]:
        gate = Gate(None if self.threshold is None else Amount.parse(self.threshold))
        waiting = Waiting(gate, self.log, silent_fail=self.silent_fail)
        waiting.seen, waiting.fault = self.last_seen, self.last_fault
        async for reading in readings:
            verdict = None if reading is None else waiting.look(reading)
            if verdict and verdict.clears and verdict.balance:
                return {"status": "cleared", "balance": verdict.balance.to_dict()}
            if time.time() >= self.deadline:
                return {"status": "timeout", "message": waiting.story()}
        raise AimlBillingError("The poll of the balance ended by itself, which it must not.")

    def _growing_waits(self) -> Iterator[float]:
        """Double the wait with each poll, spread by up to as much again, and land the last poll on the deadline."""
        wait, longest = self.poke_interval, max(self.poke_interval, LONGEST_WAIT)
        while True:
            spread = min(wait * random.uniform(1, 2), self.max_wait or longest)  # noqa: S311 - no secret
            yield min(spread, max(self.deadline - time.time(), self.poke_interval))
            wait = min(wait * 2, longest)


def _failed(error: AimlBillingError) -> dict[str, Any]:
    return {"status": "failed", "error": type(error).__name__, "message": str(error)}


async def _readings(
    conn_id: str, waits: Iterator[float], tick: float, next_poll_at: float
) -> AsyncGenerator[Reading, None]:
    """
    Poll for ever. Yields faults as values and never raises.

    :param waits: seconds before each further poll; an API that asks for more by Retry-After gets it.
    :param tick: seconds after which a long wait yields ``None``, so that deadlines are kept also then.
    """
    hook = AimlBillingHook(conn_id, retries=0)
    found = False
    try:
        while True:
            while (left := next_poll_at - time.time()) > 0:
                await asyncio.sleep(min(left, tick))
                if left > tick:
                    yield None
            # Looked up for each poll: a key that was mended or rotated meanwhile counts at once.
            fault = await _look_up(hook, found)
            found = found or fault is None
            reading = fault or await _ask(hook)
            yield reading
            retry_after = getattr(reading, "retry_after", None) or 0.0
            next_poll_at = time.time() + max(next(waits), retry_after)
    finally:
        hook.close()


async def _look_up(hook: AimlBillingHook, found: bool) -> AimlBillingError | None:
    try:
        hook.use_connection(await get_async_connection(hook.aimlbilling_conn_id))
    except AimlBillingError as error:
        return error
    except Exception as fault:  # noqa: BLE001 - a poll must not raise
        # What was there a moment ago is more likely out of reach than gone, and a shared poll speaks for many gates.
        # Of texts that are not ours only the type leaves: they may hold anything.
        if found:
            return AimlBillingUnavailable(
                f"The connection {hook.aimlbilling_conn_id!r} cannot be looked up ({type(fault).__name__})."
            )
        if isinstance(fault, AirflowNotFoundException):
            return hook.connection_missing()
        return AimlBillingError(f"Looking up the connection broke with {type(fault).__name__}.")
    return None


async def _ask(hook: AimlBillingHook) -> Balance | AimlBillingError:
    try:
        # One thread for one poll, in place of a second, asynchronous client.
        return await asyncio.to_thread(hook.get_balance)
    except AimlBillingError as error:
        return error
    except Exception as fault:  # noqa: BLE001 - a poll must not raise
        return AimlBillingError(f"The poll of the balance broke with {type(fault).__name__}.")
