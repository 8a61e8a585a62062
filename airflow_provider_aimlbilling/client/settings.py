"""The validated settings of the client: API key, base URL, timeout and API version."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit

from airflow_provider_aimlbilling.exceptions import AimlBillingConnectionError, AimlBillingUnavailable
from airflow_provider_aimlbilling.get_provider_info import CONNECTION_TYPE

DEFAULT_TIMEOUT = 10.0  # seconds
MAX_TIMEOUT = 3600.0  # seconds
EXTRA_FIELDS = ("timeout", "api_version")

_ROUTES = {
    # As the vendor documents them: v1, in credits, on the host named on the "account balance" page; v2, in USD, on the
    # host of the API reference.
    "v1": ("https://billing.aimlapi.com", "/v1/billing/balance"),
    "v2": ("https://api.aimlapi.com", "/v2/billing"),
}
_HOST_EXAMPLE = "write it like https://billing.aimlapi.com, or leave it empty for the vendor's"


class ConnectionLike(Protocol):
    """The attributes of an Airflow connection that :class:`Settings` reads."""

    conn_id: str
    conn_type: Any
    host: Any
    schema: Any
    login: Any
    password: Any
    port: Any
    extra: Any


class NotCopyable:
    """Mixed into whatever holds the API key: it cannot be pickled or copied, so the key stays where it is."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds the API key, so it cannot be pickled or copied.")


@dataclass(frozen=True)
class Settings(NotCopyable):
    """
    The settings of a client. They are validated on creation.

    :param key: the API key; ``None`` for none, which only the catalogue accepts.
    :param base_url: scheme, host and port; empty for the vendor's. ``https://`` is added if there is no scheme; plain
        ``http://`` is accepted for loopback addresses only.
    :param timeout: seconds that one request may take, from the name lookup to the last byte; above 0, up to 3600.
    :param api_version: ``v1`` (balance in credits, all fields) or ``v2`` (balance in USD).
    :param conn_id: id of the Airflow connection that the settings come from, for error messages.
    :raises AimlBillingConnectionError: naming the field that is invalid and how to fix it.
    """

    key: str | None = field(repr=False)
    base_url: str = ""
    timeout: float = DEFAULT_TIMEOUT
    api_version: str = "v1"
    conn_id: str = ""

    def __post_init__(self) -> None:
        if self.api_version not in _ROUTES:
            raise connection_error(
                self.conn_id, f"api_version is {shown_value(self.api_version)}; set it to 'v1' or 'v2'"
            )
        self._check_key()
        base_url = _normalized_url(self.base_url, None, self.conn_id) or _ROUTES[self.api_version][0]
        object.__setattr__(self, "base_url", base_url)
        object.__setattr__(self, "timeout", self._checked_timeout())

    @classmethod
    def from_connection(cls, connection: ConnectionLike) -> Settings:
        """
        Read and check an Airflow connection.

        :param connection: the connection.
        :raises AimlBillingConnectionError: naming the field that is invalid and how to fix it.
        """
        conn_id = connection.conn_id
        # The password of any other connection is not a key of this API and must not be sent to it.
        if connection.conn_type not in (None, "", CONNECTION_TYPE):
            raise connection_error(
                conn_id,
                f"its type is {shown_value(connection.conn_type)}, so its password is not sent anywhere. "
                f"Name a connection of type {CONNECTION_TYPE!r}, or set the type of this one",
            )
        extra = parse_extra(connection)
        if not (connection.password or "").strip():
            hint = "; it is in the login, move it" if connection.login else ""
            raise connection_error(conn_id, f"it has no API key. Put the key into its password{hint}")
        if connection.schema:
            raise connection_error(
                conn_id,
                "it has a schema (the path, if it was written as a URI), which has no meaning here; "
                "put only the base URL into its host",
            )
        timeout = extra.get("timeout")
        return cls(
            key=connection.password,
            base_url=_normalized_url(connection.host or "", connection.port, conn_id),
            timeout=DEFAULT_TIMEOUT if timeout is None or timeout == "" else timeout,
            api_version=str(extra.get("api_version") or "v1"),
            conn_id=conn_id,
        )

    @property
    def balance_url(self) -> str:
        """The URL that the balance is read from."""
        return self.base_url + _ROUTES[self.api_version][1]

    def url_for(self, path: str) -> str:
        """
        Return the URL of any other endpoint.

        The vendor's billing host serves only the v1 balance. All other endpoints are on the main host of the API.
        """
        return (_ROUTES["v2"][0] if self.base_url == _ROUTES["v1"][0] else self.base_url) + path

    def _check_key(self) -> None:
        if (key := self.key) is None:
            return
        if not isinstance(key, str) or not key:
            raise connection_error(self.conn_id, "it has no API key")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise connection_error(
                self.conn_id,
                "the API key in its password contains whitespace, a line break or a character that no key has. "
                "Paste the key again, without anything before, inside or after it",
            )

    def _checked_timeout(self) -> float:
        seconds, value = math.nan, self.timeout
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                seconds = float(value)
            except (ValueError, OverflowError):
                pass
        if not 0 < seconds <= MAX_TIMEOUT:
            raise connection_error(
                self.conn_id,
                f"its timeout is {shown_value(value)}; "
                f"set it to a number of seconds above 0 and up to {MAX_TIMEOUT:.0f}",
            )
        return seconds


