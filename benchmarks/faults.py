"""What gates ask of an API that refuses, is busy, breaks or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from peers import THRESHOLD, connections
from report import Table

from airflow_provider_aimlbilling.sandbox import Sandbox

INTERVAL = 2.0  # seconds between two polls
LASTS = 30.0  # seconds
GATES = 10
FAULTS: dict[str, dict[str, Any]] = {
    "401": {"status": 401},
    "429, Retry-After 6": {"status": 429, "retry_after": 6},
    "500": {"status": 500},
    "hangs 5 s": {"delay": 5.0},
}


def run(repeats: int) -> list[Table]:  # noqa: ARG001 - each figure is a count over half a minute
    """Let ten gates of each kind wait on an account without money, behind each fault."""
    logging.disable(logging.CRITICAL)
    table = Table(
        "faults",
        f"{GATES} gates wait {LASTS:g} s on an account without money, a poll every {INTERVAL:g} s: requests that "
        f"the API sees (one an interval are {LASTS / INTERVAL:g}), and how many gates still wait at the end.",
        list(FAULTS),
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIRFLOW_HOME"] = folder
        for name, wait in _kinds().items():
            cells = []
            for fault in FAULTS.values():
                with Sandbox(0) as account:
                    account.fail(**fault)
                    os.environ |= connections(account)
                    waiting = wait()
                    cells.append(f"{len(account.requests):,}, {waiting} wait")
            table.add(name, *cells)
    return [table]


def _kinds() -> dict[str, Callable[[], int]]:
    from airflow.providers.http.sensors.http import HttpSensor
    from airflow.providers.http.triggers.http import HttpSensorTrigger
    from usual import UsualTrigger

    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
    from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

    def http_sensor() -> Any:
        return HttpSensor(
            task_id="gate",
            http_conn_id="billing_http",
            endpoint="v1/billing/balance",
            response_check=lambda response: response.json()["balance"] >= THRESHOLD,
            poke_interval=INTERVAL,
            timeout=LASTS,
        )

    def balance_trigger(**options: Any) -> Any:
        return BalanceTrigger("aimlbilling_default", str(THRESHOLD), INTERVAL, time.time() + 2 * LASTS, **options)

    return {
        "BalanceSensor, deferrable": lambda: asyncio.run(_triggers(balance_trigger)),
        "BalanceSensor, deferrable, silent_fail": lambda: asyncio.run(
            _triggers(lambda: balance_trigger(silent_fail=True))
        ),
        "BalanceSensor, poke": lambda: _sensors(
            lambda: BalanceSensor(task_id="gate", threshold=THRESHOLD, poke_interval=INTERVAL, timeout=LASTS)
        ),
        "HttpSensor, poke": lambda: _sensors(http_sensor),
        "HttpSensor's own trigger": lambda: asyncio.run(
            _triggers(lambda: HttpSensorTrigger("v1/billing/balance", "billing_http", "GET", poke_interval=INTERVAL))
        ),
        "a usual deferrable sensor": lambda: asyncio.run(_triggers(lambda: UsualTrigger(THRESHOLD, INTERVAL))),
    }


async def _triggers(make: Callable[[], Any]) -> int:
    """Run triggers as a triggerer does, and say how many still wait at the end."""
    from airflow.triggers.shared_stream import SharedStreamManager

    shared = SharedStreamManager()

    async def one(number: int) -> None:
        trigger = make()
        key = getattr(trigger, "shared_stream_key", lambda: None)()
        if key is None:
            events = trigger.run()
        else:
            events = trigger.filter_shared_stream(shared.subscribe(trigger_id=number, trigger=trigger, key=key))
        async for _ in events:
            break
        if key is not None:
            await shared.unsubscribe(number, key)

    tasks = [asyncio.create_task(one(number)) for number in range(GATES)]
    await asyncio.sleep(LASTS)
    waiting = [task for task in tasks if not task.done()]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return len(waiting)


def _sensors(make: Callable[[], Any]) -> int:
    """Run sensors as ten workers do, and say how many still wait at the end."""
    waiting: list[int] = []

    def one() -> None:
        began = time.monotonic()
        with contextlib.suppress(Exception):
            make().execute({})
        if time.monotonic() - began >= LASTS - INTERVAL:
            waiting.append(1)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(GATES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LASTS + 15)
    return len(waiting)
