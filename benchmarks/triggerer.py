"""Many waiting triggers in one event loop, as a triggerer process has them."""

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
LASTS = 20.0  # seconds that are measured
SLEEPS = "limit: a trigger that only sleeps"
BOUND = "bound: one poll of Airflow's, no checks"


def run(repeats: int, gates: list[int] | None = None) -> list[Table]:
    """Measure each kind in a process of its own, with the API in this one."""
    table = Table(
        "triggerer",
        f"Triggers that wait in one event loop, a poll every {INTERVAL:g} s, measured for {LASTS:g} s.",
        ["triggers", "requests/s", "of a core", "lag of the loop, median ms", "longest, ms", "KB a trigger"],
    )
    kinds = ["nothing", SLEEPS, "BalanceTrigger", "a usual trigger", BOUND]
    with tempfile.TemporaryDirectory() as folder, Sandbox(0) as account:
        env = os.environ | connections(account) | {"AIRFLOW_HOME": folder, "PYTHONPATH": str(Path(__file__).parent)}
        for number in gates or [100, 1000, 5000]:
            for kind in kinds if number == (gates or [100])[0] else kinds[1:]:
                found: dict[str, list[float]] = {}
                for _ in range(repeats):
                    command = [sys.executable, __file__, kind, str(number)]
                    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
                        assert process.stdout
                        _line(process)  # warm: now it measures
                        before = len(account.requests)
                        measured = json.loads(_line(process))
                        measured["requests"] = (len(account.requests) - before) / LASTS
                        process.kill()
                    for name, value in measured.items():
                        found.setdefault(name, []).append(value)
                names = ["requests", "core", "lag", "longest", "kilobytes"]
                table.add(kind, 0 if kind == "nothing" else number, *(found[name] for name in names))
    return [table]


def _line(process: subprocess.Popen[str]) -> str:
    """Give the next line of JSON, past whatever Airflow prints."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith("{"):
            return line
    raise RuntimeError("The process ended before it had measured.")


def _waits(kind: str) -> Callable[[int], Coroutine[Any, Any, None]] | None:
    if kind == "nothing":
        return None
    if kind == "a usual trigger":
        from usual import UsualTrigger

        async def usual(number: int) -> None:
            await asyncio.sleep(number % 100 / 100 * INTERVAL)  # they did not all start at once
            async for _ in UsualTrigger(THRESHOLD, INTERVAL).run():
                raise AssertionError

        return usual

    if kind == SLEEPS:
        from airflow.triggers.base import BaseTrigger

        class Sleeps(BaseTrigger):
            def serialize(self) -> tuple[str, dict[str, Any]]:
                return "", {}

            async def run(self) -> AsyncIterator[Any]:
                yield await asyncio.Event().wait()

        async def sleeps(_: int) -> None:
            async for _ in Sleeps().run():
                raise AssertionError

        return sleeps

    if kind == BOUND:
        from airflow.triggers.shared_stream import SharedStreamManager
        from bound import BoundTrigger

        shared = SharedStreamManager()

        async def bound(number: int) -> None:
            trigger = BoundTrigger(THRESHOLD, INTERVAL)
            key = trigger.shared_stream_key()
            stream = shared.subscribe(trigger_id=number, trigger=trigger, key=key)
            async for _ in trigger.filter_shared_stream(stream):
                raise AssertionError

        return bound

    from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger

    async def ours(_: int) -> None:
        async for _ in BalanceTrigger("aimlbilling_default", str(THRESHOLD), INTERVAL, time.time() + 3600).run():
            raise AssertionError

    return ours


async def measure(kind: str, number: int) -> dict[str, float]:
    """Start the triggers, let them settle, and watch the loop."""
    start = _waits(kind)
    # The first loads what all need, and asks a first time.
    tasks = [asyncio.create_task(start(0))] if start else []
    await asyncio.sleep(2)
    gc.collect()
    memory = _memory()
    tasks += [asyncio.create_task(start(n)) for n in range(1, number)] if start else []
    await asyncio.sleep(INTERVAL * 2 + 2)
    gc.collect()
    used = (_memory() - memory) / max(number, 1) / 1000
    print(json.dumps({"warm": True}), flush=True)
    cpu, wall, lags = time.process_time(), time.monotonic(), []
    while (now := time.monotonic()) - wall < LASTS:
        await asyncio.sleep(0.01)
        lags.append(time.monotonic() - now - 0.01)
    took = time.process_time() - cpu
    assert not any(task.done() for task in tasks), "they all wait"
    lags.sort()
    return {
        "core": took / LASTS,
        "lag": lags[len(lags) // 2] * 1e3,
        "longest": lags[-1] * 1e3,
        "kilobytes": used if start else 0.0,
    }


def _memory() -> int:
    """Bytes that are resident."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], int(sys.argv[2])))), flush=True)
