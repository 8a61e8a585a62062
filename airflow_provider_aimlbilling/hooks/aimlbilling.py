"""The one door to the network: from an Airflow connection of type ``aimlbilling`` to a :class:`Balance`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import requests
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, MaxRetryError, ResponseError
from urllib3.util import Retry

from airflow_provider_aimlbilling import __version__
from airflow_provider_aimlbilling.answers import read_v1, read_v2
from airflow_provider_aimlbilling.connection import EXTRAS, Settings, read_extra, wrong
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingConnectionError,
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.get_provider_info import CONNECTION_TYPE, DEFAULT_CONN_ID, connection_form

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_aimlbilling.balance import Balance

MAX_BODY = 1024 * 1024  # bytes; an answer has some 250

# A longer Retry-After is not slept through inside a task; it is handed to whoever waits without holding a worker.
LONGEST_NAP = 30.0  # seconds

# However long the API asks to wait, one look an hour keeps a gate from sleeping through a top-up.
LONGEST_RETRY_AFTER = 3600.0  # seconds

_READERS = {"v1": read_v1, "v2": read_v2}


class AimlBillingHook(BaseHook):
    """
    Read the balance of an AI/ML API account.

    The key is in the connection's password. ``host`` (base URL), and ``timeout`` (seconds) and ``api_version``
    (``v1`` or ``v2``) in its extra, may be set. One hook keeps one session.

    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``.
    :param retries: how often a call that got no believable answer is made again, with exponential backoff, jitter and
        the API's ``Retry-After``. ``0`` for callers that wait and ask again themselves.
    """

    conn_name_attr = "aimlbilling_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONNECTION_TYPE
    hook_name = "AI/ML API billing"

    def __init__(self, aimlbilling_conn_id: str = default_conn_name, *, retries: int = 3) -> None:
        super().__init__()
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.retries = retries
        self._open: tuple[Settings, requests.Session] | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Give the form's extra fields to Airflow before 3.2, from the declaration in the provider info."""
        from wtforms import StringField

        return {
            name: StringField(spec["label"], description=spec["description"])
            for name, spec in connection_form()["conn-fields"].items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Give the form's labels and hidden fields to Airflow before 3.2, from the declaration in the provider info."""
        behaviour: Mapping[str, Any] = connection_form()["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    def get_conn(self) -> requests.Session:
        """
        Give the session, which authenticates every request with the connection's key.

        :raises AimlBillingConnectionError: if the connection is missing or wrong.
        """
        try:
            return self._opened()[1]
        except AimlBillingError as error:
            raise error.with_traceback(None) from None  # as in get_balance

    def _opened(self) -> tuple[Settings, requests.Session]:
        if self._open is not None:
            return self._open
        try:
            connection = self.get_connection(self.aimlbilling_conn_id)
        except AirflowNotFoundException:
            raise self.connection_missing() from None
        return self.use_connection(connection)

    def use_connection(self, connection: Connection) -> tuple[Settings, requests.Session]:
        """
        Go on with what the connection says now. The session is kept as long as that stays the same.

        :param connection: the connection, for callers that had to look it up themselves (triggers).
        :raises AimlBillingConnectionError: if the connection is wrong.
        """
        settings = Settings.from_connection(connection)
        if self._open is None or self._open[0] != settings:
            self.close()
            self._open = settings, _session(settings, self.retries)
        return self._open

    def connection_missing(self) -> AimlBillingConnectionError:
        """Give the error for a connection id that Airflow does not know."""
        variable = f"AIRFLOW_CONN_{str(self.aimlbilling_conn_id).upper()}"
        return AimlBillingConnectionError(
            f"Airflow has no connection {self.aimlbilling_conn_id!r}, or cannot read it. Add one of type "
            f"{CONNECTION_TYPE!r} with the API key as its password, under Admin > Connections or as the environment "
            f"variable {variable}."
        )

    def close(self) -> None:
        """Close the session. The next call opens another."""
        if self._open is not None:
            self._open[1].close()
        self._open = None

    def get_balance(self) -> Balance:
        """
        Ask the API for the balance, in credits.

        v1: ``GET /v1/billing/balance`` (all fields). v2: ``GET /v2/billing`` (USD, turned into credits; the other
        fields are ``None``).

        :raises AimlBillingConnectionError: the connection is missing or wrong.
        :raises AimlBillingAuthError: 401, or 403 for another reason than used-up credits.
        :raises AimlBillingContractError: JSON that is not what the API promises, a redirect, any other status.
        :raises AimlBillingUnavailable: no believable answer, also after the retries.
        :raises InsufficientBalanceError: 403, and the API says that the account is out of credits.
        """
        try:
            return self._ask()
        except AimlBillingError as error:
            # Without the frames below this one: some logs print the locals of each frame, and there the key is a local.
            raise error.with_traceback(None) from None

    def _ask(self) -> Balance:
        settings, session = self._opened()
        try:
            # No redirect is followed: the key goes to the host of the connection and to no other.
            with session.get(settings.url, timeout=settings.timeout, allow_redirects=False, stream=True) as response:
                body = _read(response, settings.timeout)
                if response.status_code != 200:
                    raise _refusal(response, body, settings)
        except (requests.RequestException, HTTPError, OSError) as fault:
            raise AimlBillingUnavailable(
                f"No answer from {settings.base_url}: {_cause(fault)}. This says nothing of the balance. "
                "Look at the network, the proxy and the connection's host if it goes on."
            ) from None
        return _READERS[settings.api_version](body)

    def test_connection(self) -> tuple[bool, str]:
        """Ask for the balance and say what came of it, for the button in the UI and ``airflow connections test``."""
        try:
            connection = self.get_connection(self.aimlbilling_conn_id)
            if unknown := sorted(set(read_extra(connection)) - set(EXTRAS)):
                raise wrong(
                    connection,
                    f"its extra holds {', '.join(map(repr, unknown))[:100]}; "
                    f"only {' and '.join(EXTRAS)} are known: remove it or mend the spelling",
                )
            message = f"The key works. The account holds {self.get_balance().amount}."
        except AirflowNotFoundException:
            return False, str(self.connection_missing())
        except AimlBillingError as error:
            return False, str(error)
        except Exception as error:  # noqa: BLE001
            # Airflow shows this message unmasked, so no text that is not ours gets into it.
            return False, f"The test broke with {type(error).__name__}, which it should not: look for a newer version."
        else:
            # The command line prints no message of a test that succeeds, and turns logging off.
            print(message)
            return True, message
        finally:
            self.close()


class _BearerAuth(AuthBase):
    """Sets the key on each request. As an auth object it also keeps ``requests`` from looking into a ``.netrc``."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class _Retry(Retry):
    """As urllib3 has it, but a ``Retry-After`` longer than a nap ends the tries instead of holding the worker."""

    def increment(
        self,
        method: Any = None,
        url: Any = None,
        response: Any = None,
        error: Any = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> _Retry:
        if response is not None and (_retry_after(response) or 0) > LONGEST_NAP:
            raise MaxRetryError(_pool, url, ResponseError("Retry-After is too long to sleep through"))
        return super().increment(method, url, response, error, _pool, _stacktrace)


def _session(settings: Settings, retries: int) -> requests.Session:
    session = requests.Session()
    session.auth = _BearerAuth(settings.key)
    session.headers["Content-Type"] = "application/json"
    session.headers["Accept"] = "application/json"
    session.headers["User-Agent"] = f"airflow-provider-aimlbilling/{__version__} {requests.utils.default_user_agent()}"
    # Proxies and CA bundles of the environment are honoured, except on loopback: there plain http is allowed, and a
    # proxy would see the key.
    session.trust_env = settings.base_url.startswith("https://")
    retry = _Retry(
        total=retries,
        status_forcelist=(408, 429, 500, 502, 503, 504),
        allowed_methods=("GET",),
        backoff_factor=0.5,
        backoff_jitter=0.5,
        backoff_max=LONGEST_NAP,
        raise_on_status=False,
    )
    session.mount(settings.base_url, HTTPAdapter(max_retries=retry))
    return session


def _read(response: requests.Response, timeout: float) -> bytes:
    """Read the body, with an end to its size and to its time: the read time-out alone starts anew with each byte."""
    body, deadline = b"", time.monotonic() + timeout
    while chunk := response.raw.read1(MAX_BODY + 1 - len(body), decode_content=True):
        body += chunk
        if len(body) > MAX_BODY:
            if response.status_code == 200:
                raise AimlBillingContractError(
                    f"The API's answer is longer than {MAX_BODY:,} bytes, which no balance is. Look at the "
                    "connection's host: something else answers there."
                )
            break
        if time.monotonic() > deadline:
            raise requests.ReadTimeout("the body came too slowly")
    return body


def _refusal(response: requests.Response, body: bytes, settings: Settings) -> AimlBillingError:
    """Turn any status but 200 into the error that says what to do about it."""
    status = response.status_code
    said, message = _vendor_words(body, settings.key)
    where = f"{settings.base_url} answered {status}{said}."
    if status == 401:
        return AimlBillingAuthError(
            f"{where} The key was refused: put a working key into the connection's password (API Key in the form)."
        )
    if status == 403 and "out of credits" in message.lower():
        return InsufficientBalanceError(f"{where} The account is out of credits: top it up.")
    if status == 403:
        return AimlBillingAuthError(
            f"{where} The API key may not do this: use one that may read the balance (a regular key of the account)."
        )
    if status in {408, 429} or status >= 500:
        return AimlBillingUnavailable(
            f"{where} This says nothing of the balance; the call can be made again later.",
            retry_after=_retry_after(response.raw),
            status=status,
        )
    if 300 <= status < 400:
        return AimlBillingContractError(
            f"{where} Redirects are not followed, since they would take the key to another place: "
            "set the connection's host to the base URL that answers itself."
        )
    return AimlBillingContractError(
        f"{where} This route is not what this provider knows: look at the connection's host, "
        "or set api_version in its extra to the other of v1 and v2."
    )


def _vendor_words(body: bytes, key: str) -> tuple[str, str]:
    """Find the vendor's message in an error's body: once with the request id and fit to print, once as it came."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        return "", ""
    message, request_id = (
        text if isinstance(text := answer.get(name), str) else "" for name in ("message", "requestId")
    )
    said = f" ({_without_key(message[:200], key)})" if message else ""
    return said + (f" [requestId {_without_key(request_id[:64], key)}]" if request_id else ""), message


def _without_key(text: str, key: str) -> str:
    """Make text from outside fit to print: one line, nothing unprintable, no run of four characters of the key."""
    text = "".join(char for char in " ".join(text.split()) if char.isprintable())
    hidden = [False] * len(text)
    run = min(4, len(key))
    for start in range(len(text) - run + 1):
        if text[start : start + run] in key:
            hidden[start : start + run] = [True] * run
    return re.sub("\0+", "***", "".join("\0" if hide else char for char, hide in zip(text, hidden, strict=True)))


def _retry_after(response: Any) -> float | None:
    """Read ``Retry-After`` of a urllib3 response, seconds or a date, by urllib3's own reader."""
    try:
        seconds = Retry().get_retry_after(response)
    except HTTPError:  # a header that is neither
        return None
    return None if seconds is None else min(float(seconds), LONGEST_RETRY_AFTER)


_CAUSES = {
    "ConnectTimeout": "connecting timed out",
    "ConnectTimeoutError": "connecting timed out",
    "ReadTimeout": "the answer timed out",
    "ReadTimeoutError": "the answer timed out",
    "NameResolutionError": "its name does not resolve",
    "NewConnectionError": "nobody answers there",
    "SSLError": "TLS failed (certificate or protocol)",
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
