"""What the sandbox can do wrong on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Fault:
    """
    How requests fail. If several of ``reset``, ``body`` and ``status`` are set, the first of them counts.

    :param status: HTTP status to respond with, and the vendor's error body.
    :param message: message of that error body; ``None`` for the vendor's own.
    :param headers: further headers, such as ``Location``.
    :param retry_after: seconds (or an HTTP date) for the ``Retry-After`` header.
    :param delay: seconds to wait before anything is sent.
    :param body: bytes to send as the body, with ``status`` or else 200.
    :param cut: number of bytes of the announced body to send before the connection is closed.
    :param drip: seconds between two bytes of the body.
    :param reset: reset the connection without a response.
    :param times: number of requests that fail; ``None`` until :meth:`Sandbox.recover`.
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
