"""Whether a watcher is armed, kept across restarts in the asset state store of Airflow 3.3. Imports no Airflow."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow_provider_aimlbilling.exceptions import AimlBillingError, InsufficientBalanceError
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.crossing import Crossing

# Seconds between an event and saving that it fired. Airflow accepts an event within about one second and writes it to
# its database later; a triggerer that stops before that loses it. The event must then fire again: twice is better than
# never, because otherwise nobody learns that the money is running out.
SETTLE_TIME = 2.0

_ARMED, _DISARMED = "armed", "disarmed"


class WatcherState:
    """
    The saved state of one watcher. Without a store (before Airflow 3.3) nothing is saved.

    Errors of the store are logged, never raised.

    :param store: what the triggerer injects as ``asset_state_store``.
    :param key: identifies the state among all that is saved for the asset.
    :param log: a logger of any kind.
    """

    def __init__(self, store: Any, key: str, log: Any) -> None:
        # One trigger may watch for several assets. The store's own methods then refuse to work, and the stores of the
        # assets are only available here.
        self._stores = list(getattr(store, "_by_name", {}).values()) or ([] if store is None else [store])
        self._key = key
        self._log = log
        self._loading = bool(self._stores)
        self._saved: bool | None = None
        self._failed = False

    async def load(self) -> bool | None:
        """
        Return, once, whether the watcher was armed before this start.

        :returns: ``None`` if nothing was saved, the state cannot be read yet, or it was returned before.
        """
        if not self._loading:
            return None
        try:
            states = [await store.aget(self._key) for store in self._stores]
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            self._log_failure("read", fault)
            return None
        self._loading = self._failed = False
        # If assets disagree, one of them could not be written. Firing twice is better than never.
        self._saved = True if _ARMED in states else False if _DISARMED in states else None
        if self._saved is not None:
            self._log.info("Watcher resumed: %s (%s).", _name(self._saved), self._key)
        return self._saved

    async def settle(self) -> None:
        """After an event, give Airflow time to write it to its database before its state is saved."""
        if self._stores:
            await asyncio.sleep(SETTLE_TIME)

    async def save(self, armed: bool | None) -> None:
        """
        Save the state if it has changed. A save that fails is repeated with the next reading.

        :param armed: whether the watcher is armed; ``None`` if that is not known yet.
        """
        if self._loading or armed is None or armed is self._saved:
            return
        try:
            for store in self._stores:
                await store.aset(self._key, _name(armed))
        except Exception as fault:  # noqa: BLE001 - a trigger must not raise
            self._log_failure("saved", fault)
            return
        self._saved, self._failed = armed, False

    def _log_failure(self, action: str, fault: Exception) -> None:
        if not self._failed:
            details = (action, type(fault).__name__, self._key)
            self._log.warning("The watcher's state cannot be %s (%s). It continues without it (%s).", *details)
        self._failed = True


class WatcherLevel:
    """
    One of a watcher's thresholds, and whether it is armed.

    :param rule: the rule for the threshold.
    :param state: its saved state.
    :param log: a logger of any kind.
    :param conn_id: id of the connection, for the log.
    :param fire_at_start: whether a very first reading past the threshold counts as a crossing.
    :param both_ways: whether a reading that arms the level again is a crossing as well.
    """

    def __init__(
        self, rule: Crossing, state: WatcherState, log: Any, conn_id: str, *, fire_at_start: bool, both_ways: bool
    ) -> None:
        self.rule = rule
        self.state = state
        self.armed: bool | None = None
        self._log = log
        self._conn_id = conn_id
        self._fire_at_start = fire_at_start
        self._both_ways = both_ways
        self._rearmed = False  # whether this run's readings would have armed a disarmed level
        self._has_fired = False

    async def update(self, reading: Balance | AimlBillingError | None) -> str | None:
        """
        Take one reading. Return the direction in which it crosses the threshold, ``None`` if it does not.

        :param reading: what a poll returned.
        """
        if not isinstance(reading, Balance | InsufficientBalanceError):
            return None
        saved = await self.state.load()
        if self._has_fired:
            saved = None
        known = self.armed if saved is None else saved
        before = known if saved is None else saved or self._rearmed
        if before is None and self._fire_at_start:
            before = True
        self.armed, crossed = self.rule.evaluate(before, reading)
        self._rearmed = bool(self.rule.evaluate(self._rearmed, reading)[0])
        recovered = self._both_ways and known is False and self.armed is True
        if crossed or recovered:
            self._has_fired = True
        elif self.armed is not before:
            self._log_change()
        return "above" if recovered else self.rule.direction if crossed else None

    def _log_change(self) -> None:
        rule = self.rule
        if self.armed:
            self._log.info("Watcher armed: it fires when the balance of %r is %s.", self._conn_id, rule)
        else:
            side = "at least" if rule.direction == "below" else "below"
            self._log.info(
                "Watcher not armed: the balance of %r is already %s. It can fire after the balance has been %s %s.",
                *(self._conn_id, rule, side, rule.arms_at.usd_text),
            )


def _name(armed: bool) -> str:
    return _ARMED if armed else _DISARMED
