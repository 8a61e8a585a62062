"""Requests with one key: keep the session, find the endpoint's host, raise an error for every status but 200."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from airflow_provider_aimlbilling.client.http import MAX_BODY_BYTES, ApiResponse, Session, fetch, open_session
from airflow_provider_aimlbilling.client.refusals import refusal_error
from airflow_provider_aimlbilling.client.settings import NotCopyable, Settings
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable


class Api(NotCopyable):
    """
    Sends requests with one key. The session is opened with the first request and then kept.

    :param settings: key, base URL, timeout and API version.
    :param refresh: looks the settings up again, after the API has refused the key; ``None`` if that is not possible.
    """

    def __init__(self, settings: Settings, refresh: Callable[[], Settings] | None = None) -> None:
        self.settings = settings
        self.closed = False
        self.deadline = math.inf  # by time.monotonic(); no request takes longer
        self._refresh = refresh
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """
        The session, which authenticates each request with the key.

        :raises AimlBillingUnavailable: if it was closed.
        """
        if self.closed:
            raise AimlBillingUnavailable("The client is closed and sends no more requests.")
        if self._session is None:
            self._session = open_session(self.settings)
        return self._session

    def close(self) -> None:
        """Close the session for good, and end a call that is running in another thread."""
        self.closed = True
        if self._session is not None:
            self._session.close()

    def get_balance(self) -> bytes:
        """
        Read the balance from the endpoint of the configured API version.

        :raises AimlBillingError: or a subclass, for any status other than 200, or no response.
        """
        return body_or_raise(self._fetch(lambda settings: settings.balance_url), self.settings)

    def get(self, path: str, params: Mapping[str, str] | None = None, *, max_bytes: int = MAX_BODY_BYTES) -> bytes:
        """
        Read any other endpoint.

        :param path: path of the endpoint.
        :param params: query parameters.
        :param max_bytes: largest body that is accepted, in bytes.
        :raises AimlBillingError: or a subclass, for any status other than 200, or no response.
        """
        response = self._fetch(lambda settings: settings.url_for(path), params, max_bytes=max_bytes)
        return body_or_raise(response, self.settings)

    def get_if_changed(self, path: str, params: Mapping[str, str], etag: str | None) -> ApiResponse:
        """
        Read an endpoint that supports ``ETag``.

        :param path: path of the endpoint.
        :param params: query parameters.
        :param etag: ETag of the response that the caller still has.
        :returns: the response, whose status is 304 if that one is still current.
        :raises AimlBillingUnavailable: if there was no complete response in time.
        """
        return self._fetch(lambda settings: settings.url_for(path), params, etag=etag)

    def _fetch(
        self, url: Callable[[Settings], str], params: Mapping[str, str] | None = None, **options: Any
    ) -> ApiResponse:
        """Send a request; once more if the key was refused and the connection has another one by now."""
        response = self._fetch_once(url, params, **options)
        if response.status == 401 and self._refresh is not None:
            try:
                settings = self._refresh()
            except AimlBillingError as error:
                # Whether the key was replaced is unknown, so this is not the last word on it.
                raise AimlBillingUnavailable(
                    f"The API refused the key (401), and whether it was replaced is unknown. {error}", status=401
                ) from None
            if settings != self.settings:
                if self._session is not None:
                    self._session.close()
                self.settings, self._session = settings, None
                response = self._fetch_once(url, params, **options)
        return response

    def _fetch_once(
        self, url: Callable[[Settings], str], params: Mapping[str, str] | None, **options: Any
    ) -> ApiResponse:
        seconds = self.deadline - time.monotonic()
        return fetch(self.session, self.settings, url(self.settings), params, max_seconds=seconds, **options)

    @contextmanager
    def time_limit(self, seconds: float | None) -> Iterator[None]:
        """
        Limit the time of all requests in this block together. A block inside it cannot extend that.

        :param seconds: the limit; ``None`` for none.
        """
        outer = self.deadline
        if seconds is not None:
            self.deadline = min(outer, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.deadline = outer


def body_or_raise(response: ApiResponse, settings: Settings) -> bytes:
    """
    Return the body of a 200 response.

    :raises AimlBillingError: or a subclass, for any other status.
    """
    if response.status != 200:
        raise refusal_error(response, settings)
    return response.body


def iso_time(moment: object) -> str:
    """
    Format a time as the API expects it: UTC, in milliseconds.

    :raises ValueError: if it is not a ``datetime`` with a time zone.
    """
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError("A time is a datetime with a time zone: datetime(…, tzinfo=timezone.utc).")
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
