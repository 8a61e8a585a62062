"""
One deadline and one size for a whole HTTP call, whatever the server does.

The timeouts of ``requests`` start over with each byte and do not cover the name lookup. A server that sends one byte a
second, in the status line, a header, a chunk size or the body, could hold a call for hours. Here every read of the
socket gets only the time that the call has left, and counts its bytes. That needs no watchdog and, except for the
lookup of a host name, no thread.
"""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from functools import partial
from http.client import HTTPResponse
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

# Bytes that status line, headers, chunk sizes and trailers may take, besides the body.
MAX_FRAMING_BYTES = 256 * 1024


class CallLimits:
    """What the current call may still take. A session makes one call at a time, so it needs one of these."""

    def __init__(self) -> None:
        self.active = False
        self.connected = False  # whether the current call has opened a connection
        self.sock: Any = None  # the latest one that was connected
        self._deadline = 0.0  # by time.monotonic()
        self._bytes_left = 0

    @contextmanager
    def apply(self, seconds: float, max_bytes: int) -> Iterator[None]:
        """
        Limit the calls that are made in this block. Calls outside have only the timeouts of ``requests``.

        :param seconds: time from the name lookup to the last byte.
        :param max_bytes: size of the body.
        """
        self.active, self.connected = True, False
        self._deadline = time.monotonic() + seconds
        self._bytes_left = max_bytes + MAX_FRAMING_BYTES
        try:
            yield
        finally:
            self.active = False

    def abort(self) -> None:
        """End the call that another thread is making, so that it gives its thread back now and not at the deadline."""
        self._deadline = 0.0
        try:
            # Not the method of a TLS socket, which would also change its state under the other thread.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        except (OSError, TypeError):  # closed, or there is none
            pass

    def seconds_left(self) -> float:
        """
        Return how long the call may still take.

        :raises TimeoutError: if its time is over.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the call has reached its deadline")
        return left

    def limit_next(self, sock: Any) -> None:
        """Let the next operation of a socket take only the time that is left."""
        if self.active:
            sock.settimeout(self.seconds_left())

    def count(self, received: int) -> None:
        """
        Count what was received.

        :raises OSError: if it is more than the call may receive.
        """
        self._bytes_left -= received
        if self.active and self._bytes_left < 0:
            raise OSError("the server sends more than this API ever does")


class _LimitedReader(io.RawIOBase):
    def __init__(self, sock: Any, limits: CallLimits) -> None:
        self._sock = sock
        self._limits = limits
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._limits.limit_next(self._sock)
        received: int | None = self._raw.readinto(buffer)
        self._limits.count(received or 0)
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()


class _LimitedSocket:
    """A connected socket, plain or with TLS, as ``http.client`` uses it."""

    def __init__(self, sock: Any, limits: CallLimits) -> None:
        self._sock = sock
        self._limits = limits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: Any) -> None:
        self._limits.limit_next(self._sock)
        self._sock.sendall(data)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_LimitedReader(self._sock, self._limits))


class _QuietResponse(HTTPResponse):
    """A response whose invalid headers are ignored. urllib3 would log a warning with their text for each of them."""

    def begin(self) -> None:
        super().begin()
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Limited:
    """Mixed into urllib3's connections: they connect, open tunnels, send and receive within the limits of the call."""

    limits: CallLimits
    response_class: Any = _QuietResponse
    sock: Any

    def _new_conn(self: Any) -> Any:
        self.limits.connected = True
        if not self.limits.active:
            return super()._new_conn()  # type: ignore[misc]
        try:
            return _connect(self._dns_host, self.port, self.limits, self.socket_options, self.source_address)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from None
        except TimeoutError:
            raise ConnectTimeoutError(self, "connecting timed out") from None
        except OSError:
            raise NewConnectionError(self, "cannot connect") from None

    def _tunnel(self: Any) -> None:
        plain = self.sock
        self.sock = _LimitedSocket(plain, self.limits)
        super()._tunnel()  # type: ignore[misc]
        self.sock = plain  # TLS needs the socket itself; its handshake keeps to the timeout that is set here
        self.limits.limit_next(plain)

    def connect(self: Any) -> None:
        super().connect()  # type: ignore[misc]
        self.limits.sock = self.sock
        self.sock = _LimitedSocket(self.sock, self.limits)


class _HTTPConnection(_Limited, HTTPConnection):
    pass


class _HTTPSConnection(_Limited, HTTPSConnection):
    pass


class LimitedAdapter(HTTPAdapter):
    """
    Makes the connections of a session keep to limits. Not those through a SOCKS proxy, which have none.

    :param limits: of the session.
    """

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool that a request takes its connection from. ``requests`` calls this for each request."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        limited = {HTTPConnection: _HTTPConnection, HTTPSConnection: _HTTPSConnection}.get(pool.ConnectionCls)
        if limited is not None:
            pool.ConnectionCls = partial(_create, limited, self._limits)
        return pool


def _create(connection_class: type, limits: CallLimits, **kwargs: Any) -> Any:
    connection = connection_class(**kwargs)
    connection.limits = limits
    return connection


def _connect(host: str, port: int, limits: CallLimits, options: Any, source_address: Any) -> socket.socket:
    """Connect to the first address of a host that accepts. Each gets an equal part of the time that is left."""
    addresses = _resolve(host, port, limits)
    error: OSError = OSError("the host has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            for option in options or ():
                sock.setsockopt(*option)
            if source_address:
                sock.bind(source_address)
            sock.settimeout(limits.seconds_left() / (len(addresses) - number))
            sock.connect(address)
            sock.settimeout(limits.seconds_left())
        except OSError as failure:
            sock.close()
            error = failure
        else:
            return sock
    raise error


# Lookups that are under way. They cannot be ended, so all calls for a host share one: a resolver that hangs holds one
# thread for a host, until it gives up.
_lookups: dict[tuple[str, int], Future[Any]] = {}
_lookups_lock = threading.Lock()


def _resolve(host: str, port: int, limits: CallLimits) -> list[Any]:
    lookup = partial(socket.getaddrinfo, host, port, allowed_gai_family(), socket.SOCK_STREAM)
    try:
        return lookup(flags=socket.AI_NUMERICHOST)
    except socket.gaierror:  # it is a name
        pass
    with _lookups_lock:
        future = _lookups.get((host, port))
        if future is None:
            future = _lookups[host, port] = Future()
            threading.Thread(target=_look_up, args=(lookup, (host, port), future), daemon=True).start()
    try:
        found: list[Any] = future.result(limits.seconds_left())
    except FutureTimeoutError:
        raise TimeoutError("the lookup of the host's name took too long") from None
    return found


def _look_up(lookup: Any, key: tuple[str, int], future: Future[Any]) -> None:
    try:
        result, error = lookup(), None
    except BaseException as failure:  # noqa: BLE001 - raised in the threads that wait
        result, error = None, failure
    with _lookups_lock:
        _lookups.pop(key, None)
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _forget_lookups() -> None:
    """Start over in a forked process, which has none of its parent's threads."""
    global _lookups_lock  # noqa: PLW0603
    _lookups_lock = threading.Lock()
    _lookups.clear()


os.register_at_fork(after_in_child=_forget_lookups)
