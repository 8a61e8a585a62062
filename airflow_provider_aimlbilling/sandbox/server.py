"""
A local billing API to run DAGs against without a key. Standard library only.

On the command line it prints the line that sets the connection, and serves until it is stopped::

    python -m airflow_provider_aimlbilling.sandbox --balance "2.50 USD"

In tests it is a context manager::

    with Sandbox(balance=1_000) as sandbox:
        os.environ["AIRFLOW_CONN_AIMLBILLING_DEFAULT"] = sandbox.connection()
        sandbox.top_up("1 USD")
        sandbox.fail(status=429, retry_after=3, times=2)

It speaks the documented calls for balance, auto top-up, ledger, usage, key and catalogue, refuses a wrong key or a key
of the wrong kind, and answers errors with the vendor's body. While it runs, ``POST /sandbox/top-up?amount=…``,
``/sandbox/spend?amount=…`` and ``/sandbox/set?amount=…`` change the balance; these three are no part of the vendor's
API.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.sandbox.account import PERIODS, Account, BadRequest, WrongKey, etag, iso, to_json

MESSAGES = {
    401: "The API key is missing, expired or invalid.",
    403: "You've run out of credits.",
    404: "No such route.",
    429: "Too many requests.",
}


@dataclass(frozen=True)
class Request:
    """One request that the sandbox saw."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    at: float  # time.monotonic(), seconds


@dataclass
class Fault:
    """
    How to break: the first of reset, body and status that is set decides what is sent.

    :param status: HTTP status to answer with, and the vendor's error body.
    :param message: the error body's message, where it shall not be the usual one.
    :param headers: further headers, such as ``Location``.
    :param retry_after: seconds (or an HTTP date) for the ``Retry-After`` header.
    :param delay: seconds to wait before anything is sent.
    :param body: send these bytes as the answer, with ``status`` or else 200.
    :param cut: send only this many bytes of the body that was announced, then close.
    :param drip: seconds between two bytes of the body.
    :param reset: close the connection hard, without an answer.
    :param times: for how many requests; ``None`` until :meth:`Sandbox.mend`.
    """

    status: int | None = None
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | str | None = None
    delay: float = 0.0
    body: bytes | None = None
    cut: int | None = None
    drip: float = 0.0
    reset: bool = False
    times: int | None = None


