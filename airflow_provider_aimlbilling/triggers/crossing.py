"""
DAGs that start when the balance falls or recovers, by an asset watcher of Airflow 3.

A watcher must never raise: Airflow prints what escapes it with its traceback, unmasked, and makes it anew at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from itertools import repeat
from typing import TYPE_CHECKING, Any

from airflow.triggers import base
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_aimlbilling.crossings import Crossing
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable, InsufficientBalanceError
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.shared_poll import ENDED, poll_key, reading_along

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.polling import Reading

# Airflow 3 has it, 2.11 does not; there this module can be imported, and no watcher can be made.
_Base: Any = getattr(base, "BaseEventTrigger", BaseTrigger)

# Seconds from an event until it is kept that it was told. Airflow passes an event on within about one, to write it to
# its database before it does what is asked of it later; a triggerer that stops before that loses it. So it must be told
# again then: an event twice is better than none, with which nobody would know that the money runs out.
SETTLING = 2.0

_ARMED, _DISARMED = "armed", "disarmed"


class BalanceEventTrigger(_Base):  # type: ignore[misc]
    """
    Tell each crossing of a threshold once, for an ``AssetWatcher``.

    The first reading of all only says where the balance stands. From then on ``"below"`` fires when the balance falls
    below the threshold, and again only after it has been at ``threshold + hysteresis`` or more; ``"above"`` fires when
    it reaches the threshold, and again only after it has been below ``threshold - hysteresis``.

    The event is a dictionary with ``crossing``, ``threshold_credits``, ``hysteresis_credits``, ``balance`` (as
    :meth:`Balance.to_dict` gives it; ``None`` where the API only said that it is out of credits) and ``reason``.

    From Airflow 3.3 on it remembers over restarts, in the state store of the asset. It shares its poll with the gates
    of the same connection and interval.

    :param threshold: as :meth:`Amount.parse` reads it, above 0. No template: a watcher renders none.
    :param crossing: ``"below"`` or ``"above"``.
    :param hysteresis: a sum, too.
    :param aimlbilling_conn_id: id of the Airflow connection. The key itself is never part of a trigger.
    :param poke_interval: seconds between two polls.
    """

    def __init__(
        self,
        threshold: object,
        crossing: str = "below",
        hysteresis: object = 0,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        poke_interval: float = 60.0,
    ) -> None:
        super().__init__()
        # All of this is found when the DAG is parsed. In the triggerer it must not be: an error there other than
        # TypeError ends the whole triggerer. So what serialize() gives must be readable, in later versions too.
        self.rule = Crossing.read(crossing, threshold, hysteresis)
        if not isinstance(aimlbilling_conn_id, str) or not aimlbilling_conn_id or "{" in aimlbilling_conn_id:
            raise ValueError(
                f"aimlbilling_conn_id is the id of a connection, no template, not {aimlbilling_conn_id!r}."
            )
        number = isinstance(poke_interval, int | float) and not isinstance(poke_interval, bool)
        if not number or not 0 < poke_interval < math.inf:
            raise ValueError(f"poke_interval is a number of seconds above 0, not {poke_interval!r}.")
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.poke_interval = float(poke_interval)
        self._fault: tuple[object, ...] = ()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow stores to make this trigger anew, and tells it from others by. Nothing in it is secret."""
        return (
            "airflow_provider_aimlbilling.triggers.crossing.BalanceEventTrigger",
            {
                "threshold": self.rule.threshold.text,
                "crossing": self.rule.direction,
                "hysteresis": self.rule.hysteresis.text,
                "aimlbilling_conn_id": self.aimlbilling_conn_id,
                "poke_interval": self.poke_interval,
            },
        )

    def _open_poll(self) -> AsyncGenerator[Reading, None]:
        from airflow_provider_aimlbilling.polling import poll  # with requests, which no DAG file shall load

        return poll(self.aimlbilling_conn_id, repeat(self.poke_interval), self.poke_interval, 0.0)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Turn readings into one event a crossing. It goes on after an event, and remembers."""
        readings: asyncio.Queue[Any] = asyncio.Queue()

        def show(reading: Any) -> bool:
            readings.put_nowait(reading)
            return True

        key = poll_key(self.aimlbilling_conn_id, self.poke_interval)
        try:
            with reading_along(key, self._open_poll, show):
                memory = _Memory(getattr(self, "asset_state_store", None), self._state_key(), self.log)
                armed: bool | None = None
                rearmed = False  # whether it would be, had it not been before
                told = False
                while (reading := await readings.get()) is not ENDED:
                    self._log_fault(reading)
                    kept = await memory.recall()
                    before = armed if kept is None or told else kept or rearmed
                    armed, crossed = self.rule.look(before, reading)
                    rearmed = bool(self.rule.look(rearmed, reading)[0])
                    if crossed:
                        event = self.rule.event(reading)
                        self.log.info("The watcher fires. %s", event["reason"])
                        told = True
                        yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                        await memory.settle()
                    elif armed is not before:
                        self._log_state(armed)
                    await memory.keep(armed)
            fault = "has ended"
        except Exception as broken:  # noqa: BLE001 - a trigger must not raise
            # Not our text, so it may hold anything: only its type leaves.
            fault = f"broke with {type(broken).__name__}"
        self.log.error("The watcher for a balance %s begins anew: its poll %s.", self.rule, fault)
        await asyncio.sleep(self.poke_interval)  # since Airflow makes it anew at once

    def _state_key(self) -> str:
        """Name the state: all that makes two crossings of one asset differ. How often is asked makes no difference."""
        sums = f"{self.rule.threshold.text}, hysteresis {self.rule.hysteresis.text}"
        return f"{self.aimlbilling_conn_id}: {self.rule.direction} {sums}"

    def _log_fault(self, reading: Reading) -> None:
        """Tell what keeps the watcher from seeing: one line a change, not a poll."""
        if reading is None:
            return
        if not isinstance(reading, AimlBillingError) or isinstance(reading, InsufficientBalanceError):
            if self._fault:
                self.log.info("The watcher for a balance %s sees it again.", self.rule)
            self._fault = ()
            return
        # By kind, not by text: the text holds the API's request id, another one each time.
        fault = (type(reading), getattr(reading, "status", None))
        if fault != self._fault:
            log = self.log.warning if isinstance(reading, AimlBillingUnavailable) else self.log.error
            log("The watcher for a balance %s sees nothing, and goes on asking: %s", self.rule, reading)
        self._fault = fault

    def _log_state(self, armed: bool | None) -> None:
        conn_id = self.aimlbilling_conn_id
        if armed:
            self.log.info("The watcher is armed: it fires when the balance of %r is %s.", conn_id, self.rule)
        else:
            side = "at least" if self.rule.direction == "below" else "below"
            self.log.info(
                "The balance of %r is %s already. The watcher can fire after it has been %s %s.",
                *(conn_id, self.rule, side, self.rule.arms_at),
            )


class _Memory:
    """
    Whether a watcher is armed, kept in Airflow's asset state store. Without one (before 3.3) it keeps nothing.

    :param store: what the triggerer injects.
    :param key: of the state among all that is kept for the asset.
    :param log: a logger of any kind.
    """

    def __init__(self, store: Any, key: str, log: Any) -> None:
        # One trigger may watch for several assets. The store then names them only here, and refuses its short cut.
        self._stores = list(getattr(store, "_by_name", {}).values()) or ([] if store is None else [store])
        self._key = key
        self._log = log
        self._unread = bool(self._stores)
        self._kept: bool | None = None
        self._failed = False

    async def recall(self) -> bool | None:
        """Give what was kept before this watcher began, once; ``None`` where nothing was, or it cannot be read yet."""
        if not self._unread:
            return None
        try:
            states = [await store.aget(self._key) for store in self._stores]
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            self._bear("read", fault)
            return None
        self._unread = self._failed = False
        # Assets that disagree mean that one of them could not be written: rather an event twice than none.
        self._kept = True if _ARMED in states else False if _DISARMED in states else None
        if self._kept is not None:
            self._log.info("A watcher goes on as it was before: %s (%s).", _name(self._kept), self._key)
        return self._kept

    async def settle(self) -> None:
        """Give Airflow time to write an event down, where it can be remembered that it was told."""
        if self._stores:
            await asyncio.sleep(SETTLING)

    async def keep(self, armed: bool | None) -> None:
        """Keep the state where it has changed. What fails is tried again with the next reading."""
        if self._unread or armed is None or armed is self._kept:
            return
        try:
            for store in self._stores:
                await store.aset(self._key, _name(armed))
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            self._bear("written", fault)
            return
        self._kept, self._failed = armed, False

    def _bear(self, done: str, fault: Exception) -> None:
        if not self._failed:
            why = (done, type(fault).__name__, self._key)
            self._log.warning("The state of a watcher cannot be %s (%s). It goes on without it (%s).", *why)
        self._failed = True


def _name(armed: bool) -> str:
    return _ARMED if armed else _DISARMED
