"""
The trigger behind an ``AssetWatcher`` of Airflow 3, which starts DAGs when the balance falls or recovers.

A watcher must never raise: Airflow prints the traceback of what escapes, unmasked, and recreates the watcher at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from itertools import repeat
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import BaseEventTrigger, TriggerEvent
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable, InsufficientBalanceError
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID, MIN_POKE_INTERVAL
from airflow_provider_aimlbilling.money.crossing import Crossing
from airflow_provider_aimlbilling.waiting.log_limit import StateLog
from airflow_provider_aimlbilling.waiting.shared_poll import POLL_CLOSED, poll_key, subscribe
from airflow_provider_aimlbilling.waiting.watcher_state import WatcherState

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.waiting.poll import Reading


class BalanceEventTrigger(BaseEventTrigger):
    """
    Fire once for each crossing of a threshold, for an ``AssetWatcher``.

    The very first reading only shows where the balance is. After that, ``"below"`` fires when the balance falls below
    the threshold, and again only after it has been at ``threshold + hysteresis`` or more; ``"above"`` fires when it
    reaches the threshold, and again only after it has been below ``threshold - hysteresis``.

    The event is a dictionary with ``crossing``, ``threshold_credits``, ``hysteresis_credits``, ``balance`` (as
    :meth:`Balance.to_dict` returns it; ``None`` if the API only said that the account is out of credits) and
    ``reason``.

    On Airflow 3.3 and later the watcher keeps its state across restarts, in the asset state store. It shares its poll
    with the gates of the same connection and interval.

    :param threshold: as :meth:`Amount.parse` reads it, above 0. Not a template, because watchers do not render any.
    :param crossing: ``"below"`` or ``"above"``.
    :param hysteresis: an amount, as :meth:`Amount.parse` reads it.
    :param aimlbilling_conn_id: id of the Airflow connection. The key itself is never part of a trigger.
    :param poke_interval: seconds between two polls.
    :raises AimlBillingThresholdError: the threshold or hysteresis is not an amount, or they do not fit together.
    :raises ValueError: the crossing, the connection id or the interval is invalid.
    """

    def __init__(
        self,
        threshold: object,
        crossing: str = "below",
        hysteresis: object = 0,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        poke_interval: float = 60.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # These errors must appear when the DAG is parsed, never in the triggerer: there any error other than TypeError
        # ends the whole triggerer. So what serialize() returns must stay readable in later versions.
        self.rule = Crossing.parse(crossing, threshold, hysteresis)
        if not isinstance(aimlbilling_conn_id, str) or not aimlbilling_conn_id or "{" in aimlbilling_conn_id:
            raise ValueError(
                f"aimlbilling_conn_id is the id of a connection, not a template, and not {aimlbilling_conn_id!r}."
            )
        is_number = isinstance(poke_interval, int | float) and not isinstance(poke_interval, bool)
        if not is_number or not MIN_POKE_INTERVAL <= poke_interval < math.inf:
            raise ValueError(f"poke_interval is a number, at least {MIN_POKE_INTERVAL} seconds, not {poke_interval!r}.")
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.poke_interval = float(poke_interval)
        self._errors = StateLog()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores to recreate this trigger and to recognize it. It contains no secret."""
        return (
            "airflow_provider_aimlbilling.triggers.balance_event.BalanceEventTrigger",
            {
                "threshold": self.rule.threshold.text,
                "crossing": self.rule.direction,
                "hysteresis": self.rule.hysteresis.text,
                "aimlbilling_conn_id": self.aimlbilling_conn_id,
                "poke_interval": self.poke_interval,
            },
        )

    def _open_poll(self, joined: Callable[[], bool]) -> AsyncGenerator[Reading, None]:
        from airflow_provider_aimlbilling.waiting.poll import poll  # loads requests, which a DAG file must not

        return poll(self.aimlbilling_conn_id, repeat(self.poke_interval), self.poke_interval, joined=joined)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event for each crossing. It continues after an event."""
        readings: asyncio.Queue[Any] = asyncio.Queue()

        def on_reading(reading: Any) -> bool:
            readings.put_nowait(reading)
            return True

        key = poll_key(self.aimlbilling_conn_id, self.poke_interval)
        try:
            with subscribe(key, self._open_poll, on_reading):
                state = WatcherState(getattr(self, "asset_state_store", None), self._state_key(), self.log)
                armed: bool | None = None
                rearmed = False  # whether this run's readings would have armed a disarmed watcher
                has_fired = False
                while (reading := await readings.get()) is not POLL_CLOSED:
                    self._log_error_change(reading)
                    saved = await state.load()
                    before = armed if saved is None or has_fired else saved or rearmed
                    armed, crossed = self.rule.evaluate(before, reading)
                    rearmed = bool(self.rule.evaluate(rearmed, reading)[0])
                    if crossed:
                        event = self.rule.event(reading)
                        self.log.info("Watcher fired: %s", event["reason"])
                        has_fired = True
                        yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                        await state.settle()
                    elif armed is not before:
                        self._log_state(armed)
                    await state.save(armed)
            problem = "has ended"
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            # The text is not ours and may contain anything, so only the type is logged.
            problem = f"failed with {type(fault).__name__}"
        self.log.error("The watcher for a balance %s restarts: its poll %s.", self.rule, problem)
        await asyncio.sleep(self.poke_interval)  # because Airflow recreates it at once

    def _state_key(self) -> str:
        """Return the key of the saved state: all that makes two crossings of one asset differ; not the interval."""
        amounts = f"{self.rule.threshold.text}, hysteresis {self.rule.hysteresis.text}"
        return f"{self.aimlbilling_conn_id}: {self.rule.direction} {amounts}"

    def _log_error_change(self, reading: Reading) -> None:
        """Log when the balance becomes unreadable, and when it is readable again."""
        if reading is None:
            return
        if not isinstance(reading, AimlBillingError) or isinstance(reading, InsufficientBalanceError):
            if self._errors.is_due(None):
                self.log.info("The watcher for a balance %s can read the balance again.", self.rule)
            return
        # Compared by kind, not by text: the text contains a request id, which differs each time.
        if self._errors.is_due((type(reading), getattr(reading, "status", None))):
            log = self.log.warning if isinstance(reading, AimlBillingUnavailable) else self.log.error
            log("The watcher for a balance %s cannot read the balance, and keeps polling: %s", self.rule, reading)

    def _log_state(self, armed: bool | None) -> None:
        conn_id = self.aimlbilling_conn_id
        if armed:
            self.log.info("Watcher armed: it fires when the balance of %r is %s.", conn_id, self.rule)
        else:
            side = "at least" if self.rule.direction == "below" else "below"
            self.log.info(
                "Watcher not armed: the balance of %r is already %s. It can fire after the balance has been %s %s.",
                *(conn_id, self.rule, side, self.rule.arms_at),
            )
