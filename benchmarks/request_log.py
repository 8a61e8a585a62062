"""Reading the request log: every row once, beside a loop that trusts the pages. The API runs in another process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ROWS = 100_000
FEW_ROWS = 10_000
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
GAP = timedelta(milliseconds=864)  # between two rows: 100,000 in a day
LIMIT_PER_MINUTE = 200  # of the API


def serve() -> None:
    """Serve a log of one row every 864 ms; its rows are encoded in advance."""
    rows = [
        json.dumps(
            {
                "created": _iso(START + GAP * number),
                "status": "succeeded",
                "origin": "api",
                "model": "openai/gpt-5",
                "cost": {"usd": 0.00125, "credits": 2500},
                "tokens": {"input": 100, "output": 100, "total": 200},
                "request_id": f"5f0c1a52-9d2e-4b1c-8f8e-{number:012}",
                "inference_id": f"inf-5f0c1a52-9d2e-{number:012}",
                "client_request_id": f"airflow1:daily_llm_scoring:group.score:{number}:1:scheduled__2026-01-01",
            }
        )
        for number in range(ROWS)
    ]
    requests = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            nonlocal requests
            parts = urlsplit(self.path)
            body = json.dumps(requests)
            if parts.path == "/v2/logs":
                requests += 1
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                first, last = (-(-_since_start(query[name]) // GAP) for name in ("start", "end"))
                last, offset, limit = min(last, ROWS), int(query["offset"]), int(query["limit"])
                page = rows[max(first, last - offset - limit) : max(first, last - offset)]
                more = json.dumps({"total": last - first, "has_more": last - first > offset + limit})
                body = f'{{"data": [{", ".join(reversed(page))}], "pagination": {more}}}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _since_start(text: str) -> timedelta:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) - START


def iter_requests(url: str, start: datetime, end: datetime) -> Iterator[int]:
    """Read the log with this provider's client. It does not wait for the API's rate limit, which there is none of."""
    from airflow_provider_aimlbilling.client import AimlBillingClient, Settings, request_log

    request_log.MAX_REQUESTS = 10**6
    for row in AimlBillingClient(Settings("key", url, 10)).iter_requests(start, end):
        assert row.cost is not None
        yield int(row.cost.credits)


def raw_rows(url: str, start: datetime, end: datetime) -> Iterator[int]:
    """Read the log page by page, with nothing but ``requests`` and ``json``."""
    for page in _raw_pages(url, start, end):
        for row in page:
            yield row["cost"]["credits"]


def raw_list(url: str, start: datetime, end: datetime) -> Iterator[int]:
    """Read the log page by page into a list."""
    rows: list[Any] = []
    for page in _raw_pages(url, start, end):
        rows += page
    return (row["cost"]["credits"] for row in rows)


def _raw_pages(url: str, start: datetime, end: datetime) -> Iterator[list[Any]]:
    import requests

    with requests.Session() as session:
        query: dict[str, Any] = {"start": _iso(start), "end": _iso(end), "limit": 100, "offset": 0}
        while True:
            answer = session.get(f"{url}/v2/logs", params=query, timeout=10).json()
            yield answer["data"]
            query["offset"] += len(answer["data"])
            if not answer["pagination"]["has_more"]:
                return


PEERS: dict[str, Callable[[str, datetime, datetime], Iterator[int]]] = {
    "AimlBillingClient.iter_requests": iter_requests,
    "baseline: raw requests + json, row by row": raw_rows,
    "baseline: raw requests + json, all rows in a list": raw_list,
}


def read(peer: str, url: str, count: int) -> None:
    """Read so many rows, and print seconds, CPU seconds and megabytes that it took."""
    read_rows = PEERS[peer]
    assert sum(1 for _ in read_rows(url, START, START + GAP)) == 1  # loads all modules
    memory, wall, cpu = _peak_megabytes(), time.perf_counter(), time.process_time()
    assert sum(read_rows(url, START, START + GAP * count)) == 2500 * count
    took = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps([*took, _peak_megabytes() - memory]))


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(repeats: int) -> list[Any]:
    """Start the API, and let all peers read its log in turn, each in a process of its own."""
    import requests
    from report import Table

    table = Table(
        "request_log",
        f"Reading {ROWS:,} rows of the request log on this machine. Only the CPU time of the client counts.",
        [
            *("wall (s)", "CPU (s)", "requests", f"minutes at {LIMIT_PER_MINUTE} requests/min"),
            *(f"memory added by {FEW_ROWS:,} rows (MB)", f"memory added by {ROWS:,} rows (MB)"),
        ],
    )
    results: dict[str, list[list[float]]] = {name: [] for name in PEERS}
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            url = server.stdout.readline().strip()

            def measure(name: str, count: int) -> list[float]:
                before = requests.get(url, timeout=10).json()
                command = [sys.executable, __file__, name, url, str(count)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                return [*json.loads(out), requests.get(url, timeout=10).json() - before - 1]

            for _ in range(repeats):
                for name in PEERS:
                    wall, cpu, memory, sent = measure(name, ROWS)
                    results[name].append([wall, cpu, sent, sent / LIMIT_PER_MINUTE, measure(name, FEW_ROWS)[2], memory])
        finally:
            server.kill()
    for name, turns in results.items():
        table.add(name, *map(list, zip(*turns, strict=True)))
    return [table]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        read(sys.argv[1], sys.argv[2], int(sys.argv[3]))
