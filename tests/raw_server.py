"""A server that sends byte by byte and can break at any of them. Unlike the sandbox, it may be hostile."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import repeat
from typing import Any

BALANCE = {
    "balance": 5_000_000,
    "lowBalance": False,
    "lowBalanceThreshold": 10_000,
    "lastUpdated": "2026-11-22T10:00:00.000Z",
    "autoDebitStatus": "disabled",
    "status": "current",
    "statusExplanation": "Balance is current and up to date",
}

# What to send: bytes, or seconds to pause.
Script = Iterable[bytes | float]


def answer(body: object = BALANCE, *headers: str, status: str = "200 OK") -> bytes:
    """Return a complete response."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


def drip(data: bytes | Iterable[bytes], seconds: float = 0.05) -> Iterator[bytes | float]:
    """Send byte by byte, with a pause before each."""
    for part in data:
        yield seconds
        yield bytes([part]) if isinstance(part, int) else part


def forever(data: bytes) -> Iterator[bytes]:
    """Send the same bytes without end."""
    return repeat(data)


class RawServer:
    """
    Answers each request with what a script sends, then closes the connection. Used as a context manager.

    :param script: returns what to send for one request.
    :param read_request: wait for a complete request first; without it, the server is silent or sends at once.
    """

    def __init__(self, script: Callable[[], Script], *, read_request: bool = True) -> None:
        self.script = script
        self.connections = 0
        self._read_request = read_request
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def connection(self, **extra: Any) -> str:
        """Return an Airflow connection as JSON."""
        fields = {"conn_type": "aimlbilling", "host": self.url, "password": "k3y-Zq8wVx2Lr7Tn5Mb9"}
        return json.dumps(fields | {"extra": extra})

    def __enter__(self) -> RawServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.add(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            received = b""
            while self._read_request and b"\r\n\r\n" not in received:
                if not (data := sock.recv(65536)):
                    return
                received += data
            for part in self.script():
                if isinstance(part, bytes):
                    sock.sendall(part)
                else:
                    time.sleep(part)
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(10)
            while sock.recv(65536):
                pass
        self._open.discard(sock)
