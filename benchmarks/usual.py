"""A deferrable sensor as it is usually written: each trigger polls by itself, with the HTTP provider's own hook."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
from airflow.providers.http.hooks.http import HttpAsyncHook
from airflow.sdk import BaseSensorOperator, Context
from airflow.triggers.base import BaseTrigger, TriggerEvent


class UsualTrigger(BaseTrigger):
    """Ask, sleep, ask again."""

    def __init__(self, threshold: int, poke_interval: float) -> None:
        super().__init__()
        self.threshold, self.poke_interval = threshold, poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow stores."""
        return "usual.UsualTrigger", {"threshold": self.threshold, "poke_interval": self.poke_interval}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the balance suffices."""
        hook = HttpAsyncHook(method="GET", http_conn_id="billing_http")
        while True:
            async with aiohttp.ClientSession() as session:
                response = await hook.run(session=session, endpoint="v1/billing/balance")
                balance = await response.json()
            if balance["balance"] >= self.threshold:
                yield TriggerEvent(balance)
                return
            await asyncio.sleep(self.poke_interval)


class UsualSensor(BaseSensorOperator):
    """Defer at once, and return what the trigger sends."""

    def __init__(self, *, threshold: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold

    def execute(self, context: Context) -> None:
        """Hand over to the triggerer."""
        trigger = UsualTrigger(self.threshold, self.poke_interval)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))

    def execute_complete(self, context: Context, event: Any) -> Any:
        """Return the balance."""
        return event
