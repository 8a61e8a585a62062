"""How many requests gates send to an API that rejects the key, limits the rate, fails or hangs."""

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
    "hangs for 5 s": {"delay": 5.0},
}
KINDS = [
    "BalanceSensor, deferrable",
    "BalanceSensor, deferrable, silent_fail",
    "BalanceSensor, poke",
    "HttpSensor, poke",
    "HttpSensor's own trigger",
    "@task.sensor, poke",
    "a typical deferrable sensor",
]


def run(repeats: int, seconds: float = 60, peers: list[str] | None = None) -> list[Table]:  # noqa: ARG001
    """
    Let ten gates of each kind wait on an empty account, behind each fault.

    :param repeats: ignored: requests are counted, not timed, so one run is enough.
    :param seconds: how long the gates wait.
    :param peers: only the kinds whose names contain one of these texts.
    """
    table = Table(
        "faults",
        f"{GATES} gates wait {seconds:g} s on an empty account and poll every {INTERVAL:g} s: requests that the API "
        f"received (one per interval would be {seconds / INTERVAL:g}), and gates that were still waiting at the end.",
        list(FAULTS),
    )
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"AIRFLOW_HOME": folder, "PYTHONPATH": str(Path(__file__).parent)}
        # All faults run at once: nothing is timed.
        for kind in [kind for kind in KINDS if not peers or any(part in kind for part in peers)]:
            table.add(kind, *_cells(kind, seconds, env))
    return [table]


def _cells(kind: str, seconds: float, env: dict[str, str]) -> list[str]:
    with contextlib.ExitStack() as stack:
        processes = []
        for fault in FAULTS.values():
            account = stack.enter_context(Sandbox(0))
            account.fail(**fault)
            command = [sys.executable, __file__, kind, str(seconds)]
            process = subprocess.Popen(command, env=env | connections(account), stdout=subprocess.PIPE, text=True)
            processes.append((account, stack.enter_context(process)))
        cells = []
        for account, process in processes:
            out, _ = process.communicate(timeout=seconds + 120)
            cells.append(f"{len(account.requests):,}, {json.loads(out.splitlines()[-1])} waiting")
        return cells


def _count_waiting(kind: str, seconds: float) -> int:
    """Let the gates of one kind wait, and return how many are still waiting at the end."""
    import requests
    from airflow.providers.http.sensors.http import HttpSensor
    from airflow.providers.http.triggers.http import HttpSensorTrigger
    from airflow.providers.standard.decorators.sensor import DecoratedSensorOperator
    from typical_sensor import TypicalTrigger

    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
    from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

    polling: dict[str, Any] = {"poke_interval": INTERVAL, "timeout": seconds}

    def http_sensor() -> Any:
        return HttpSensor(
            task_id="gate",
            http_conn_id="billing_http",
            endpoint="v1/billing/balance",
            response_check=lambda response: response.json()["balance"] >= THRESHOLD,
            **polling,
        )

    def task_sensor() -> Any:
        def gate() -> bool:
            headers = {"Authorization": f"Bearer {os.environ['BILLING_KEY']}"}
            url = f"{os.environ['BILLING_URL']}/v1/billing/balance"
            is_enough: bool = requests.get(url, headers=headers, timeout=10).json()["balance"] >= THRESHOLD
            return is_enough

        return DecoratedSensorOperator(task_id="gate", python_callable=gate, **polling)

    def balance_trigger(**options: Any) -> Any:
        return BalanceTrigger("aimlbilling_default", str(THRESHOLD), INTERVAL, time.time() + 2 * seconds, **options)

    triggers: dict[str, Callable[[], Any]] = {
        "BalanceSensor, deferrable": balance_trigger,
        "BalanceSensor, deferrable, silent_fail": lambda: balance_trigger(silent_fail=True),
        "HttpSensor's own trigger": lambda: HttpSensorTrigger(
            "v1/billing/balance", "billing_http", "GET", poke_interval=INTERVAL
        ),
        "a typical deferrable sensor": lambda: TypicalTrigger(THRESHOLD, INTERVAL),
    }
    sensors: dict[str, Callable[[], Any]] = {
        "BalanceSensor, poke": lambda: BalanceSensor(task_id="gate", threshold=THRESHOLD, **polling),
        "HttpSensor, poke": http_sensor,
        "@task.sensor, poke": task_sensor,
    }
    if kind in triggers:
        return asyncio.run(_run_triggers(triggers[kind], seconds))
    return _run_sensors(sensors[kind], seconds)


async def _run_triggers(create: Callable[[], Any], seconds: float) -> int:
    """Run the triggers in one event loop, as a triggerer does."""

    async def run_one() -> None:
        async for _ in create().run():
            break

    tasks = [asyncio.create_task(run_one()) for _ in range(GATES)]
    await asyncio.sleep(seconds)
    waiting = [task for task in tasks if not task.done()]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return len(waiting)


def _run_sensors(create: Callable[[], Any], seconds: float) -> int:
    """Run each sensor in a thread, as ten workers would."""
    waiting: list[int] = []

    def run_one() -> None:
        started = time.monotonic()
        with contextlib.suppress(Exception):
            create().execute({})
        if time.monotonic() - started >= seconds - INTERVAL:
            waiting.append(1)

    threads = [threading.Thread(target=run_one, daemon=True) for _ in range(GATES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 15)
    return len(waiting)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(json.dumps(_count_waiting(sys.argv[1], float(sys.argv[2]))), flush=True)
    os._exit(0)  # a sensor that hangs keeps its thread alive
