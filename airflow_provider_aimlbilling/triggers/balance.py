"""
The trigger that waits for the balance without a worker.

A trigger must never raise: Airflow prints the traceback of what escapes in a process that never loaded the connection,
where the key would not be masked. So every error becomes a value here, and only our own sanitized text leaves in an
event.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable
from datetime import datetime, timezone
from itertools import repeat
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.client.settings import unreachable_connection_error
from airflow_provider_aimlbilling.compat import AIRFLOW_3, BaseTrigger, TaskSuccessEvent, TriggerEvent
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingThresholdError
from airflow_provider_aimlbilling.money.budget import Budget
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.waiting.deferral import deferral_timeout
from airflow_provider_aimlbilling.waiting.poll import Reading, backoff_waits, poll
from airflow_provider_aimlbilling.waiting.shared_poll import POLL_CLOSED, poll_key, subscribe
from airflow_provider_aimlbilling.waiting.trigger_event import (
    cleared_event,
    failed_event,
    timeout_event,
    unexpected_error_event,
)
from airflow_provider_aimlbilling.waiting.triggerer_xcom import delete_xcoms_of_earlier_tries, push_return_value
from airflow_provider_aimlbilling.waiting.wait_state import WaitState

if TYPE_CHECKING:
    import jinja2

    from airflow_provider_aimlbilling.compat import Context


class BalanceTrigger(BaseTrigger):
    """
    Wait in the triggerer until the balance reaches the threshold, the deadline passes, or waiting cannot succeed.

    Fires exactly one event, a dictionary with ``status``:

    - ``cleared``: with ``balance`` and ``verdict``, as :meth:`Balance.to_dict` and :meth:`Verdict.to_dict` return them;
    - ``timeout``: with ``message``, and the last ``verdict`` if there was one;
    - ``failed``: with ``error`` (the name of a class in ``exceptions``), ``message``, and the last ``verdict`` if there
      was one;

    and with ``aimlbilling_conn_id`` and ``try_number``, the try of the task that it belongs to.

    All triggers of one connection and interval that wait in one triggerer share one poll.

    :param aimlbilling_conn_id: id of the Airflow connection. The key itself is never part of a trigger.
    :param threshold: as :meth:`Amount.parse` reads it; ``None`` leaves the decision to the account's own
        ``lowBalance``.
    :param poke_interval: seconds between two polls.
    :param deadline: seconds since the epoch. Wall-clock time, because a trigger may move to another machine. ``None``
        if the task starts in the triggerer; the deadline then follows from Airflow's deferral timeout.
    :param next_poll_at: seconds since the epoch before which nothing is requested, because the worker has just polled.
    :param first_wait: seconds from the deferral to ``next_poll_at``, if that is longer than ``poke_interval``.
    :param exponential_backoff: increase the time between polls. Such a trigger does not share its poll.
    :param max_wait: limit of the increased time, in seconds.
    :param silent_fail: log errors and keep waiting.
    :param last_seen: the worker's last reading of the balance, for the message of a timeout.
    :param last_fault: the worker's last error, for the message of a timeout.
    :param end_from_trigger: when the balance reaches the threshold, push the XCom and end the task here. Every other
        outcome goes through a worker, which applies flags, retries and callbacks.
    :param respect_key_limit: compare the threshold with what the key may still spend, if that is less than the balance.
    :param try_number: try of the task that defers; ``None`` if the task starts in the triggerer.
    :param top_up_grace: seconds after which an auto top-up that does not pay ends the wait; ``None`` for never.
    :param budget: as :meth:`Budget.parse` reads it: the threshold is also compared with what is left of it; ``None``
        for no budget.
    """

    def __init__(
        self,
        aimlbilling_conn_id: str,
        threshold: str | None,
        poke_interval: float,
        deadline: float | None,
        next_poll_at: float = 0.0,
        first_wait: float | None = None,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        silent_fail: bool = False,
        last_seen: str = "",
        last_fault: str = "",
        end_from_trigger: bool = False,
        respect_key_limit: bool = False,
        top_up_grace: float | None = None,
        try_number: int | None = None,
        budget: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.threshold = threshold
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.next_poll_at = next_poll_at
        self.first_wait = first_wait
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.silent_fail = silent_fail
        self.last_seen = last_seen
        self.last_fault = last_fault
        self.end_from_trigger = end_from_trigger
        self.respect_key_limit = respect_key_limit
        self.top_up_grace = top_up_grace
        self.try_number = try_number
        self.budget = budget
        self._template_error: AimlBillingError | None = None
        self._connection_found = deadline is not None  # by the worker, before it deferred

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores to recreate this trigger. It contains no secret."""
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
                "try_number": self.try_number,
                # Only if they are set, so that an older triggerer can create a newer worker's trigger.
                **({"first_wait": self.first_wait} if self.first_wait else {}),
                **self._query_options(),
            },
        )

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """
        Render the templates of a task that starts in the triggerer. Airflow calls this.

        :param context: the task's context.
        :param jinja_env: the environment to render in.
        """
        from jinja2 import StrictUndefined

        templates = [text for text in (self.threshold, self.aimlbilling_conn_id, self.budget) if text is not None]
        if not any("{" in str(text) for text in templates):  # hundreds may start at once, most without a template
            return
        try:
            jinja_env = jinja_env or self.get_template_env()
            # As on a worker. Airflow's triggerer is lenient: "{{ params.typo }}000" would become "000".
            jinja_env.undefined = StrictUndefined
            super().render_template_fields(context, jinja_env)
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            self._template_error = AimlBillingThresholdError(
                f"One of the templates {templates} cannot be rendered ({type(fault).__name__}). Correct it in the DAG."
            )

    def _query_options(self) -> dict[str, Any]:
        """Return what is read besides the balance, as arguments of :meth:`AimlBillingClient.get_balance`."""
        flags = {"respect_key_limit": self.respect_key_limit or None, "top_up_grace": self.top_up_grace}
        # Not if it is false: an empty text must not count as no budget.
        return {name: value for name, value in {**flags, "budget": self.budget}.items() if value is not None}

    def _poll_key(self) -> Hashable:
        """Return the key of the poll that this trigger can share: everything that makes two polls differ."""
        if self.exponential_backoff:
            return object()  # never shared
        return poll_key(self.aimlbilling_conn_id, self.poke_interval, *self._query_options().items())

    def _open_poll(self, joined: Callable[[], bool]) -> AsyncGenerator[Reading, None]:
        """Poll for all triggers of one key. ``next_poll_at`` is not part of it, and only delays the first poll."""
        interval = self.poke_interval
        backoff = backoff_waits(interval, self.max_wait, self.deadline or 0.0)
        waits = backoff if self.exponential_backoff else repeat(interval)
        options = self._query_options()
        return poll(self.aimlbilling_conn_id, waits, interval, self._seconds_to_first_poll(), options, joined)

    def _seconds_to_first_poll(self) -> float:
        """Return how long to wait. The clock of the worker that set ``next_poll_at`` may be wrong, so not longer."""
        wait = self.next_poll_at - time.time()
        if wait <= 0 and self.exponential_backoff:
            # The triggerer has restarted, with all its gates. Those with backoff do not share a poll.
            return random.uniform(0, self.poke_interval)  # noqa: S311 - not a secret
        return min(wait, self.first_wait or self.poke_interval)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire this trigger's one event."""
        try:
            event = await self._wait()
        except AimlBillingError as error:
            event = failed_event(error)
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            event = unexpected_error_event(fault)
        event |= {"aimlbilling_conn_id": self.aimlbilling_conn_id, "try_number": self._current_try()}
        if self.end_from_trigger and event["status"] == "cleared" and await self._push_xcom(event["balance"]):
            yield TaskSuccessEvent()
        else:
            yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    def _current_try(self) -> int | None:
        """Return the try of the task that this trigger belongs to, so that no other try takes its event for its own."""
        if self.try_number is None:  # it started in the triggerer
            return getattr(getattr(self, "task_instance", None), "try_number", None)
        return self.try_number

    async def _wait(self) -> dict[str, Any]:
        if self._template_error:
            raise self._template_error
        gate = Gate.for_threshold(self.threshold, optional=True)
        self.budget = None if self.budget is None else Budget.parse(self.budget).text  # the same text for all
        wait_state = WaitState(
            gate,
            self.logger(),  # the logger of the class: one per instance would nearly double the memory of a waiting gate
            silent_fail=self.silent_fail,
            last_seen=self.last_seen,
            last_fault=self.last_fault,
        )
        self.deadline = self._resolve_deadline()
        if self.end_from_trigger and self.task_instance and self.task_instance.try_number > 1:
            await self._delete_stale_xcoms()
        fired: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def on_reading(reading: Any) -> bool:
            if not fired.done() and (event := self._event_after(reading, wait_state)):
                fired.set_result(event)
            return fired.done()

        with subscribe(self._poll_key(), self._open_poll, on_reading):
            return await fired

    def _event_after(self, reading: Any, wait_state: WaitState) -> dict[str, Any] | None:
        """Return the event that a reading leads to; ``None`` if the wait continues. It must not raise."""
        try:
            if reading is POLL_CLOSED:
                raise AimlBillingError("The poll of the balance ended unexpectedly.")
            if self._connection_found and getattr(reading, "missing", False):
                reading = unreachable_connection_error(self.aimlbilling_conn_id)
            verdict = None if reading is None else wait_state.update(reading)
            if verdict and verdict.clears and verdict.balance:
                return cleared_event(verdict, verdict.balance)
            if self.deadline is not None and time.time() >= self.deadline:
                return timeout_event(wait_state.summary(), wait_state.verdict)
        except AimlBillingError as error:
            return failed_event(error, wait_state.verdict)
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            return unexpected_error_event(fault)
        return None

    def _resolve_deadline(self) -> float:
        """Return the deadline in seconds since the epoch."""
        # The deferral timeout, which the triggerer sets and keeps across restarts. In Airflow 3 it comes from the clock
        # of the API server, so a worker whose clock is wrong does no harm.
        timeout_after: datetime | None = getattr(self, "timeout_after", None)
        if self.deadline is not None and (timeout_after is None or not AIRFLOW_3):
            return self.deadline
        if timeout_after is None:
            raise AimlBillingError("Airflow set no timeout. Do not use start_from_trigger with this Airflow version.")
        aware = timeout_after.replace(tzinfo=timeout_after.tzinfo or timezone.utc)
        return (aware - deferral_timeout(0, self.poke_interval)).timestamp()

    async def _delete_stale_xcoms(self) -> None:
        try:
            await delete_xcoms_of_earlier_tries(self.task_instance)
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            self.log.warning("The XComs of an earlier try could not be deleted (%s).", type(fault).__name__)

    async def _push_xcom(self, balance: dict[str, Any]) -> bool:
        """Push the XCom from the triggerer. Return ``False`` if a worker has to end the task."""
        task = self.task
        if task is None:  # the DAG has changed, and this gate no longer starts in the triggerer
            return False
        from airflow_provider_aimlbilling.metrics import count_decision

        try:
            if task.do_xcom_push:
                # Only the balance. Each XCom is a call of Airflow's API: with a second one, two hundred gates that open
                # at once needed half as much CPU again and ended three seconds later.
                await push_return_value(self.task_instance, balance)
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            self.log.warning(
                "The triggerer could not push the XCom (%s). A worker ends the task.", type(fault).__name__
            )
            return False
        count_decision(self.aimlbilling_conn_id, clears=True)  # on a worker the sensor would count it
        return True
