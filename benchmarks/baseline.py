"""
A minimal gate to compare ``start_from_trigger=True`` with: it starts and ends in the triggerer and checks nothing.

All gates share one poll. There is no connection look-up, no validation of the response, no deadline and no logging, so
do not use this gate for anything else.
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


class BaselineTrigger(BaseEventTrigger):
    """
    Compare each balance of the shared poll with the threshold.

    :param threshold: credits that are enough.
    :param poke_interval: seconds between two polls.
    """

    supports_triggerer_queue = True

    def __init__(self, threshold: int, poke_interval: float) -> None:
        super().__init__()
        self.threshold, self.poke_interval = threshold, poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, which Airflow stores."""
        return "baseline.BaselineTrigger", {"threshold": self.threshold, "poke_interval": self.poke_interval}

    def shared_stream_key(self) -> Hashable:
        """Return the same key for all triggers, so that they share one poll."""
        return ("baseline", self.poke_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """Poll with one session that keeps its connection open."""
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {os.environ['BILLING_KEY']}"
        url = f"{os.environ['BILLING_URL']}/v1/billing/balance"
        while True:
            yield (await asyncio.to_thread(session.get, url, timeout=10)).json()
            await asyncio.sleep(kwargs["poke_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Push the XCom and end the task when the threshold is reached."""
        from airflow.sdk.execution_time.xcom import XCom

        async for balance in shared_stream:
            if balance["balance"] >= self.threshold:
                ti = self.task_instance
                where = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
                await XCom.aset(key="return_value", value=balance, **where)
                yield TaskSuccessEvent()
                return

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Airflow 3.3 reads the shared stream and never calls this."""
        raise NotImplementedError
        yield


class BaselineSensor(BaseSensorOperator):
    """
    Start in the triggerer.

    :param threshold: credits that are enough.
    """

    start_from_trigger = True

    def __init__(self, *, threshold: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="baseline.BaselineTrigger",
            trigger_kwargs={"threshold": threshold, "poke_interval": self.poke_interval},
            next_method="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )
