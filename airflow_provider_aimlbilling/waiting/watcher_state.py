"""Whether a watcher is armed, kept across restarts in the asset state store of Airflow 3.3. Imports no Airflow."""

from __future__ import annotations

import asyncio
from typing import Any

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


def _name(armed: bool) -> str:
    return _ARMED if armed else _DISARMED
