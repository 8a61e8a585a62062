"""HTTP requests with authentication, limits on time and size, and errors that name the cause."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from airflow_provider_aimlbilling import __version__
from airflow_provider_aimlbilling.client.limits import CallLimits, LimitedAdapter
from airflow_provider_aimlbilling.client.settings import MAX_TIMEOUT, NotCopyable, Settings, connection_error
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingUnavailable

MAX_BODY_BYTES = 1024 * 1024  # a balance takes about 250 bytes, a full page of the ledger about 30,000
MAX_USAGE_BYTES = 16 * MAX_BODY_BYTES  # three months by day and model take some million bytes

# Poll at least once an hour, even if the API asks for a longer wait, so that a gate notices a top-up.
MAX_RETRY_AFTER = 3600.0  # seconds


# Seconds after which an idle connection is not used again. Some firewalls and load balancers drop them after a minute.
MAX_IDLE_TIME = 50.0

# What no waiting can fix.
_UNUSABLE_SETTINGS = (
    requests.exceptions.InvalidProxyURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
)


@dataclass(frozen=True)
class ApiResponse:
    """
    A complete HTTP response.

    :param status: HTTP status.
    :param body: the whole body.
    :param retry_after: seconds that the API asked to wait; ``None`` if it did not say.
    :param origin: scheme, host and port that it came from.
    :param etag: the ``ETag`` header; ``None`` if there was none.
    :param date: the ``Date`` header, in UTC and whole seconds; ``None`` if there was none.
    """

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None
    origin: str
    etag: str | None = None
    date: datetime | None = None


class _BearerAuth(NotCopyable, AuthBase):
    """
    Sets the key, if there is one, on each request.

    Being an auth object, it also keeps ``requests`` from reading a ``.netrc``.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Session(NotCopyable, requests.Session):
    """A session that sends the key with each request. Each call has limits: see :class:`CallLimits`."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = CallLimits()
        self._used_at = time.monotonic()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # a server could let them grow forever
        for scheme in ("http://", "https://"):
            self.mount(scheme, LimitedAdapter(self.limits))

    def drop_idle_connection(self) -> None:
        """Close a connection that has been idle for long: a firewall may have dropped it without a word."""
        now = time.monotonic()
        if now - self._used_at > MAX_IDLE_TIME:
            for adapter in self.adapters.values():
                adapter.close()
        self._used_at = now

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Never follow a redirect. Even to prepare one, requests would read the whole body."""

    def close(self) -> None:
        """Close the session, and end a call that is running in another thread."""
        self.limits.abort()
        super().close()


def open_session(settings: Settings) -> Session:
    """
    Open a session that honours the proxies and CA bundles of the environment.

    :raises AimlBillingConnectionError: if the environment names a CA bundle that does not exist.
    """
    session = Session()
    session.auth = _BearerAuth(settings.key)
    session.headers["Content-Type"] = "application/json"
    session.headers["Accept"] = "application/json"
    # Compressed bodies can grow to gigabytes, even within urllib3 before 2.6. All answers of this API are small.
    session.headers["Accept-Encoding"] = "identity"
    session.headers["User-Agent"] = f"airflow-provider-aimlbilling/{__version__} {requests.utils.default_user_agent()}"
    # No proxies for plain http, which is for loopback only: a proxy would see the key.
    session.trust_env = settings.base_url.startswith("https://")
    if session.trust_env:
        _check_ca_bundle(settings)
    return session


def _check_ca_bundle(settings: Settings) -> None:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if (path := os.environ.get(variable)) and not Path(path).exists():
            raise connection_error(
                settings.conn_id,
                f"the environment variable {variable} of this machine names a CA bundle that does not exist. Fix it",
            )


