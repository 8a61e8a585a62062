"""A Slack webhook and a mail server on this machine, which keep what they receive."""

from __future__ import annotations

import email.policy
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def slack(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield an Airflow connection to a webhook, and the list of the messages that it receives."""
    messages: list[dict[str, Any]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"ok" if status == 200 else b"no_service")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    url = f"http://127.0.0.1:{server.server_port}/services"
    with _served(server):
        yield json.dumps({"conn_type": "slackwebhook", "host": url, "password": "T0/B0/x"}), messages


@contextmanager
def smtp() -> Iterator[tuple[str, list[EmailMessage]]]:
    """Yield an Airflow connection to a mail server, and the list of the messages that it receives."""
    messages: list[EmailMessage] = []

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 ready\r\n")
            while command := self.rfile.readline()[:4].strip().upper():
                if command == b"QUIT":
                    return
                if command == b"DATA":
                    self.wfile.write(b"354 go ahead\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    raw = b"".join(line.removeprefix(b".") if line.startswith(b"..") else line for line in lines)
                    messages.append(email.message_from_bytes(raw, policy=email.policy.default))
                self.wfile.write(b"250 ok\r\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Session)
    extra = {"disable_tls": True, "disable_ssl": True, "timeout": 5}
    fields = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.server_address[1], "extra": extra}
    with _served(server):
        yield json.dumps(fields), messages
