"""A server by which tasks in other processes spend the money of sandbox accounts. Standard library only."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class SpendServer:
    """
    Spend when a task sends ``POST /<account>?<seconds until the charge posts>``.

    :param accounts: sandboxes by their names.
    :param price: what each job costs.
    """

    def __init__(self, accounts: Mapping[str, Any], price: str) -> None:
        self.jobs: Counter[str] = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                account, _, late = self.path.strip("/").partition("?")
                server.jobs[account] += 1
                charge = threading.Timer(float(late), accounts[account].spend, [price])
                charge.daemon = True
                charge.start()
                if not float(late):
                    charge.join()
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> SpendServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
