"""What an Airflow connection of type ``aimlbilling`` says, read and checked. No network."""

from __future__ import annotations

import ipaddress
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_aimlbilling.exceptions import AimlBillingConnectionError
from airflow_provider_aimlbilling.get_provider_info import CONNECTION_TYPE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

DEFAULT_TIMEOUT = 10.0  # seconds
MAX_TIMEOUT = 3600.0  # seconds
EXTRAS = ("timeout", "api_version")

_ROUTES = {
    # As documented: v1 in credits, on the host of the vendor's "account balance" page; v2 in USD, on the host of the
    # API reference.
    "v1": ("https://billing.aimlapi.com", "/v1/billing/balance"),
    "v2": ("https://api.aimlapi.com", "/v2/billing"),
}


@dataclass(frozen=True)
class Settings:
    """What a connection says, checked. ``timeout`` is in seconds."""

    conn_id: str
    key: str = field(repr=False)
    base_url: str
    timeout: float
    api_version: str

    @classmethod
    def from_connection(cls, connection: Connection) -> Settings:
        """
        Read and check a connection.

        :raises AimlBillingConnectionError: naming the field that is wrong and how to mend it.
        """
        # Whatever else a connection is for, its password is no key of this API, and must not be sent to it.
        if connection.conn_type not in (None, "", CONNECTION_TYPE):
            raise wrong(
                connection,
                f"it is of type {connection.conn_type[:40]!r}, so its password is sent nowhere. "
                f"Name a connection of type {CONNECTION_TYPE!r}, or set the type of this one",
            )
        extra = read_extra(connection)
        api_version = str(extra.get("api_version") or "v1")
        if api_version not in _ROUTES:
            raise wrong(connection, f"api_version in its extra is {api_version[:20]!r}; set it to 'v1' or 'v2'")
        return cls(
            conn_id=connection.conn_id,
            key=_key(connection),
            base_url=_base_url(connection) or _ROUTES[api_version][0],
            timeout=_timeout(connection, extra.get("timeout")),
            api_version=api_version,
        )

    @property
    def url(self) -> str:
        """Where the balance is asked for."""
        return self.base_url + _ROUTES[self.api_version][1]

    def url_of(self, path: str) -> str:
        """Say where anything else is asked for. The host that the vendor names for v1 of the balance has that alone."""
        return (_ROUTES["v2"][0] if self.base_url == _ROUTES["v1"][0] else self.base_url) + path


def wrong(connection: Connection, what: str) -> AimlBillingConnectionError:
    """Give the error that says which connection is wrong, and in what."""
    return AimlBillingConnectionError(f"The Airflow connection {connection.conn_id!r} is wrong: {what}.")


def read_extra(connection: Connection) -> dict[str, Any]:
    """
    Read the connection's extra.

    :raises AimlBillingConnectionError: if it is no JSON object.
    """
    # Not extra_dejson: it masks its values by a call that must not be made from a trigger's event loop, and it turns
    # broken JSON into an empty dictionary. Neither of our extras is secret.
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise wrong(connection, 'its extra is no JSON object; write it like {"timeout": 10, "api_version": "v1"}')
    return extra


def _key(connection: Connection) -> str:
    key = (connection.password or "").strip()
    if not key:
        where = "; it stands in the login, move it" if connection.login else ""
        raise wrong(connection, f"it has no API key. Put the key into its password{where}")
    if key != connection.password or not key.isascii() or not key.isprintable() or " " in key:
        raise wrong(
            connection,
            "the API key in its password holds white space, a line break or a character that no key has. "
            "Paste the key again, without anything before, in or after it",
        )
    return key


def _base_url(connection: Connection) -> str:
    host = (connection.host or "").strip().rstrip("/")
    if connection.schema:
        raise wrong(
            connection,
            "it has a schema (the path, when it was written as a URI), which has no meaning here; "
            "put the base URL alone into its host",
        )
    if not host:
        if connection.port:
            raise wrong(connection, "it has a port but no host; put the base URL into its host, or empty the port")
        return ""
    example = "write it like https://billing.aimlapi.com, or leave it empty for the vendor's"
    try:
        parts = urlsplit(host if "://" in host else f"https://{host}")
        name, port = parts.hostname or "", parts.port or connection.port
    except ValueError:
        raise wrong(connection, f"its host is no URL; {example}") from None
    if parts.username is not None or parts.password is not None:
        raise wrong(connection, f"its host holds a user name or password; {example}")
    if parts.path or parts.query or parts.fragment:
        raise wrong(connection, f"its host holds more than scheme, name and port; {example}")
    if not name or not host.isascii() or not host.isprintable() or " " in host:
        raise wrong(connection, f"its host is no URL; {example}")
    if parts.scheme not in ("https", "http"):
        raise wrong(connection, f"its host has the scheme {parts.scheme[:20]!r}; {example}")
    if parts.scheme == "http" and not _is_loopback(name):
        raise wrong(
            connection,
            "its host is plain http, which would send the API key in clear; use https:// "
            "(http:// is for loopback addresses only)",
        )
    if ":" in name:
        name = f"[{name}]"
    return f"{parts.scheme}://{name}:{port}" if port else f"{parts.scheme}://{name}"


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _timeout(connection: Connection, value: object) -> float:
    if value is None or value == "":
        return DEFAULT_TIMEOUT
    seconds = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except (ValueError, OverflowError):
            pass
    if not 0 < seconds <= MAX_TIMEOUT:
        raise wrong(
            connection,
            f"timeout in its extra is {str(value)[:20]!r}; "
            f"set it to a number of seconds above 0 and up to {MAX_TIMEOUT:.0f}",
        )
    return seconds