def parse_extra(connection: ConnectionLike) -> dict[str, Any]:
    """
    Read the connection's extra.

    :param connection: the connection.
    :raises AimlBillingConnectionError: if it is not a JSON object.
    """
    # Not extra_dejson, for two reasons: it masks values with a call that is not allowed in a trigger's event loop, and
    # it turns invalid JSON into an empty dictionary. Our extra fields are not secret.
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise connection_error(
            connection.conn_id,
            'its extra is not a JSON object; write it like {"timeout": 10, "api_version": "v1"}',
        )
    return extra


def connection_error(conn_id: str, what: str) -> AimlBillingConnectionError:
    """Return the error that says which connection is invalid and why."""
    subject = f"The Airflow connection {conn_id!r}" if conn_id else "The configuration of the client"
    return AimlBillingConnectionError(f"{subject} is invalid: {what}.")


def missing_connection_error(conn_id: str, reason: str = "") -> AimlBillingConnectionError:
    """
    Return the error for a connection that Airflow does not find.

    :param conn_id: id of the connection.
    :param reason: what the look-up ended with, if that was not just "not found".
    """
    variable = f"AIRFLOW_CONN_{str(conn_id).upper()}"
    if reason:
        error = AimlBillingConnectionError(
            f"Airflow cannot look up the connection {conn_id!r} ({reason}): check the secrets backend."
        )
    elif variable in os.environ:
        error = AimlBillingConnectionError(
            f"Airflow cannot read the connection {conn_id!r}: the environment variable {variable} is not valid JSON or "
            "a valid URI. In a URI the key must be URL-encoded; in JSON it is the password."
        )
    else:
        error = AimlBillingConnectionError(
            f"Airflow has no connection {conn_id!r}, or cannot read it. Add one of type {CONNECTION_TYPE!r} with the "
            f"API key as its password, under Admin > Connections or as the environment variable {variable}."
        )
    error.missing = True
    return error


def unreachable_connection_error(conn_id: str, reason: str = "not found") -> AimlBillingUnavailable:
    """
    Return the error for a connection that was found before, and is more likely out of reach than gone.

    :param conn_id: id of the connection.
    :param reason: what the look-up ended with.
    """
    return AimlBillingUnavailable(
        f"The connection {conn_id!r} was found before, but cannot be looked up now ({reason}). The balance is unknown. "
        "If this persists, check the secrets backend."
    )


def _normalized_url(host: str, port: int | None, conn_id: str) -> str:
    """
    Check a base URL and return its scheme, host name and port; an empty text stands for the vendor's host.

    :param host: as it was entered, with or without a scheme.
    :param port: port of the connection, used if the host does not contain one.
    :param conn_id: for the error.
    """
    url = host.strip().rstrip("/")
    if not url:
        if port:
            raise connection_error(
                conn_id, "it has a port but no host; put the base URL into its host, or clear the port"
            )
        return ""
    scheme, separator, rest = url.rpartition("://")
    url = f"{scheme if separator else 'https'}://{_with_brackets(rest)}"
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port or port
    except ValueError:
        raise connection_error(conn_id, f"its host is not a URL; {_HOST_EXAMPLE}") from None
    if parts.username is not None or parts.password is not None:
        raise connection_error(conn_id, f"its host contains a user name or password; {_HOST_EXAMPLE}")
    if parts.path or parts.query or parts.fragment:
        raise connection_error(conn_id, f"its host has more than scheme, name and port; {_HOST_EXAMPLE}")
    if "." not in name and len(name) >= 16 and sum(map(str.isdigit, name)) >= 4 and ":" not in name:
        raise connection_error(
            conn_id, f"its host looks like an API key, which belongs into the password; {_HOST_EXAMPLE}"
        )
    if not name or not url.isascii() or not url.isprintable() or " " in url:
        raise connection_error(conn_id, f"its host is not a URL; {_HOST_EXAMPLE}")
    if parts.scheme not in ("https", "http"):
        raise connection_error(conn_id, f"its host has the scheme {shown_value(parts.scheme)}; {_HOST_EXAMPLE}")
    if parts.scheme == "http" and not _is_loopback(name):
        raise connection_error(
            conn_id,
            "its host is plain http, which would send the API key unencrypted; use https:// "
            "(http:// is for loopback addresses only)",
        )
    if ":" in name:
        name = f"[{name}]"
    return f"{parts.scheme}://{name}:{port}" if port else f"{parts.scheme}://{name}"


def _with_brackets(host: str) -> str:
    """Return a bare IPv6 address in brackets. Airflow drops them when it reads a connection from a URI."""
    try:
        return f"[{host.replace('%', '%25')}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host


def shown_value(value: object) -> str:
    """Return a value for an error message; not if the API key may have been typed into the wrong field."""
    text = str(value)
    return repr(text) if len(text) <= 8 or re.fullmatch("[A-Za-z_]{1,24}", text) else "something else"


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
