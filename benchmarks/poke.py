"""What one poke over TLS costs. The API runs in another process."""

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
POKES = 20  # in one turn
REUSED_SESSION = "baseline: reused requests session"


def serve(certificate: str) -> None:
    """Serve an account over TLS. Answer every line on standard input with the number of connections so far."""
    sys.path.insert(0, str(TOOLS))
    from tls import enable_tls

    account = Sandbox("5 USD")
    print(enable_tls(account, Path(certificate)), flush=True)
    with account:
        for _ in sys.stdin:
            print(account.connections, flush=True)


def run(repeats: int) -> list[Table]:
    """Start the API, and measure all ways to read the balance in turn."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIRFLOW_HOME"] = folder
        certificate = f"{folder}/certificate.pem"
        command = [sys.executable, __file__, certificate]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdin and server.stdout
            try:
                url = server.stdout.readline().strip()
                os.environ |= connections(Sandbox(), url) | {"REQUESTS_CA_BUNDLE": certificate}

                def count_connections() -> int:
                    print("?", file=server.stdin, flush=True)
                    return int(server.stdout.readline())

                return [_measure(_requests(url, certificate), repeats, count_connections)]
            finally:
                server.kill()


def _requests(url: str, certificate: str) -> dict[str, Callable[[], object]]:
    """Return every way to read the balance, as a function that sends one request."""
    import requests
    from airflow.providers.http.hooks.http import HttpHook
    from airflow.providers.http.sensors.http import HttpSensor

    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
    from airflow_provider_aimlbilling.money.balance import Balance
    from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
    from airflow_provider_aimlbilling.waiting.poll import poll

    logging.disable(logging.CRITICAL)
    headers = {"Authorization": f"Bearer {os.environ['BILLING_KEY']}"}
    raw = http.client.HTTPSConnection(
        url.removeprefix("https://"), context=ssl.create_default_context(cafile=certificate)
    )
    session = requests.Session()
    session.headers.update(headers)
    hook, http_hook = AimlBillingHook(retries=0), HttpHook(method="GET", http_conn_id="billing_http")
    balance_sensor = BalanceSensor(task_id="ours", threshold=THRESHOLD)
    http_sensor = HttpSensor(
        task_id="theirs",
        http_conn_id="billing_http",
        endpoint=PATH,
        response_check=lambda response: response.json()["balance"] >= THRESHOLD,
    )

    loop, readings = asyncio.new_event_loop(), poll("aimlbilling_default", repeat(0.0), 1.0, 0.0)

    async def next_reading() -> object:
        reading = await anext(readings)
        assert isinstance(reading, Balance), reading  # the poll yields errors as values
        return reading

    def raw_request() -> object:
        raw.request("GET", PATH, headers=headers)
        return json.load(raw.getresponse())

    return {
        "baseline: raw keep-alive request": raw_request,
        REUSED_SESSION: lambda: session.get(url + PATH, timeout=10).json(),
        "AimlBillingHook.get_balance": hook.get_balance,
        "BalanceSensor.poke": lambda: balance_sensor.poke({}),
        "the poll behind BalanceTrigger": lambda: loop.run_until_complete(next_reading()),
        "HttpHook.run": lambda: http_hook.run(PATH),
        "HttpSensor.poke": lambda: http_sensor.poke({}),
        "@task.sensor, requests.get": lambda: requests.get(url + PATH, headers=headers, timeout=10).json(),
    }


def _measure(requests: dict[str, Callable[[], object]], repeats: int, count_connections: Callable[[], int]) -> Table:
    table = Table(
        "poke",
        "One poke over TLS on this machine. Only the CPU time of the client counts.",
        ["wall (ms)", "CPU (ms)", "CPU vs. a reused session", f"new connections in {POKES} pokes"],
    )
    results: dict[str, list[tuple[float, float, int]]] = {name: [] for name in requests}
    for number in range(repeats + 1):
        for name, request in requests.items():
            wall, cpu, before = time.perf_counter(), time.process_time(), count_connections()
            for _ in range(POKES):
                assert request()
            took = (time.perf_counter() - wall) / POKES * 1e3, (time.process_time() - cpu) / POKES * 1e3
            if number:  # the first round only opens the connections that are kept
                results[name].append((*took, count_connections() - before))
    reused = [cpu for _, cpu, _ in results[REUSED_SESSION]]
    for name, turns in results.items():
        cpu = [turn[1] for turn in turns]
        ratios = [one / other for one, other in zip(cpu, reused, strict=True)]
        table.add(name, [turn[0] for turn in turns], cpu, ratios, [turn[2] for turn in turns])
    return table


if __name__ == "__main__":
    serve(sys.argv[1])
