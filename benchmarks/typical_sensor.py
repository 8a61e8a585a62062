"""A deferrable sensor as most people write it: every trigger polls for itself, with the hook of the HTTP provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
from airflow.providers.http.hooks.http import HttpAsyncHook
from airflow.sdk import BaseSensorOperator, Context
from airflow.triggers.base import BaseTrigger, TriggerEvent


class TypicalTrigger(BaseTrigger):
    """
    Poll the balance until it reaches the threshold.

    :param threshold: credits that are enough.
    :param poke_interval: seconds between two polls.
    """

    def __init__(self, threshold: int, poke_interval: float) -> None:
        super().__init__()
        self.threshold, self.poke_interval = threshold, poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, which Airflow stores."""
        path = "typical_sensor.TypicalTrigger"
        return path, {"threshold": self.threshold, "poke_interval": self.poke_interval}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, with the balance, when the threshold is reached."""
        hook = HttpAsyncHook(method="GET", http_conn_id="billing_http")
        while True:
            async with aiohttp.ClientSession() as session:
                response = await hook.run(session=session, endpoint="v1/billing/balance")
                balance = await response.json()
            if balance["balance"] >= self.threshold:
                yield TriggerEvent(balance)
                return
            await asyncio.sleep(self.poke_interval)


class TypicalSensor(BaseSensorOperator):
    """
    Defer immediately, and return what the trigger sends.

    :param threshold: credits that are enough.
    """

    def __init__(self, *, threshold: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold

    def execute(self, context: Context) -> None:
        """Defer to the triggerer."""
        trigger = TypicalTrigger(self.threshold, self.poke_interval)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))

    def execute_complete(self, context: Context, event: Any) -> Any:
        """Return the balance."""
        return event
