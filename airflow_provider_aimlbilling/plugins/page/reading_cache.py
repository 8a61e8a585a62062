"""
The last reading of each account, shared by everyone who looks at the page.

The API is asked at most once a minute for each connection, in a thread of its own, and only while somebody looks. A
failed reading counts as one too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

from airflow_provider_aimlbilling.client import AimlBillingClient
from airflow_provider_aimlbilling.client.settings import Settings
from airflow_provider_aimlbilling.connection import read_settings
from airflow_provider_aimlbilling.exceptions import AimlBillingConnectionError, AimlBillingError
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

REFRESH_SECONDS = 60
# All requests of one reading together. The look-up of the connection is not part of it.
MAX_READING_SECONDS = 20.0
MAX_WAIT_SECONDS = 25.0
# Readings of one connection in a minute: one of the account, and one of the spending in each viewer's time zone.
MAX_READINGS_PER_CONNECTION = 9
MAX_ENTRIES = 500
MAX_THREADS = 64

T = TypeVar("T")
log = logging.getLogger(__name__)


class TooManyReadingsError(Exception):
    """So much was asked that the API would have to answer more often than it should."""


@dataclass(frozen=True)
class Reading(Generic[T]):
    """
    The result of the last reading.

    :param value: the last known figures; ``None`` if there are none.
    :param read_at: when they were read.
    :param error: why the last attempt failed; ``None`` if it did not.
    :param is_missing: whether Airflow has no such connection.
    """

    value: T | None = None
    read_at: datetime | None = None
    error: str | None = None
    is_missing: bool = False


@dataclass
class _Entry:
    reading: Reading[Any] = field(default_factory=Reading)
    settings: Settings | None = None  # those that the value was read with
    began: float | None = None  # when the last attempt began, by the cache's clock
    running: Future[None] | None = None


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class ReadingCache:
    """
    Reads through the client of a connection, and keeps the results.

    :param clock: seconds that only increase.
    :param now: the time, UTC.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, now: Callable[[], datetime] = _utc_now) -> None:
        self._clock = clock
        self.now = now
        self._entries: dict[tuple[str, str], _Entry] = {}  # by id of the connection and name; oldest attempt first
        self._lock = threading.Lock()

    async def get(
        self,
        connection_id: str,
        name: str,
        read: Callable[[AimlBillingClient], T],
        wait_seconds: float = MAX_WAIT_SECONDS,
    ) -> Reading[T]:
        """
        Return a reading that is at most a minute old, or the error of an attempt that is.

        :param connection_id: id of the connection. It is looked up with each attempt.
        :param name: what is read. The same name must always come with the same ``read``.
        :param read: called in a thread.
        :param wait_seconds: how long to wait for an attempt that is under way.
        :raises TooManyReadingsError: too many different readings of the connection within a minute.
        """
        entry, running = self._start(connection_id, name, read)
        if running is not None:
            try:
                # Shielded: other requests wait for the same attempt.
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(running)), wait_seconds)
            except asyncio.TimeoutError:
                last = entry.reading
                return Reading(last.value, last.read_at, "The API has not answered yet. The request is still running.")
        return entry.reading

    def latest(self, connection_id: str, name: str) -> Reading[Any]:
        """
        Return the last reading, however old it is, without asking the API.

        :param connection_id: as in :meth:`get`.
        :param name: as in :meth:`get`.
        """
        with self._lock:
            entry = self._entries.get((connection_id, name))
            return entry.reading if entry else Reading()

    def _start(
        self, connection_id: str, name: str, read: Callable[[AimlBillingClient], Any]
    ) -> tuple[_Entry, Future[None] | None]:
        """Return the entry, and the attempt to wait for; ``None`` if the entry is fresh."""
        key = connection_id, name
        with self._lock:
            now = self._clock()
            entry = self._entries.get(key)
            if entry is not None and entry.running is not None:
                return entry, entry.running
            if entry is not None and entry.began is not None and now - entry.began < REFRESH_SECONDS:
                return entry, None
            self._check_limits(connection_id, now)
            entry = self._entries.pop(key, None) or _Entry()
            self._entries[key] = entry  # at the end
            entry.began, entry.running = now, Future()
            running = entry.running
        # A thread of its own, and not one of the API server's: an account that does not answer must not delay others.
        # It is a daemon, so that the API server can stop.
        thread = threading.Thread(
            target=self._attempt, args=(key, entry, running, read), name="aimlbilling-page", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads; without an end, the entry would wait for ever
            with self._lock:
                entry.began = entry.running = None
            running.set_result(None)
            raise TooManyReadingsError("The API server cannot start another thread. Try again in a minute.") from None
        return entry, running

    def _check_limits(self, connection_id: str, now: float) -> None:
        recent = [
            key
            for key, entry in self._entries.items()
            if entry.running or (entry.began is not None and now - entry.began < REFRESH_SECONDS)
        ]
        if sum(key[0] == connection_id for key in recent) >= MAX_READINGS_PER_CONNECTION:
            raise TooManyReadingsError(
                f"Too many time zones are in use for the connection {connection_id!r}. Try again in a minute."
            )
        if sum(entry.running is not None for entry in self._entries.values()) >= MAX_THREADS:
            raise TooManyReadingsError("Too many accounts are being read at the same time. Try again in a minute.")
        if len(self._entries) >= MAX_ENTRIES:
            oldest = next((key for key, entry in self._entries.items() if entry.running is None), None)
            if oldest is None or oldest in recent:
                raise TooManyReadingsError("Too many different figures are in use. Try again in a minute.")
            del self._entries[oldest]

    def _attempt(
        self, key: tuple[str, str], entry: _Entry, running: Future[None], read: Callable[[AimlBillingClient], Any]
    ) -> None:
        try:
            reading = self._read(key[0], entry, read)
        except Exception as error:  # noqa: BLE001 - those who wait must learn that it has ended
            # Without the traceback: some logs print local variables, and the key is one.
            log.error("The billing page failed to read %r: %s.", key[0], type(error).__name__)  # noqa: TRY400
            last = entry.reading
            reading = Reading(last.value, last.read_at, f"The reading failed unexpectedly with {type(error).__name__}.")
        with self._lock:
            entry.reading, entry.running = reading, None
            if reading.is_missing and self._entries.get(key) is entry:
                del self._entries[key]  # it costs the API nothing to look again
        running.set_result(None)

    def _read(self, connection_id: str, entry: _Entry, read: Callable[[AimlBillingClient], Any]) -> Reading[Any]:
        try:
            settings = read_settings(AimlBillingHook(connection_id))
        except AimlBillingConnectionError as error:
            entry.settings = None
            return Reading(error=str(error), is_missing=error.missing)
        # What another account held must not be shown as what this one holds.
        last: Reading[Any] = entry.reading if entry.settings == settings else Reading()
        entry.settings = settings
        client = AimlBillingClient(settings, retries=0)  # the next minute is the retry
        try:
            with client.time_limit(MAX_READING_SECONDS):
                return Reading(read(client), self.now())
        except AimlBillingError as error:
            return Reading(last.value, last.read_at, str(error))
        finally:
            client.close()
