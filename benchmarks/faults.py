"""What gates ask of an API that refuses, is busy, breaks or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import THRESHOLD, connections
from report import Table

from airflow_provider_aimlbilling.sandbox import Sandbox

INTERVAL = 2.0  # seconds between two polls
GATES = 10
FAULTS: dict[str, dict[str, Any]] = {
    "401": {"status": 401},
    "429, Retry-After 6": {"status": 429, "retry_after": 6},
    "500": {"status": 500},
    "hangs 5 s": {"delay": 5.0},
}
KINDS = [
    "BalanceSensor, deferrable",
    "BalanceSensor, deferrable, silent_fail",
    "BalanceSensor, poke",
    "HttpSensor, poke",
    "HttpSensor's own trigger",
    "@task.sensor, poke",
    "a usual deferrable sensor",
]


def run(repeats: int, seconds: float = 60, peers: list[str] | None = None) -> list[Table]:  # noqa: ARG001 - it is counted
    """Let ten gates of each kind wait on an account without money, behind each fault."""
    table = Table(
        "faults",
        f"{GATES} gates wait {seconds:g} s on an account without money, a poll every {INTERVAL:g} s: requests that "
        f"the API sees (one an interval are {seconds / INTERVAL:g}), and how many gates still wait at the end.",
        list(FAULTS),
    )
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"AIRFLOW_HOME": folder, "PYTHONPATH": str(Path(__file__).parent)}
        # The four faults at a time: it is counted, not timed.
        for kind in [kind for kind in KINDS if not peers or any(part in kind for part in peers)]:
            table.add(kind, *_cells(kind, seconds, env))
    return [table]


def _cells(kind: str, seconds: float, env: dict[str, str]) -> list[str]:
    with contextlib.ExitStack() as running:
        started = []
        for fault in FAULTS.values():
            account = running.enter_context(Sandbox(0))
            account.fail(**fault)
            command = [sys.executable, __file__, kind, str(seconds)]
            process = subprocess.Popen(command, env=env | connections(account), stdout=subprocess.PIPE, text=True)
            started.append((account, running.enter_context(process)))
        cells = []
        for account, process in started:
            out, _ = process.communicate(timeout=seconds + 120)
            cells.append(f"{len(account.requests):,}, {json.loads(out.splitlines()[-1])} wait")
        return cells


def _waits(kind: str, seconds: float) -> int:
    """Let the gates of one kind wait, and say how many still do at the end."""
    import requests
    from airflow.providers.http.sensors.http import HttpSensor
    from airflow.providers.http.triggers.http import HttpSensorTrigger
    from airflow.providers.standard.decorators.sensor import DecoratedSensorOperator
    from usual import UsualTrigger

    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
    from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

    pace: dict[str, Any] = {"poke_interval": INTERVAL, "timeout": seconds}

    def http_sensor() -> Any:
        return HttpSensor(
            task_id="gate",
            http_conn_id="billing_http",
            endpoint="v1/billing/balance",
            response_check=lambda response: response.json()["balance"] >= THRESHOLD,
            **pace,
        )

    def task_sensor() -> Any:
        def gate() -> bool:
            headers = {"Authorization": f"Bearer {os.environ['BILLING_KEY']}"}
            url = f"{os.environ['BILLING_URL']}/v1/billing/balance"
            enough: bool = requests.get(url, headers=headers, timeout=10).json()["balance"] >= THRESHOLD
            return enough

        return DecoratedSensorOperator(task_id="gate", python_callable=gate, **pace)

    def balance_trigger(**options: Any) -> Any:
        return BalanceTrigger("aimlbilling_default", str(THRESHOLD), INTERVAL, time.time() + 2 * seconds, **options)

    triggers: dict[str, Callable[[], Any]] = {
        "BalanceSensor, deferrable": balance_trigger,
        "BalanceSensor, deferrable, silent_fail": lambda: balance_trigger(silent_fail=True),
        "HttpSensor's own trigger": lambda: HttpSensorTrigger(
            "v1/billing/balance", "billing_http", "GET", poke_interval=INTERVAL
        ),
        "a usual deferrable sensor": lambda: UsualTrigger(THRESHOLD, INTERVAL),
    }
    sensors: dict[str, Callable[[], Any]] = {
        "BalanceSensor, poke": lambda: BalanceSensor(task_id="gate", threshold=THRESHOLD, **pace),
        "HttpSensor, poke": http_sensor,
        "@task.sensor, poke": task_sensor,
    }
    return asyncio.run(_triggers(triggers[kind], seconds)) if kind in triggers else _sensors(sensors[kind], seconds)


async def _triggers(make: Callable[[], Any], seconds: float) -> int:
    """Run triggers as a triggerer does."""

    async def one() -> None:
        async for _ in make().run():
            break

    tasks = [asyncio.create_task(one()) for _ in range(GATES)]
    await asyncio.sleep(seconds)
    waiting = [task for task in tasks if not task.done()]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return len(waiting)


def _sensors(make: Callable[[], Any], seconds: float) -> int:
    """Run sensors as ten workers do."""
    waiting: list[int] = []

    def one() -> None:
        began = time.monotonic()
        with contextlib.suppress(Exception):
            make().execute({})
        if time.monotonic() - began >= seconds - INTERVAL:
            waiting.append(1)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(GATES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 15)
    return len(waiting)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(json.dumps(_waits(sys.argv[1], float(sys.argv[2]))), flush=True)
    os._exit(0)  # a sensor that hangs holds a thread
