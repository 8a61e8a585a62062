"""
The least that a gate can cost: it starts and ends in the triggerer, on one shared poll, and checks nothing.

No connection is looked up, no answer is doubted, no deadline is kept, nothing is logged: it is no gate for use, but the
mark that ``start_from_trigger=True`` is held against.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Hashable
from datetime import timedelta
from typing import Any

import requests
from airflow.sdk import BaseSensorOperator
from airflow.triggers.base import BaseEventTrigger, StartTriggerArgs, TaskSuccessEvent, TriggerEvent


class BoundTrigger(BaseEventTrigger):
    """Compare each reading of the one shared poll."""

    supports_triggerer_queue = True

    def __init__(self, threshold: int, poke_interval: float) -> None:
        super().__init__()
        self.threshold, self.poke_interval = threshold, poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow stores."""
        return "bound.BoundTrigger", {"threshold": self.threshold, "poke_interval": self.poke_interval}

    def shared_stream_key(self) -> Hashable:
        """One poll for all."""
        return ("bound", self.poke_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """Ask with one kept session."""
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {os.environ['BILLING_KEY']}"
        url = f"{os.environ['BILLING_URL']}/v1/billing/balance"
        while True:
            yield (await asyncio.to_thread(session.get, url, timeout=10)).json()
            await asyncio.sleep(kwargs["poke_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Push the XCom and end."""
        from airflow.sdk.execution_time.xcom import XCom

        async for balance in shared_stream:
            if balance["balance"] >= self.threshold:
                ti = self.task_instance
                where = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
                await XCom.aset(key="return_value", value=balance, **where)
                yield TaskSuccessEvent()
                return

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Never called on Airflow 3.3."""
        raise NotImplementedError
        yield


class BoundSensor(BaseSensorOperator):
    """Start in the triggerer."""

    start_from_trigger = True

    def __init__(self, *, threshold: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="bound.BoundTrigger",
            trigger_kwargs={"threshold": threshold, "poke_interval": self.poke_interval},
            next_method="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )
