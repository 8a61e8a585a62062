"""What the billing page costs: bytes, requests to the API, time to the first figures, and imports in every process."""

from __future__ import annotations

import gzip
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from report import Table

from airflow_provider_aimlbilling.sandbox import Sandbox

VIEWERS = 20
MINUTES = 5
LOADS = 10  # of each kind, in one process
PREFIX = "/aimlbilling"

# What index.html loads, and what its modules import. The chart library is imported only to draw a chart.
_LOADED_BY_HTML = re.compile(r'(?:href|src)="static/([^"]+)"')
_IMPORTED = re.compile(r'^import .*"\./([^"]+)";', re.MULTILINE)
_IMPORTED_LATER = re.compile(r'\bimport\("\./([^"]+)"\)')

# Runs in a fresh interpreter that has loaded what every process of Airflow needs to load plugins.
IMPORT = """
import json, sys, time
import airflow.plugins_manager
modules = set(sys.modules)
started = time.perf_counter()
__import__(sys.argv[1])
took = time.perf_counter() - started
added = set(sys.modules) - modules
print(json.dumps({"ms": took * 1e3, "modules": len(added), "heavy": sorted(added & {"fastapi", "requests"})}))
"""
IMPORTED = {
    "the plugin, in every process": "airflow_provider_aimlbilling.plugins.billing_page",
    "the page itself, only in the API server": "airflow_provider_aimlbilling.plugins.page.app",
}


class Clock:
    """The clock of a cache, which stands still until it is set."""

    seconds = 0

    def __call__(self) -> int:
        """Return the seconds."""
        return self.seconds

    def now(self) -> datetime:
        """Return the time that belongs to the seconds."""
        return datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=self.seconds)


def static_files() -> tuple[list[Path], list[Path]]:
    """Return the files that the page always loads, and those that it loads to draw a chart."""
    spec = find_spec("airflow_provider_aimlbilling")
    assert spec and spec.origin
    folder = Path(spec.origin).parent / "plugins" / "page" / "static"
    found, later = ["index.html"], []
    for name in found:  # grows while it is read
        text = (folder / name).read_text()
        names = _LOADED_BY_HTML.findall(text) if name.endswith(".html") else _IMPORTED.findall(text)
        found += [other for other in dict.fromkeys(names) if other not in found]
        later += _IMPORTED_LATER.findall(text)
    return [folder / name for name in found], [folder / name for name in later]


def sizes() -> Table:
    """Add up the files."""
    table = Table(
        "page-size",
        "What a browser loads with the page for the first time.",
        ["files", "bytes", "bytes gzipped"],
    )
    always, for_chart = static_files()
    peers = {"the page": always, "the chart library": for_chart, "together": always + for_chart}
    for name, files in peers.items():
        contents = [file.read_bytes() for file in files]
        compressed = sum(len(gzip.compress(content, mtime=0)) for content in contents)
        table.add(name, [len(files)], [sum(map(len, contents))], [compressed])
    return table


class Server:
    """Airflow's own API server in this process, with a client who is logged in."""

    def __init__(self) -> None:
        from airflow.api_fastapi.app import create_app, get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from fastapi.testclient import TestClient

        app = create_app(apps="core")
        token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))
        self._client = TestClient(app, headers={"Authorization": f"Bearer {token}"})
        self.requests = 0
        self.get("/api/v2/connections")  # what Airflow itself does with its first request does not count

    def get(self, path: str) -> Any:
        """Send a request to Airflow, which must succeed."""
        response = self._client.get(path)
        assert response.status_code == 200, (path, response.text)
        self.requests += 1
        return response

    def use(self, page: Any) -> None:
        """Serve this page application instead of the last one."""
        from airflow_provider_aimlbilling.plugins.billing_page import BillingPagePlugin

        (declared,) = BillingPagePlugin.fastapi_apps
        declared["app"]._app = page  # noqa: SLF001

    def refresh(self) -> None:
        """Ask everything that an open page asks once a minute."""
        api = f"{PREFIX}/api"
        for entry in self.get(f"{api}/connections").json()["connections"]:
            account = f"{api}/connections/{entry['connection_id']}"
            for route in ("account", "spending?days=28&tz=UTC"):
                assert not self.get(f"{account}/{route}").json()["error"]
        for route in ("gates", "held", "runs?days=28"):
            self.get(f"{api}/{route}")

    def load(self) -> list[float]:
        """Load the page up to the balance. Return milliseconds to the HTML and to the balance, and the requests."""
        files = [file.name for file in static_files()[0][1:]]
        before, started = self.requests, time.perf_counter()
        self.get(f"{PREFIX}/page")
        html = time.perf_counter() - started
        for name in files:
            self.get(f"{PREFIX}/static/{name}")
        (entry,) = self.get(f"{PREFIX}/api/connections").json()["connections"]
        account = self.get(f"{PREFIX}/api/connections/{entry['connection_id']}/account").json()
        took = time.perf_counter() - started
        assert account["balance"] and not account["error"], account
        return [html * 1e3, took * 1e3, self.requests - before]


