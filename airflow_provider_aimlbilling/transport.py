"""HTTP as this provider wants it: authenticated, with an end to its time and size, and faults named. No Airflow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from airflow_provider_aimlbilling import __version__
from airflow_provider_aimlbilling.answers import Answer
from airflow_provider_aimlbilling.connection import Settings
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingUnavailable

MAX_BODY = 1024 * 1024  # bytes; a balance has some 250, a full page of the ledger some 30,000
MAX_USAGE = 16 * MAX_BODY  # three months by day and model are some millions

# However long the API asks to wait, one look an hour keeps a gate from sleeping through a top-up.
LONGEST_RETRY_AFTER = 3600.0  # seconds


class _BearerAuth(AuthBase):
    """Sets the key on each request. As an auth object it also keeps ``requests`` from looking into a ``.netrc``."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """No redirect is followed. Even to prepare one, requests would read the whole body, however long that takes."""


def open_session(settings: Settings) -> requests.Session:
    """Make the session: the key on each request, and the proxies and CA bundles of the environment."""
    session = _Session()
    session.auth = _BearerAuth(settings.key)
    session.headers["Content-Type"] = "application/json"
    session.headers["Accept"] = "application/json"
    session.headers["User-Agent"] = f"airflow-provider-aimlbilling/{__version__} {requests.utils.default_user_agent()}"
    # Proxies and CA bundles of the environment are honoured, except on loopback: there plain http is allowed, and a
    # proxy would see the key.
    session.trust_env = settings.base_url.startswith("https://")
    return session


def fetch(
    session: requests.Session,
    settings: Settings,
    url: str,
    params: Mapping[str, str] | None = None,
    etag: str | None = None,
    longest: int = MAX_BODY,
) -> Answer:
    """
    Ask once and read all of the answer, whatever its status.

    :param etag: of an answer that the caller still has: 304 then says that it is still the one.
    :param longest: bytes that the body may have.
    :raises AimlBillingUnavailable: if there was no whole answer in time.
    :raises AimlBillingContractError: if it is longer than any answer of this API.
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
            body = _read(response, settings.timeout, longest)
            return Answer(response.status_code, body, _retry_after(response.raw), response.headers.get("ETag"))
    except (requests.RequestException, HTTPError, OSError) as fault:
        raise AimlBillingUnavailable(
            f"No answer from {settings.base_url}: {_cause(fault)}. This says nothing of the balance. "
            "Look at the network, the proxy and the connection's host if it goes on."
        ) from None


def _read(response: requests.Response, timeout: float, longest: int) -> bytes:
    """Read the body, with an end to its size and to its time: the read time-out alone starts anew with each byte."""
    body, deadline = bytearray(), time.monotonic() + timeout
    # In small pieces, since each may be compressed and grow when it is read.
    while chunk := response.raw.read1(64 * 1024, decode_content=True):
        body += chunk
        if len(body) > longest:
            if response.status_code == 200:
                raise AimlBillingContractError(
                    f"The API's answer is longer than {longest:,} bytes, which none of this API is. Look at the "
                    "connection's host: something else answers there."
                )
            break
        if time.monotonic() > deadline:
            raise requests.ReadTimeout("the body came too slowly")
    return bytes(body)


def _retry_after(response: Any) -> float | None:
    """Read ``Retry-After`` of a urllib3 response, seconds or a date, by urllib3's own reader."""
    try:
        seconds = Retry().get_retry_after(response)
    except (HTTPError, ValueError, OverflowError):  # a header that is neither
        return None
    return None if seconds is None else min(float(seconds), LONGEST_RETRY_AFTER)


_CAUSES = {
    "ConnectTimeout": "connecting timed out",
    "ConnectTimeoutError": "connecting timed out",
    "ReadTimeout": "the answer timed out",
    "ReadTimeoutError": "the answer timed out",
    "NameResolutionError": "its name does not resolve",
    "NewConnectionError": "cannot connect",
    "SSLError": "TLS failed (certificate or protocol; what speaks plain http on loopback needs http:// in the host)",
    "ProxyError": "the proxy failed",
    "ProtocolError": "the connection broke off",
    "IncompleteRead": "the connection broke off",
    "ConnectionResetError": "the connection broke off",
}


def _cause(fault: BaseException) -> str:
    """Name a fault without quoting it: what libraries put into their texts is not ours to vouch for."""
    cause = _CAUSES.get(type(fault).__name__)
    if cause:
        return cause
    inner = getattr(fault, "reason", None) or (fault.args[0] if fault.args else None)
    return _cause(inner) if isinstance(inner, BaseException) else type(fault).__name__
