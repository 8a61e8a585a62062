"""HTTP requests with authentication, limits on time and size, and errors that name the cause."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from airflow_provider_aimlbilling import __version__
from airflow_provider_aimlbilling.client.settings import Settings
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingUnavailable

MAX_BODY_BYTES = 1024 * 1024  # a balance takes about 250 bytes, a full page of the ledger about 30,000
MAX_USAGE_BYTES = 16 * MAX_BODY_BYTES  # three months by day and model take some million bytes

# Poll at least once an hour, even if the API asks for a longer wait, so that a gate notices a top-up.
MAX_RETRY_AFTER = 3600.0  # seconds


@dataclass(frozen=True)
class ApiResponse:
    """
    A complete HTTP response.

    :param status: HTTP status.
    :param body: the whole body.
    :param retry_after: seconds that the API asked to wait; ``None`` if it did not say.
    :param etag: the ``ETag`` header; ``None`` if there was none.
    """

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None
    etag: str | None = None


class _BearerAuth(AuthBase):
    """Sets the key on each request. Being an auth object, it also keeps ``requests`` from reading a ``.netrc``."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Never follow a redirect. Even to prepare one, requests would read the whole body without any limit."""


def open_session(settings: Settings) -> requests.Session:
    """Open a session that sends the key with each request and honours proxies and CA bundles of the environment."""
    session = _Session()
    session.auth = _BearerAuth(settings.key)
    session.headers["Content-Type"] = "application/json"
    session.headers["Accept"] = "application/json"
    session.headers["User-Agent"] = f"airflow-provider-aimlbilling/{__version__} {requests.utils.default_user_agent()}"
    # No proxies for plain http, which is for loopback only: a proxy would see the key.
    session.trust_env = settings.base_url.startswith("https://")
    return session


def fetch(
    session: requests.Session,
    settings: Settings,
    url: str,
    params: Mapping[str, str] | None = None,
    *,
    etag: str | None = None,
    max_bytes: int = MAX_BODY_BYTES,
) -> ApiResponse:
    """
    Send one GET request and read the whole response, whatever its status.

    :param session: as :func:`open_session` returned it.
    :param settings: the settings that it was opened with.
    :param url: where to send it.
    :param params: query parameters.
    :param etag: of a response that the caller still has; the API answers 304 if that is still current.
    :param max_bytes: largest body that is accepted, in bytes.
    :raises AimlBillingUnavailable: if there was no complete response in time.
    :raises AimlBillingContractError: if the body is larger than ``max_bytes``.
    """
    try:
        with session.get(
            url,
            params=params,
            headers={"If-None-Match": etag} if etag else None,
            timeout=settings.timeout,
            allow_redirects=False,
            stream=True,
        ) as response:
            body = _read_body(response, settings.timeout, max_bytes)
            return ApiResponse(response.status_code, body, _retry_after(response.raw), response.headers.get("ETag"))
    except (requests.RequestException, HTTPError, OSError) as fault:
        raise AimlBillingUnavailable(
            f"No answer from {settings.base_url}: {_describe(fault)}. The balance is unknown. "
            "If this persists, check the network, the proxy and the connection's host."
        ) from None


def _read_body(response: requests.Response, timeout: float, max_bytes: int) -> bytes:
    """Read the body with a limit on its size and on the total time. The read timeout restarts with every byte."""
    body, deadline = bytearray(), time.monotonic() + timeout
    # In small chunks, because compressed data grows when it is decoded.
    while chunk := response.raw.read1(64 * 1024, decode_content=True):
        body += chunk
        if len(body) > max_bytes:
            if response.status_code == 200:
                raise AimlBillingContractError(
                    f"The response has more than {max_bytes:,} bytes, and this API never sends that much. Check the "
                    "connection's host: something else is answering there."
                )
            break
        if time.monotonic() > deadline:
            raise requests.ReadTimeout("the body arrived too slowly")
    return bytes(body)


def _retry_after(response: Any) -> float | None:
    """Read ``Retry-After`` (seconds or a date) from a urllib3 response, with urllib3's own parser."""
    try:
        seconds = Retry().get_retry_after(response)
    except (HTTPError, ValueError, OverflowError):  # neither seconds nor a date
        return None
    return None if seconds is None else min(float(seconds), MAX_RETRY_AFTER)


_DESCRIPTIONS = {
    "ConnectTimeout": "connecting timed out",
    "ConnectTimeoutError": "connecting timed out",
    "ReadTimeout": "the answer timed out",
    "ReadTimeoutError": "the answer timed out",
    "NameResolutionError": "its name does not resolve",
    "NewConnectionError": "cannot connect",
    "SSLError": "TLS failed (certificate or protocol; a server that speaks plain http on loopback needs http:// in "
    "the host)",
    "ProxyError": "the proxy failed",
    "ProtocolError": "the connection broke off",
    "IncompleteRead": "the connection broke off",
    "ConnectionResetError": "the connection broke off",
}


def _describe(fault: BaseException) -> str:
    """Describe an error without quoting it, because messages of libraries may contain anything."""
    description = _DESCRIPTIONS.get(type(fault).__name__)
    if description:
        return description
    inner = getattr(fault, "reason", None) or (fault.args[0] if fault.args else None)
    return _describe(inner) if isinstance(inner, BaseException) else type(fault).__name__
