"""
The trigger behind an ``AssetWatcher`` of Airflow 3, which starts DAGs when the balance falls or recovers.

A watcher must never raise: Airflow prints the traceback of what escapes, unmasked, and recreates the watcher at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from itertools import repeat
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import NOTSET, BaseEventTrigger, TriggerEvent
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable, InsufficientBalanceError
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID, MIN_POKE_INTERVAL
from airflow_provider_aimlbilling.money.crossing import Crossing, crossing_event, parse_crossings
from airflow_provider_aimlbilling.waiting.log_limit import StateLog
from airflow_provider_aimlbilling.waiting.shared_poll import POLL_CLOSED, poll_key, subscribe
from airflow_provider_aimlbilling.waiting.watcher_state import WatcherLevel, WatcherState

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.waiting.poll import Reading


class BalanceEventTrigger(BaseEventTrigger):
    """
    Fire once for each crossing of a threshold, for an ``AssetWatcher``.

    The very first reading only shows where the balance is, unless ``fire_at_start`` is set. After that, ``"below"``
    fires when the balance falls below the threshold, and again only after it has been at ``threshold + hysteresis`` or
    more; ``"above"`` fires when it reaches the threshold, and again only after it has been below ``threshold -
    hysteresis``. ``"both"`` fires like ``"below"``, and once more when the balance has recovered to ``threshold +
    hysteresis``. With several thresholds, each of them does so, but one reading fires one event.

    The event is a dictionary with ``crossing`` (``"below"``, or ``"above"`` for a recovery), the threshold
    (``threshold_credits``, ``threshold_usd``), the hysteresis (``hysteresis_credits``, ``hysteresis_usd``), ``passed``
    (a list of all thresholds that this reading crossed; ``threshold_…`` is the one crossed last: the lowest of a fall,
    the highest of a recovery), ``balance`` (as :meth:`Balance.to_dict` returns it; ``None`` if
    the API only said that the account is out of credits), ``aimlbilling_conn_id`` and ``reason``.

    On Airflow 3.3 and later the watcher keeps its state across restarts, in the asset state store. It shares its poll
    with the gates of the same connection and interval.

    :param threshold: as :meth:`Amount.parse` reads it, above 0, or a list of several. Not a template, because watchers
        do not render any.
    :param crossing: ``"below"``, ``"above"`` or ``"both"``. Default: ``"below"`` for one threshold, ``"both"`` for a
        list.
    :param hysteresis: an amount, as :meth:`Amount.parse` reads it.
    :param aimlbilling_conn_id: id of the Airflow connection. The key itself is never part of a trigger.
    :param poke_interval: seconds between two polls.
    :param fire_at_start: also fire if the balance is already past a threshold at the very first reading (with
        ``"both"``, below it). Before Airflow 3.3 no state is kept, so that every start of the triggerer counts as the
        first.
    :raises AimlBillingThresholdError: the threshold or hysteresis is not an amount, or they do not fit together.
    :raises ValueError: the crossing, the connection id or the interval is invalid.
    """

    def __init__(
        self,
        threshold: object,
        crossing: Any = NOTSET,
        hysteresis: object = 0,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        poke_interval: float = 60.0,
        fire_at_start: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # These errors must appear when the DAG is parsed, never in the triggerer: there any error other than TypeError
        # ends the whole triggerer. So what serialize() returns must stay readable in later versions.
        if crossing is NOTSET:
            crossing = "both" if isinstance(threshold, list | tuple) else "below"
        self.rules = parse_crossings(crossing, threshold, hysteresis)
        self.crossing: str = crossing
        if not isinstance(aimlbilling_conn_id, str) or not aimlbilling_conn_id or "{" in aimlbilling_conn_id:
            raise ValueError(
                f"aimlbilling_conn_id is the id of a connection, not a template, and not {aimlbilling_conn_id!r}."
            )
        is_number = isinstance(poke_interval, int | float) and not isinstance(poke_interval, bool)
        if not is_number or not MIN_POKE_INTERVAL <= poke_interval < 1e9:
            raise ValueError(f"poke_interval is a number, at least {MIN_POKE_INTERVAL} seconds, not {poke_interval!r}.")
        if not isinstance(fire_at_start, bool):
            raise ValueError(f"fire_at_start is True or False, not {fire_at_start!r}.")  # noqa: TRY004 - as above
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.poke_interval = float(poke_interval)
        self.fire_at_start = fire_at_start
        self._errors = StateLog()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores to recreate this trigger and to recognize it. It contains no secret."""
        thresholds = [rule.threshold.text for rule in self.rules]
        return (
            "airflow_provider_aimlbilling.triggers.balance_event.BalanceEventTrigger",
            {
                "threshold": thresholds if len(thresholds) > 1 else thresholds[0],
                "crossing": self.crossing,
                "hysteresis": self.rules[0].hysteresis.text,
                "aimlbilling_conn_id": self.aimlbilling_conn_id,
                "poke_interval": self.poke_interval,
                # Only if it is set, so that an older triggerer can create a newer trigger.
                **({"fire_at_start": True} if self.fire_at_start else {}),
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
                levels = [self._level(rule) for rule in self.rules]
                while (reading := await readings.get()) is not POLL_CLOSED:
                    self._log_error_change(reading)
                    moves = [(level.rule, await level.update(reading)) for level in levels]
                    for direction in ("below", "above"):
                        if crossed := [rule for rule, move in moves if move == direction]:
                            event = crossing_event(crossed, reading, direction)
                            self.log.info("Watcher fired: %s", event["reason"])
                            yield TriggerEvent(event | {"aimlbilling_conn_id": self.aimlbilling_conn_id})  # type: ignore[no-untyped-call]
                            await levels[0].state.settle()
                    for level in levels:
                        await level.state.save(level.armed)
            problem = "has ended"
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            # The text is not ours and may contain anything, so only the type is logged.
            problem = f"failed with {type(fault).__name__}"
        self.log.error("The watcher for a balance %s restarts: its poll %s.", self._description(), problem)
        await asyncio.sleep(self.poke_interval)  # because Airflow recreates it at once

    def _level(self, rule: Crossing) -> WatcherLevel:
        # All that makes two crossings of one asset differ; not the interval.
        amounts = f"{rule.threshold.text}, hysteresis {rule.hysteresis.text}"
        key = f"{self.aimlbilling_conn_id}: {self.crossing} {amounts}"
        state = WatcherState(getattr(self, "asset_state_store", None), key, self.log)
        return WatcherLevel(
            *(rule, state, self.log, self.aimlbilling_conn_id),
            fire_at_start=self.fire_at_start,
            both_ways=self.crossing == "both",
        )

    def _description(self) -> str:
        direction = "across" if self.crossing == "both" else self.crossing
        return f"{direction} {', '.join(rule.threshold.usd_text for rule in self.rules)}"

    def _log_error_change(self, reading: Reading) -> None:
        """Log when the balance becomes unreadable, and when it is readable again."""
        if reading is None:
            return
        if not isinstance(reading, AimlBillingError) or isinstance(reading, InsufficientBalanceError):
            if self._errors.is_due(None):
                self.log.info("The watcher for a balance %s can read the balance again.", self._description())
            return
        # Compared by kind, not by text: the text contains a request id, which differs each time.
        if self._errors.is_due((type(reading), getattr(reading, "status", None))):
            log = self.log.warning if isinstance(reading, AimlBillingUnavailable) else self.log.error
            log(
                "The watcher for a balance %s cannot read the balance, and keeps polling: %s",
                self._description(),
                reading,
            )
