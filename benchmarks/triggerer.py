"""Many waiting triggers in one event loop, as in a triggerer process."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from peers import THRESHOLD, connections
from report import Table

from airflow_provider_aimlbilling.sandbox import Sandbox

INTERVAL = 10.0  # seconds between two polls
MEASURED = 20.0  # seconds of measurement
SLEEPING = "baseline: a trigger that only sleeps"
SHARED_STREAM = "baseline: Airflow's shared stream, no checks"
TYPICAL = "a typical trigger"
IDLE = "idle event loop"


def run(repeats: int, gates: list[int] | None = None) -> list[Table]:
    """Measure each kind of trigger in its own process. This process serves the API."""
    table = Table(
        "triggerer",
        f"Triggers waiting in one event loop. They poll every {INTERVAL:g} s and were measured for {MEASURED:g} s.",
        ["triggers", "requests/s", "CPU cores used", "median loop lag (ms)", "longest lag (ms)", "KB per trigger"],
    )
    kinds = [IDLE, SLEEPING, "BalanceTrigger", TYPICAL, SHARED_STREAM]
    with tempfile.TemporaryDirectory() as folder, Sandbox(0) as account:
        env = os.environ | connections(account) | {"AIRFLOW_HOME": folder, "PYTHONPATH": str(Path(__file__).parent)}
        for number in gates or [100, 1000, 5000]:
            for kind in kinds if number == (gates or [100])[0] else kinds[1:]:
                results: dict[str, list[float]] = {}
                for _ in range(repeats):
                    command = [sys.executable, __file__, kind, str(number)]
                    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
                        assert process.stdout
                        _next_json(process)  # the triggers have settled: the measurement begins
                        before = len(account.requests)
                        measured = json.loads(_next_json(process))
                        measured["requests"] = (len(account.requests) - before) / MEASURED
                        process.kill()
                    for name, value in measured.items():
                        results.setdefault(name, []).append(value)
                names = ["requests", "core", "lag", "longest", "kilobytes"]
                table.add(kind, 0 if kind == IDLE else number, *(results[name] for name in names))
    return [table]


def _next_json(process: subprocess.Popen[str]) -> str:
    """Return the next line of JSON, and skip what Airflow prints."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith("{"):
            return line
    raise RuntimeError("The process ended before the measurement was complete.")


def _waiting_trigger(kind: str) -> Callable[[int], Coroutine[Any, Any, None]] | None:
    """Return a function that runs one waiting trigger, given its number; ``None`` for no triggers at all."""
    if kind == IDLE:
        return None
    if kind == TYPICAL:
        from typical_sensor import TypicalTrigger

        async def typical(number: int) -> None:
            await asyncio.sleep(number % 100 / 100 * INTERVAL)  # spread the polls, as triggers do not all start at once
            async for _ in TypicalTrigger(THRESHOLD, INTERVAL).run():
                raise AssertionError

        return typical

    if kind == SLEEPING:
        from airflow.triggers.base import BaseTrigger

        class SleepingTrigger(BaseTrigger):
            def serialize(self) -> tuple[str, dict[str, Any]]:
                return "", {}

            async def run(self) -> AsyncIterator[Any]:
                yield await asyncio.Event().wait()

        async def sleeping(_: int) -> None:
            async for _ in SleepingTrigger().run():
                raise AssertionError

        return sleeping

    if kind == SHARED_STREAM:
        from airflow.triggers.shared_stream import SharedStreamManager
        from baseline import BaselineTrigger

        manager = SharedStreamManager()

        async def baseline(number: int) -> None:
            trigger = BaselineTrigger(THRESHOLD, INTERVAL)
            key = trigger.shared_stream_key()
            stream = manager.subscribe(trigger_id=number, trigger=trigger, key=key)
            async for _ in trigger.filter_shared_stream(stream):
                raise AssertionError

        return baseline

    from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

    async def ours(_: int) -> None:
        async for _ in BalanceTrigger("aimlbilling_default", str(THRESHOLD), INTERVAL, time.time() + 3600).run():
            raise AssertionError

    return ours


async def measure(kind: str, number: int) -> dict[str, float]:
    """Start the triggers, let them settle, and measure the event loop."""
    start = _waiting_trigger(kind)
    # The first trigger loads what all of them need and sends the first request. Its memory does not count.
    tasks = [asyncio.create_task(start(0))] if start else []
    await asyncio.sleep(2)
    gc.collect()
    memory = _memory()
    tasks += [asyncio.create_task(start(n)) for n in range(1, number)] if start else []
    await asyncio.sleep(INTERVAL * 2 + 2)
    gc.collect()
    used = (_memory() - memory) / max(number, 1) / 1000
    print(json.dumps({"settled": True}), flush=True)
    cpu, wall, lags = time.process_time(), time.monotonic(), []
    while (now := time.monotonic()) - wall < MEASURED:
        await asyncio.sleep(0.01)
        lags.append(time.monotonic() - now - 0.01)
    took = time.process_time() - cpu
    assert not any(task.done() for task in tasks), "a trigger stopped waiting"
    lags.sort()
    return {
        "core": took / MEASURED,
        "lag": lags[len(lags) // 2] * 1e3,
        "longest": lags[-1] * 1e3,
        "kilobytes": used if start else 0.0,
    }


def _memory() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], int(sys.argv[2])))), flush=True)
