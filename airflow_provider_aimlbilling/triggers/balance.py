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
from datetime import datetime, timezone
from itertools import repeat
from typing import TYPE_CHECKING, Any

from airflow.triggers import base
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_aimlbilling.balance import Amount, Gate
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingThresholdError
from airflow_provider_aimlbilling.polling import Reading, poll
from airflow_provider_aimlbilling.shared_poll import ENDED, poll_key, reading_along
from airflow_provider_aimlbilling.waiting import Waiting, deferral_timeout

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context

LONGEST_WAIT = 3600.0  # seconds that exponential backoff grows to where no max_wait is set


class BalanceTrigger(BaseTrigger):
    """
    Wait in the triggerer until the balance clears the threshold, the deadline passes, or waiting has become hopeless.

    Fires exactly one event, a dictionary with ``status``:

    - ``cleared``: with ``balance`` and ``verdict``, as :meth:`Balance.to_dict` and :meth:`Verdict.to_dict` give them;
    - ``timeout``: with ``message``, and the last ``verdict`` if there was one;
    - ``failed``: with ``error`` (name of a class in ``exceptions``) and ``message``.

    All triggers of one connection and interval that wait in one triggerer share one poll.

    :param aimlbilling_conn_id: id of the Airflow connection. The key itself is never part of a trigger.
    :param threshold: as :meth:`Amount.parse` reads it; ``None`` leaves it to the account's own ``lowBalance``.
    :param poke_interval: seconds between two polls.
    :param deadline: seconds since the epoch. Wall-clock, since a trigger may be resumed on another machine. ``None``
        where the task started in the triggerer: then Airflow's deferral time-out tells it.
    :param next_poll_at: seconds since the epoch before which nothing is asked: the worker has only just asked.
    :param exponential_backoff: let the time between two polls grow. Such a trigger polls for itself.
    :param max_wait: seconds that the grown time is limited to.
    :param silent_fail: log errors and wait on.
    :param last_seen: what the worker's poke said of the balance, for the message of a time-out.
    :param last_fault: what kept the worker's poke from seeing the balance, for the same.
    :param end_from_trigger: when the balance clears, push the XCom and end the task here. Every other end goes through
        a worker, for the sake of flags, retries and callbacks.
    :param respect_key_limit: compare with what the key may still spend, where that is less than the balance.
    :param top_up_grace: seconds after which an auto top-up that does not pay ends the wait; ``None`` for never.
    """

    def __init__(
        self,
        aimlbilling_conn_id: str,
        threshold: str | None,
        poke_interval: float,
        deadline: float | None,
        next_poll_at: float = 0.0,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        silent_fail: bool = False,
        last_seen: str = "",
        last_fault: str = "",
        end_from_trigger: bool = False,
        respect_key_limit: bool = False,
        top_up_grace: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
        self.end_from_trigger = end_from_trigger
        self.respect_key_limit = respect_key_limit
        self.top_up_grace = top_up_grace
        self._unrendered: AimlBillingError | None = None

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
                "end_from_trigger": self.end_from_trigger,
                # Only where they are set, so that a triggerer of version 0.1.0 can make a trigger of a newer worker's.
                **self._asked(),
            },
        )

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Render what the DAG's author wrote, which Airflow asks for where the task starts in the triggerer."""
        from jinja2 import StrictUndefined

        written = (self.threshold, self.aimlbilling_conn_id)
        if not any("{" in str(text) for text in written):  # hundreds may start at once, most of them without a template
            return
        try:
            jinja_env = jinja_env or self.get_template_env()
            # As on a worker. Airflow's triggerer is lenient: "{{ params.typo }}000" would come out as "000".
            jinja_env.undefined = StrictUndefined
            super().render_template_fields(context, jinja_env)
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            self._unrendered = AimlBillingThresholdError(
                f"One of the templates {written} cannot be rendered ({type(fault).__name__}). Correct it in the DAG."
            )

    def _asked(self) -> dict[str, Any]:
        """What is asked beside the balance, as the arguments of :meth:`AimlBillingHook.get_balance`."""
        asked = {"respect_key_limit": self.respect_key_limit, "top_up_grace": self.top_up_grace}
        return {name: value for name, value in asked.items() if value}

    def _poll_key(self) -> Hashable:
        """Name the poll that this trigger can share: all that makes two polls differ, and nothing else."""
        if self.exponential_backoff:
            return object()  # nobody else's
        return poll_key(self.aimlbilling_conn_id, self.poke_interval, *self._asked().items())

    def _open_poll(self) -> AsyncGenerator[Reading, None]:
        """Poll for all triggers of one key. Of what is not in it, ``next_poll_at`` can but delay the first poll."""
        interval = self.poke_interval
        waits = self._growing_waits() if self.exponential_backoff else repeat(interval)
        return poll(self.aimlbilling_conn_id, waits, interval, self.next_poll_at, self._asked())

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire this trigger's one event."""
        try:
            event = await self._wait()
        except AimlBillingError as error:
            event = _failed(error)
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            event = _broken(fault)
        if self.end_from_trigger and event["status"] == "cleared" and await self._pushed(event["balance"]):
            yield base.TaskSuccessEvent()
        else:
            yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _wait(self) -> dict[str, Any]:
        if self._unrendered:
            raise self._unrendered
        gate = Gate(None if self.threshold is None else Amount.parse(self.threshold))
        # The logger of the class: one of its own would nearly double what a waiting gate takes of memory.
        waiting = Waiting(gate, self.logger(), silent_fail=self.silent_fail, seen=self.last_seen, fault=self.last_fault)
        self.deadline = self._until()
        if self.end_from_trigger and self.task_instance and self.task_instance.try_number > 1:
            await self._forget_last_try()
        ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def show(reading: Any) -> bool:
            if not ended.done() and (event := self._look(waiting, reading)):
                ended.set_result(event)
            return ended.done()

        with reading_along(self._poll_key(), self._open_poll, show):
            return await ended

    def _look(self, waiting: Waiting, reading: Any) -> dict[str, Any] | None:
        """Give the event that a reading leads to; ``None`` where the wait goes on. It must not raise."""
        try:
            if reading is ENDED:
                raise AimlBillingError("The poll of the balance ended by itself, which it must not.")
            verdict = None if reading is None else waiting.look(reading)
            if verdict and verdict.clears and verdict.balance:
                return {"status": "cleared", "balance": verdict.balance.to_dict(), "verdict": verdict.to_dict()}
            if self.deadline is not None and time.time() >= self.deadline:
                last = waiting.verdict.to_dict() if waiting.verdict else None
                return {"status": "timeout", "message": waiting.story(), "verdict": last}
        except AimlBillingError as error:
            return _failed(error)
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            return _broken(fault)
        return None

    def _until(self) -> float:
        """Give the deadline in seconds since the epoch, also where no worker has set one."""
        if self.deadline is not None:
            return self.deadline
        given: datetime | None = getattr(self, "timeout_after", None)  # set by the triggerer, kept over its restarts
        if given is None:
            raise AimlBillingError("Airflow named no time-out. Leave start_from_trigger out on this version.")
        until = given.replace(tzinfo=given.tzinfo or timezone.utc) - deferral_timeout(0, self.poke_interval)
        return until.timestamp()

    async def _forget_last_try(self) -> None:
        """Delete the XCom of an earlier try, as Airflow does when a worker starts a task."""
        try:
            from airflow.sdk.execution_time.xcom import XCom

            # The verdict is a worker's, who ended it badly then.
            for key in ("return_value", "verdict"):
                await asyncio.to_thread(XCom.delete, **self._xcom(key))
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            self.log.warning("The XCom of an earlier try is still there (%s).", type(fault).__name__)

    async def _pushed(self, balance: dict[str, Any]) -> bool:
        """Push the XCom from here; ``False`` where a worker has to."""
        task = self.task
        if task is None:  # the DAG was changed meanwhile, and no longer starts this gate here
            return False
        from airflow_provider_aimlbilling.metrics import count_decision

        try:
            from airflow.sdk.execution_time.xcom import XCom

            # Not as TaskSuccessEvent(xcoms=…), which stores JSON as text.
            if task.do_xcom_push:
                # The balance alone: each XCom is a call of Airflow's API, and a second made two hundred gates that open
                # at once compute half as much again, and end three seconds later.
                await XCom.aset(value=balance, **self._xcom("return_value"))
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            self.log.warning("The triggerer cannot push the XCom (%s): a worker ends this.", type(fault).__name__)
            return False
        count_decision(self.aimlbilling_conn_id, clears=True)  # a worker would count it itself
        return True

    def _xcom(self, key: str) -> dict[str, Any]:
        ti = self.task_instance
        names = ("dag_id", "task_id", "run_id", "map_index")
        return {"key": key, **{name: getattr(ti, name) for name in names}}

    def _growing_waits(self) -> Iterator[float]:
        """Double the wait with each poll, spread by up to as much again, and land the last poll on the deadline."""
        wait, longest = self.poke_interval, max(self.poke_interval, LONGEST_WAIT)
        deadline = self.deadline or 0.0
        while True:
            spread = min(wait * random.uniform(1, 2), self.max_wait or longest)  # noqa: S311 - no secret
            yield min(spread, max(deadline - time.time(), self.poke_interval))
            wait = min(wait * 2, longest)


def _failed(error: AimlBillingError) -> dict[str, Any]:
    # One error is shown to all gates of a poll. The frames that it has collected would keep each of them in memory.
    error.with_traceback(None)
    return {"status": "failed", "error": type(error).__name__, "message": str(error)}


def _broken(fault: Exception) -> dict[str, Any]:
    # Not our text, so it may hold anything: only its type leaves.
    return _failed(AimlBillingError(f"The wait for the balance broke with {type(fault).__name__}."))
