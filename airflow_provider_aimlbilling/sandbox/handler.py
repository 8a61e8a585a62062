"""The HTTP side of the sandbox: reads requests, and sends responses or what a fault makes of them."""

from __future__ import annotations

import json
import socket
import struct
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.sandbox.chat import complete_chat
from airflow_provider_aimlbilling.sandbox.encoding import etag, iso_time, to_json
from airflow_provider_aimlbilling.sandbox.errors import RefusalError
from airflow_provider_aimlbilling.sandbox.faults import Fault
from airflow_provider_aimlbilling.sandbox.routes import balance_v1, check_key, respond

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.sandbox.server import Sandbox

MESSAGES = {
    401: "The API key is missing, expired or invalid.",
    403: "You've run out of credits.",
    404: "No such route.",
    429: "Too many requests.",
}


@dataclass(frozen=True)
class Request:
    """One request that the sandbox received."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    at: float  # time.monotonic(), seconds


class Server(ThreadingHTTPServer):
    """A server that answers each connection in a thread of its own."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        super().__init__(address, Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: clients that time out and leave are what a sandbox is for."""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Count the connection."""
        super().setup()
        self.server.sandbox.connections += 1

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        """Answer as the vendor's API does, unless a fault is set."""
        fault = self._receive()
        if fault and self._fails(fault):
            return
        status, body, _ = self._response()
        if status != 200 or urlsplit(self.path).path != "/v1/models":
            self._send(status, body, fault=fault if status == 200 else None)
        elif self.headers.get("If-None-Match") == etag(body):
            self._send(304, b"", {"ETag": etag(body)})
        else:
            self._send(200, body, {"ETag": etag(body)}, fault)

    def do_POST(self) -> None:
        """Complete a chat; or change the balance, with routes that are not part of the vendor's API."""
        sandbox = self.server.sandbox
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if parts.path == "/v1/chat/completions":
            fault = self._receive()
            if not (fault and self._fails(fault)):
                status, body, headers = self._response(content)
                self._send(status, body, headers, fault if status == 200 else None)
            return
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
            self._send(200, to_json(balance_v1(sandbox.account, {})).encode())

    def _receive(self) -> Fault | None:
        """Record the request, and return the fault that is set for it, after its delay."""
        sandbox = self.server.sandbox
        sandbox.requests.append(Request(self.command, self.path, dict(self.headers), time.monotonic()))
        fault = sandbox.take_fault()
        if fault:
            sandbox.pause(fault.delay)
        return fault

    def _fails(self, fault: Fault) -> bool:
        """Send what the fault makes of the response; return whether that is all there is to send."""
        if fault.reset:
            self._reset()
        elif fault.body is not None or fault.status is not None:
            self._send_fault(fault)
        else:
            return False
        return True

    def _response(self, content: bytes | None = None) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers. Only a chat has a body, ``content``."""
        account = self.server.sandbox.account
        parts = urlsplit(self.path)
        scheme, _, key = (self.headers.get("Authorization") or "").partition(" ")
        key = key if scheme == "Bearer" else ""
        headers: dict[str, str] = {}
        try:
            if content is None:
                answer = respond(account, parts.path, parse_qs(parts.query), key)
            else:
                check_key(account, parts.path, key)
                answer, headers = complete_chat(account, content, self.headers.get("X-Client-Request-Id"))
        except RefusalError as refusal:
            return refusal.status, self._error_body(refusal.status, str(refusal)), {}
        return 200, to_json(answer).encode(), headers

    def _error_body(self, status: int, message: str | None = None) -> bytes:
        body = {
            "message": message or MESSAGES.get(status, HTTPStatus(status).phrase),
            "path": self.path,
            "requestId": str(uuid.uuid4()),
            "statusCode": str(status),
            "timestamp": iso_time(datetime.now(timezone.utc)),
        }
        return json.dumps(body).encode()

    def _send_fault(self, fault: Fault) -> None:
        headers = dict(fault.headers)
        if fault.retry_after is not None:
            headers["Retry-After"] = str(fault.retry_after)
        status = fault.status or 200
        body = self._error_body(status, fault.message) if fault.body is None else fault.body
        self._send(status, body, headers, fault)

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
        # With a linger time of zero, closing the socket sends a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