class Sandbox:
    """
    The billing API of one account, on a port of this machine.

    :param balance: what the account holds, as :meth:`Amount.parse` reads it.
    :param low_balance_threshold: below it ``lowBalance`` is true.
    :param key: the one API key that is accepted.
    :param port: port to listen on; 0 takes a free one.
    """

    def __init__(
        self, balance: object = 0, *, low_balance_threshold: object = 10_000, key: str = "sandbox-key", port: int = 0
    ) -> None:
        self.account = Account(Amount.parse(balance), Amount.parse(low_balance_threshold), key)
        self.requests: list[Request] = []
        self.connections = 0
        self._fault: Fault | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._serving = False
        self._server = _Server(("127.0.0.1", port), self)

    @property
    def url(self) -> str:
        """Base URL, for the connection's host."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def connection(self, **extra: object) -> str:
        """
        Give the value for an ``AIRFLOW_CONN_…`` variable, as JSON.

        :param extra: ``timeout`` or ``api_version`` for the connection's extra.
        """
        fields = {"conn_type": "aimlbilling", "password": self.key, "host": self.url}
        return json.dumps(fields | ({"extra": extra} if extra else {}))

    @property
    def key(self) -> str:
        """The one regular key that is accepted."""
        return self.account.key

    @key.setter
    def key(self, key: str) -> None:
        self.account.key = key

    @property
    def low_balance_threshold(self) -> Amount:
        """Below it ``lowBalance`` is true."""
        return self.account.low_balance_threshold

    @low_balance_threshold.setter
    def low_balance_threshold(self, amount: object) -> None:
        self.account.low_balance_threshold = Amount.parse(amount)

    @property
    def balance(self) -> Amount:
        """What the account holds."""
        return self.account.balance

    def set_balance(self, amount: object) -> None:
        """Set what the account holds."""
        self.account.set_balance(Amount.parse(amount))

    def top_up(self, amount: object, at: datetime | None = None) -> None:
        """Pay something in, now or at another time."""
        self.account.top_up(Amount.parse(amount), at)

    def spend(self, amount: object, model: str | None = None, at: datetime | None = None) -> None:
        """Charge something for a model, down to nothing, now or at another time."""
        self.account.spend(Amount.parse(amount), model, at)

    def set_key_limit(self, amount: object, period: str = "month") -> None:
        """Limit what the key may spend in a ``day``, ``week``, ``month``, or ``no_reset``; ``None`` for no limit."""
        if period not in PERIODS:
            raise ValueError(f"period is one of {', '.join(PERIODS)}, not {period!r}.")
        self.account.key_limit = None if amount is None else Amount.parse(amount)
        self.account.key_period = period

    def set_auto_top_up(self, threshold: object, amount: object, *, payments_work: bool = True) -> None:
        """Let the account be topped up when it falls below a sum, or let that fail."""
        self.account.auto_top_up = Amount.parse(threshold), Amount.parse(amount)
        self.account.payments_work = payments_work

    def fail(self, **fault: Any) -> None:
        """Break from the next request on, as the parameters of :class:`Fault` say."""
        self._fault = Fault(**fault)

    def recover(self) -> None:
        """Work again."""
        self._fault = None

    def take_fault(self) -> Fault | None:
        """Give the fault for one request, and count it."""
        with self._lock:
            fault = self._fault
            if fault is not None and fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._fault = None
            return fault

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the sandbox."""
        self._stopping.wait(seconds)

    def start(self) -> Sandbox:
        """Serve in the background."""
        self._serving = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._stopping.set()
        if self._serving:
            self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients that time out and go are what a sandbox is for."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.sandbox.connections += 1

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        sandbox = self.server.sandbox
        sandbox.requests.append(Request("GET", self.path, dict(self.headers), time.monotonic()))
        fault = sandbox.take_fault()
        if fault:
            sandbox.pause(fault.delay)
            if fault.reset:
                self._reset()
                return
            if fault.body is not None or fault.status is not None:
                headers = dict(fault.headers)
                if fault.retry_after is not None:
                    headers["Retry-After"] = str(fault.retry_after)
                status = fault.status or 200
                body = self._error_body(status, fault.message) if fault.body is None else fault.body
                self._send(status, body, headers, fault)
                return
        status, body = self._answer()
        if status != 200:
            self._send(status, body)
            return
        if urlsplit(self.path).path != "/v1/models":
            self._send(200, body, fault=fault)
        elif self.headers.get("If-None-Match") == etag(body):
            self._send(304, b"", {"ETag": etag(body)})
        else:
            self._send(200, body, {"ETag": etag(body)}, fault)

    def _answer(self) -> tuple[int, bytes]:
        parts = urlsplit(self.path)
        scheme, _, key = (self.headers.get("Authorization") or "").partition(" ")
        key = key if scheme == "Bearer" else ""
        try:
            answer = self.server.sandbox.account.answer(parts.path, parse_qs(parts.query), key)
        except PermissionError:
            return 401, self._error_body(401)
        except WrongKey as refusal:
            return 403, self._error_body(403, str(refusal))
        except BadRequest as refusal:
            return 400, self._error_body(400, str(refusal))
        return (404, self._error_body(404)) if answer is None else (200, to_json(answer).encode())

    def do_POST(self) -> None:
        sandbox = self.server.sandbox
        parts = urlsplit(self.path)
        change = {
            "/sandbox/set": sandbox.set_balance,
            "/sandbox/top-up": sandbox.top_up,
            "/sandbox/spend": sandbox.spend,
        }.get(parts.path)
        if change is None:
            self._send(404, self._error_body(404))
            return
        try:
            change(parse_qs(parts.query).get("amount", [""])[0])
        except AimlBillingThresholdError as error:
            self._send(400, self._error_body(400, str(error)))
        else:
            self._send(200, to_json(sandbox.account.answer("/v1/billing/balance", {}, sandbox.key)).encode())

    def _error_body(self, status: int, message: str | None = None) -> bytes:
        body = {
            "message": message or MESSAGES.get(status, HTTPStatus(status).phrase),
            "path": self.path,
            "requestId": str(uuid.uuid4()),
            "statusCode": str(status),
            "timestamp": iso(datetime.now(timezone.utc)),
        }
        return json.dumps(body).encode()

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault and fault.cut is not None:
            self.wfile.write(body[: fault.cut])
            self.close_connection = True
        elif fault and fault.drip:
            for start in range(len(body)):
                self.wfile.write(body[start : start + 1])
                self.server.sandbox.pause(fault.drip)
        else:
            self.wfile.write(body)

    def _reset(self) -> None:
        # Lingering for no time makes the close a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def main(argv: list[str] | None = None) -> None:
    """Serve an account until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_aimlbilling.sandbox",
        description="A local AI/ML billing API to try DAGs against, without a key and without money.",
    )
    parser.add_argument("--balance", default="0", help="what the account holds: 5000000, '2.50 USD' (default: 0)")
    parser.add_argument("--low-balance-threshold", default="10000", help="below it lowBalance is true (default: 10000)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    options = parser.parse_args(argv)
    try:
        sandbox = Sandbox(options.balance, low_balance_threshold=options.low_balance_threshold, port=options.port)
    except AimlBillingThresholdError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"cannot listen on port {options.port}: {error.strerror}")
    with sandbox:
        print(f"export AIRFLOW_CONN_AIMLBILLING_DEFAULT='{sandbox.connection()}'", flush=True)
        print(f"# The account holds {sandbox.balance}. To top it up by 1 USD:", flush=True)
        print(f"#   curl -X POST '{sandbox.url}/sandbox/top-up?amount=1USD'", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
