"""Thousands of polls of an API that fails in every way leave nothing behind. POLLS=20000 makes it a long run."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
from collections import Counter
from itertools import repeat
from pathlib import Path

import pytest
from raw_server import BALANCE, RawServer, Script, answer

from airflow_provider_aimlbilling.waiting import balance_source
from airflow_provider_aimlbilling.waiting.poll import poll

POLLS = int(os.environ.get("POLLS", "1000"))
GOOD = answer()


def fault(chooser: random.Random) -> Script:
    kind = chooser.randrange(8)
    if kind == 0:
        return [GOOD[: chooser.randrange(len(GOOD))]]
    if kind == 1:
        return [chooser.randbytes(300)]
    if kind == 2:
        cookie = f"Set-Cookie: c{chooser.random()}={'x' * 500}"
        return [answer(BALANCE | {"status": f"s{chooser.random()}"}, cookie)]
    if kind == 3:
        return [answer({"message": f"m{chooser.random()}"}, status=chooser.choice(["401 No", "404 No", "503 Down"]))]
    if kind == 4:
        return [answer(GOOD, "Content-Encoding: gzip")]
    if kind == 5:
        return [answer({f"new{chooser.random()}": 1})]
    return [GOOD]


def measure() -> dict[str, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return {"KB": pages * 4, "threads": threading.active_count(), "descriptors": descriptors}


def test_polls_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance_source, "LOG_INTERVAL", 3600.0)
    chooser = random.Random(1)
    kinds: Counter[str] = Counter()

    async def scenario() -> tuple[dict[str, int], dict[str, int]]:
        readings = poll("aimlbilling_default", repeat(0.0), 1.0)
        before = {}
        for number in range(POLLS):
            reading = await anext(readings)
            kinds[type(reading).__name__] += 1
            if number == POLLS // 5:
                before = measure()
        after = measure()
        await readings.aclose()
        return before, after

    with RawServer(lambda: fault(chooser)) as server:
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", server.connection(timeout=1))
        before, after = asyncio.run(scenario())
    print(f"{POLLS} polls: {before} -> {after}; {dict(kinds)}")
    assert len(kinds) >= 4, "each kind of reading"
    assert after["threads"] <= before["threads"] + 2
    assert after["descriptors"] <= before["descriptors"] + 4
    assert after["KB"] - before["KB"] < 3000
