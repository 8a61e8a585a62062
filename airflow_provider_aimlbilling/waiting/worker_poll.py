"""The polls of a gate on a worker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from airflow_provider_aimlbilling.client.settings import unreachable_connection_error
from airflow_provider_aimlbilling.exceptions import AimlBillingError
from airflow_provider_aimlbilling.money.balance import Balance

# The last poll before the deadline may take so many seconds, so that an API that works can still answer.
MIN_CALL_TIME = 2.0


class WorkerPoll:
    """
    Reads the balance for a gate on a worker: within the gate's time, and not before the API allows it.

    :param hook: an ``AimlBillingHook`` without retries of its own, because the next poll is the retry.
    :param timeout: seconds that the gate waits.
    :param waited: seconds that it has already waited in other processes, which have found the connection.
    """

    def __init__(self, hook: Any, timeout: float, waited: float = 0.0) -> None:
        self._hook = hook
        self._deadline = time.monotonic() + timeout - waited
        self._connection_found = waited > 0
        self._not_before = 0.0  # by time.monotonic()

    def retry_after(self) -> float:
        """Return the seconds for which the API asked not to be called; negative if they have passed."""
        return self._not_before - time.monotonic()

    def read(self, options: Mapping[str, Any]) -> Balance | AimlBillingError | None:
        """
        Return the balance, or the error that reading it ended with; ``None`` if it is too early to ask.

        :param options: what to read besides the balance, as arguments of ``AimlBillingHook.get_balance``.
        """
        if self.retry_after() > 0:
            return None
        seconds = max(self._deadline - time.monotonic(), MIN_CALL_TIME)
        reading: Balance | AimlBillingError
        try:
            reading = self._hook.get_balance(with_top_up=True, max_seconds=seconds, **options)
        except AimlBillingError as error:
            reading = error
            self._hook.refresh_connection()  # somebody may fix it before the next poll
        if not getattr(reading, "missing", False):
            self._connection_found = True
        elif self._connection_found:
            reading = unreachable_connection_error(self._hook.aimlbilling_conn_id)
        self._not_before = time.monotonic() + (getattr(reading, "retry_after", None) or 0.0)
        return reading
