"""One poke, over TLS, against an API in another process."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

from peers import THRESHOLD, connections
from report import Table

from airflow_provider_aimlbilling.sandbox import Sandbox

PATH = "/v1/billing/balance"
TOOLS = Path(__file__).parents[1] / "tools"


def serve(certificate: str) -> None:
    """Serve an account over TLS, and answer each line on standard input with the number of connections so far."""
    sys.path.insert(0, str(TOOLS))
    from tls import over_tls

    account = Sandbox("5 USD")
    print(over_tls(account, Path(certificate)), flush=True)
    with account:
        for _ in sys.stdin:
            print(account.connections, flush=True)


def run(repeats: int) -> list[Table]:
    """Poke in turns of twenty."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIRFLOW_HOME"] = folder
        certificate = f"{folder}/certificate.pem"
        command = [sys.executable, __file__, certificate]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdin and server.stdout
            try:
                url = server.stdout.readline().strip()
                os.environ |= connections(Sandbox(), url) | {"REQUESTS_CA_BUNDLE": certificate}

                def connected() -> int:
                    print("?", file=server.stdin, flush=True)
                    return int(server.stdout.readline())

                return [_measure(_ways(url, certificate), repeats, connected)]
            finally:
                server.kill()


def _ways(url: str, certificate: str) -> dict[str, Callable[[], object]]:
    import requests
    from airflow.providers.http.hooks.http import HttpHook
    from airflow.providers.http.sensors.http import HttpSensor

    from airflow_provider_aimlbilling.balance import Balance
    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
    from airflow_provider_aimlbilling.polling import poll
    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

    logging.disable(logging.CRITICAL)
    headers = {"Authorization": f"Bearer {os.environ['BILLING_KEY']}"}
    raw = http.client.HTTPSConnection(
        url.removeprefix("https://"), context=ssl.create_default_context(cafile=certificate)
    )
    session = requests.Session()
    session.headers.update(headers)
    hook, http_hook = AimlBillingHook(retries=0), HttpHook(method="GET", http_conn_id="billing_http")
    ours = BalanceSensor(task_id="ours", threshold=THRESHOLD)
    theirs = HttpSensor(
        task_id="theirs",
        http_conn_id="billing_http",
        endpoint=PATH,
        response_check=lambda response: response.json()["balance"] >= THRESHOLD,
    )

    loop, polled = asyncio.new_event_loop(), poll("aimlbilling_default", repeat(0.0), 1.0, 0.0)

    async def next_reading() -> object:
        reading = await anext(polled)
        assert isinstance(reading, Balance), reading  # faults are values here
        return reading

    def ask_raw() -> object:
        raw.request("GET", PATH, headers=headers)
        return json.load(raw.getresponse())

    return {
        "limit: raw keep-alive request": ask_raw,
        "limit: kept requests session": lambda: session.get(url + PATH, timeout=10).json(),
        "AimlBillingHook.get_balance": hook.get_balance,
        "BalanceSensor.poke": lambda: ours.poke({}),
        "the poll behind BalanceTrigger": lambda: loop.run_until_complete(next_reading()),
        "HttpHook.run": lambda: http_hook.run(PATH),
        "HttpSensor.poke": lambda: theirs.poke({}),
        "@task.sensor, requests.get": lambda: requests.get(url + PATH, headers=headers, timeout=10).json(),
    }


def _measure(ways: dict[str, Callable[[], object]], repeats: int, connected: Callable[[], int]) -> Table:
    table = Table(
        "poke",
        "One poke over TLS on this machine. CPU is the client's.",
        ["wall, ms", "CPU, ms", "times a kept session's CPU", "new connections in 20 pokes"],
    )
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, ask in ways.items():
            wall, cpu, before = time.perf_counter(), time.process_time(), connected()
            for _ in range(20):
                assert ask()
            took = (time.perf_counter() - wall) / 20 * 1e3, (time.process_time() - cpu) / 20 * 1e3
            if number:  # the first round opens what is then kept
                found[name].append((*took, connected() - before))
    kept = [cpu for _, cpu, _ in found["limit: kept requests session"]]
    for name, turns in found.items():
        cpu = [turn[1] for turn in turns]
        times = [one / other for one, other in zip(cpu, kept, strict=True)]
        table.add(name, [turn[0] for turn in turns], cpu, times, [turn[2] for turn in turns])
    return table


if __name__ == "__main__":
    serve(sys.argv[1])