def fetch(
    session: Session,
    settings: Settings,
    url: str,
    params: Mapping[str, str] | None = None,
    *,
    etag: str | None = None,
    max_bytes: int = MAX_BODY_BYTES,
    max_seconds: float = MAX_TIMEOUT,
) -> ApiResponse:
    """
    Send one GET request and read the whole response, whatever its status.

    :param session: as :func:`open_session` returned it.
    :param settings: the settings that it was opened with.
    :param url: where to send it.
    :param params: query parameters.
    :param etag: of a response that the caller still has; the API answers 304 if that is still current.
    :param max_bytes: largest body that is accepted, in bytes.
    :param max_seconds: that the call may take, if that is less than the settings' timeout.
    :raises AimlBillingUnavailable: if there was no complete response in time.
    :raises AimlBillingConnectionError: if no request can be sent with the proxies or CA bundles of the environment.
    :raises AimlBillingContractError: if the body is larger than ``max_bytes``.
    """
    seconds = min(settings.timeout, max_seconds)
    if seconds <= 0:
        raise AimlBillingUnavailable("There was no time left for another request.")
    headers = {"If-None-Match": etag} if etag else None
    session.drop_idle_connection()
    try:
        with session.limits.apply(seconds, max_bytes):
            try:
                return _get(session, url, params, headers, max_bytes)
            except requests.ConnectionError:
                if session.limits.connected:
                    raise
                # The server, or a firewall, has closed the connection that was kept from an earlier request.
                return _get(session, url, params, headers, max_bytes)
    except _UNUSABLE_SETTINGS as error:
        unusable = type(error).__name__
    except (requests.RequestException, HTTPError, OSError) as error:
        unusable, cause = "", _describe(error)
    if unusable:
        raise connection_error(
            settings.conn_id,
            f"no request can be sent with the proxy of this machine's environment ({unusable}). Correct HTTPS_PROXY",
        )
    # Raised here, because the error above would otherwise be its context, and has the request with the key.
    raise AimlBillingUnavailable(
        f"No answer from {_origin(url)}: {cause}. "
        f"If this persists, check the network, the proxy and the {'connection' if settings.conn_id else 'base URL'}."
    )


def _get(session: Session, url: str, params: Any, headers: Any, max_bytes: int) -> ApiResponse:
    with session.get(
        url,
        params=params,
        headers=headers,
        timeout=session.limits.seconds_left(),
        allow_redirects=False,
        stream=True,
    ) as response:
        body = _read_body(response, max_bytes)
        return ApiResponse(
            response.status_code, body, _retry_after(response.raw), _origin(url), _etag(response), _date(response)
        )


def _read_body(response: requests.Response, max_bytes: int) -> bytes:
    if (encoding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise requests.exceptions.ContentDecodingError(f"the body has the encoding {encoding[:20]!r}")
    body = bytearray()
    while chunk := response.raw.read1(64 * 1024, decode_content=False):
        body += chunk
        if len(body) > max_bytes:
            if response.status_code == 200:
                raise AimlBillingContractError(
                    f"The response has more than {max_bytes:,} bytes, and this API never sends that much. Check the "
                    "connection's host: something else is answering there."
                )
            break
    return bytes(body)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _etag(response: requests.Response) -> str | None:
    """Return the ``ETag`` header if it can be sent back."""
    etag: str = response.headers.get("ETag", "")
    return etag if re.fullmatch(r'(?:W/)?"[!#-~]{0,256}"', etag) else None


def _date(response: requests.Response) -> datetime | None:
    """Return the ``Date`` header; ``None`` if it is missing or not a date."""
    try:
        return parsedate_to_datetime(response.headers.get("Date", "")).astimezone(timezone.utc)
    except (TypeError, ValueError, OverflowError):
        return None


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
    "ContentDecodingError": "it sent a compressed body, which was not asked for",
    "TimeoutError": "the answer timed out",
    "ConnectionResetError": "the connection broke off",
}


def _describe(fault: BaseException) -> str:
    """Describe an error without quoting it, because messages of libraries may contain anything."""
    description = _DESCRIPTIONS.get(type(fault).__name__)
    if description:
        return description
    inner = getattr(fault, "reason", None) or (fault.args[0] if fault.args else None)
    return _describe(inner) if isinstance(inner, BaseException) else type(fault).__name__
