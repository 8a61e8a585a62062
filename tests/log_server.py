"""A server of the request log whose answers a test decides, page by page. Unlike the sandbox's, it may be odd."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = Callable[[Mapping[str, str]], Any]


class LogServer:
    """
    Answers each request with what a function returns for its query. Used as a context manager.

    :param answer: takes the query parameters and returns the body, as JSON values; or an HTTP status.
    :param ahead: by how many seconds its clock is ahead, which sets the ``Date`` header; ``None`` for no such header.
    """

    def __init__(self, answer: Answer, ahead: float | None = 0) -> None:
        self.queries: list[dict[str, str]] = []
        log = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                query = dict(parse_qsl(urlsplit(self.path).query))
                log.queries.append(query)
                body = answer(query)
                status, body = (body, b"{}") if isinstance(body, int) else (200, json.dumps(body).encode())
                self.send_response_only(status)
                if ahead is not None:
                    self.send_header("Date", formatdate(time.time() + ahead, usegmt=True))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LogServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