def watch(caches: int) -> None:
    """Let the viewers look for some minutes of a simulated clock, with one cache for all of them or one for each."""
    from airflow_provider_aimlbilling.plugins.page.app import build_app
    from airflow_provider_aimlbilling.plugins.page.reading_cache import ReadingCache

    clock, server = Clock(), Server()
    pages = [build_app(ReadingCache(clock, clock.now)) for _ in range(caches)]
    for minute in range(MINUTES):
        for viewer in range(VIEWERS):  # they opened the page one after the other
            clock.seconds = 60 * minute + 60 * viewer // VIEWERS
            server.use(pages[viewer % caches])
            server.refresh()
    print(json.dumps(server.requests - 1))


def load() -> None:
    """Load the page in a new API server, then with new caches, then again with figures that are not a minute old."""
    from airflow_provider_aimlbilling.plugins.page.app import build_app

    server = Server()
    found = {"the first load after the API server has started": [server.load()]}
    cold = found["a cold cache: nobody looked in the last minute"] = []
    for _ in range(LOADS):
        server.use(build_app())
        cold.append(server.load())
    found["a warm cache: somebody else looks"] = [server.load() for _ in range(LOADS)]
    medians = {name: [statistics.median(one) for one in zip(*loads, strict=True)] for name, loads in found.items()}
    print(json.dumps(medians))


def _child(home: str, account: Sandbox, *arguments: str) -> Any:
    """Run a part of this file in a process with an Airflow of its own, and return what it prints."""
    env = _environment(home) | {"AIRFLOW_CONN_AIMLBILLING_DEFAULT": account.connection()}
    command = [sys.executable, __file__, *arguments]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    return json.loads(out.strip().splitlines()[-1])


def _environment(home: str) -> dict[str, str]:
    return os.environ | {
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__API_AUTH__JWT_SECRET": "s" * 64,
        "AIRFLOW__API__SECRET_KEY": "t" * 64,
        "_AIRFLOW_PROCESS_CONTEXT": "server",  # as Airflow sets it in the API server
        "NO_PROXY": "127.0.0.1,localhost",
    }


def _requests(home: str) -> Table:
    table = Table(
        "page-requests",
        f"Requests to the billing API while {VIEWERS} pages are open for {MINUTES} minutes. The minutes are simulated, "
        "the requests are not.",
        ["requests to the API", "per minute", "requests to Airflow"],
    )
    for name, caches in {"the page": 1, "baseline: each open page asks the API itself": VIEWERS}.items():
        with Sandbox("5 USD") as account:
            to_airflow = _child(home, account, "watch", str(caches))
            sent = len(account.requests)
        table.add(name, [sent], [sent / MINUTES], [to_airflow])
    return table


def _loads(home: str, repeats: int) -> Table:
    table = Table(
        "page-load",
        f"From the first request of a page load until the balance of the account is there. The median of {LOADS} loads "
        f"in each process, and over {repeats} processes. What a browser needs to draw the page is not included.",
        ["HTML (ms)", "first figures (ms)", "requests to Airflow until then"],
    )
    found: dict[str, list[list[float]]] = {}
    with Sandbox("5 USD") as account:
        for _ in range(repeats):
            for name, figures in _child(home, account, "load").items():
                found.setdefault(name, []).append(figures)
    for name, runs in found.items():
        table.add(name, *map(list, zip(*runs, strict=True)))
    return table


def _imports(home: str, repeats: int) -> Table:
    table = Table(
        "page-import",
        "What an import adds to a fresh process that has loaded Airflow's plugin manager.",
        ["modules added", "import (ms)", "fastapi and requests"],
    )
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in IMPORTED}
    for repeat in range(repeats + 1):
        for name, module in IMPORTED.items():
            command = [sys.executable, "-c", IMPORT, module]
            env = _environment(home)
            out = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout
            if repeat:  # the first round only writes the bytecode
                results[name].append(json.loads(out.strip().splitlines()[-1]))
    for name, runs in results.items():
        heavy = sorted({module for one in runs for module in one["heavy"]})
        table.add(name, [one["modules"] for one in runs], [one["ms"] for one in runs], ", ".join(heavy) or "neither")
    return table


def run(repeats: int) -> list[Table]:
    """Measure with an Airflow of its own, which is removed at the end. The API runs in this process."""
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        airflow = Path(sys.executable).with_name("airflow")
        env = _environment(home)
        subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True, env=env)
        return [sizes(), _requests(home), _loads(home, repeats), _imports(home, repeats)]


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        watch(int(sys.argv[2]))
    else:
        load()
