"""
A server for the billing page alone: its files with the headers of the real one, and figures that a test sets.

It also serves a page that frames the billing page as Airflow does.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import page_figures as figures

STATIC = Path(__file__).resolve().parents[2] / "airflow_provider_aimlbilling" / "plugins" / "page" / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
PREFIX = "/airflow/aimlbilling"  # below a base path, as behind a proxy

# Airflow 3.3 frames the page with this sandbox, follows popstate with its router, and keeps its colour mode so.
FRAME = f"""<!doctype html><html lang="en" class="light"><head><meta charset="utf-8"><title>Airflow</title>
<link rel="icon" href="data:,"></head><body><iframe title="AI/ML API billing" width="1200" height="800"
sandbox="allow-scripts allow-same-origin allow-forms allow-downloads" src="{PREFIX}/page"></iframe>
<script>window.routed = []; addEventListener("popstate", (event) => routed.push([location.pathname, event.state]));
</script></body></html>"""

Answer = tuple[int, dict[str, str], bytes]


class Fault:
    """
    An answer that is not figures.

    :param status: of the response; 0 closes the connection without one.
    :param body: sent as it is.
    """

    def __init__(self, status: int, body: str = "") -> None:
        self.status, self.body = status, body


class Pages:
    """What is served under which address. A test changes ``figures`` while the page is open."""

    def __init__(self) -> None:
        # The last part of an address below api/ → its JSON, a Fault, or a function of the connection and the query.
        self.figures: dict[str, Any] = figures.usual()
        self.requests: list[str] = []
        self.held: dict[str, threading.Event] = {}

    def respond(self, path: str, query: str = "") -> Answer:
        """Return status, headers and body."""
        name = unquote(path).removeprefix(PREFIX).removeprefix("/aimlbilling")
        if name == "/page":
            return self._file(STATIC / "index.html")
        if name.startswith("/static/") and (file := STATIC / name.removeprefix("/static/")).is_file():
            return self._file(file)
        if name.startswith("/api/"):
            return self._figures(path.rpartition("/api/")[2], query)
        if name == "/airflow/frame":
            return 200, {"Content-Type": TYPES[".html"]}, FRAME.encode()
        if "/dags/" in name:
            return 200, {"Content-Type": TYPES[".html"]}, b"<!doctype html><link rel=icon href=data:,><h1>A task</h1>"
        return 404, {"Content-Type": "text/plain"}, b"Not found"

    def _file(self, path: Path) -> Answer:
        kind = TYPES.get(path.suffix, "text/plain; charset=utf-8")
        headers = {"Content-Type": kind, "Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff"}
        return 200, headers, path.read_bytes()

    def _figures(self, path: str, query: str) -> Answer:
        self.requests.append(f"{path}?{query}" if query else path)
        name = path.rpartition("/")[2]
        if name in self.held:
            self.held[name].wait(30)
        found = self.figures[name]
        if isinstance(found, Callable):  # type: ignore[arg-type]
            options = {key: values[0] for key, values in parse_qs(query).items()}
            found = found(unquote(path.split("/")[1]) if "/" in path else None, options)
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        if isinstance(found, Fault):
            return found.status, headers, found.body.encode()
        return 200, headers, json.dumps(found).encode()


class PageServer(Pages):
    """Serves the pages on a free port of this machine. Used as a context manager."""

    def __init__(self) -> None:
        super().__init__()
        pages = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                status, headers, body = pages.respond(url.path, url.query)
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}{PREFIX}/page"
        self.frame_url = f"{self.origin}/airflow/frame"

    def __enter__(self) -> PageServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        for event in self.held.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()
