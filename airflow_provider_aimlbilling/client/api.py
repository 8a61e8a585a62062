"""Sending requests with one key: the session, which host has an endpoint, and errors in place of refusals."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

import requests

from airflow_provider_aimlbilling.client.http import MAX_BODY_BYTES, ApiResponse, fetch, open_session
from airflow_provider_aimlbilling.client.refusals import refusal_error
from airflow_provider_aimlbilling.client.settings import Settings
from airflow_provider_aimlbilling.exceptions import AimlBillingUnavailable


class Api:
    """
    The API as one key sees it. It keeps one session, which it opens with the first request.

    :param settings: key, base URL, timeout and API version.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.closed = False
        self._session: requests.Session | None = None

    @property
    def session(self) -> requests.Session:
        """
        The session, which authenticates each request with the key.

        :raises AimlBillingUnavailable: if it was closed.
        """
        if self.closed:
            raise AimlBillingUnavailable("The client was closed, so no further request is sent.")
        if self._session is None:
            self._session = open_session(self.settings)
        return self._session

    def close(self) -> None:
        """Close the session for good. A call that is still running in another thread sends no further request."""
        self.closed = True
        if self._session is not None:
            self._session.close()

    def get_balance(self) -> bytes:
        """
        Read the balance by the endpoint of the settings' API version.

        :raises AimlBillingError: its children, for anything but a 200.
        """
        return body_or_raise(fetch(self.session, self.settings, self.settings.balance_url), self.settings)

    def get(self, path: str, query: Mapping[str, str] | None = None, *, max_bytes: int = MAX_BODY_BYTES) -> bytes:
        """
        Read any other endpoint.

        :param path: of the endpoint.
        :param query: its parameters.
        :param max_bytes: largest body that is accepted.
        :raises AimlBillingError: its children, for anything but a 200.
        """
        url = self.settings.url_for(path)
        return body_or_raise(fetch(self.session, self.settings, url, query, max_bytes=max_bytes), self.settings)

    def get_if_changed(self, path: str, query: Mapping[str, str], etag: str | None) -> ApiResponse:
        """
        Read an endpoint that supports ``ETag``.

        :param etag: of the answer that the caller still has.
        :returns: the response, whose status is 304 if that answer is still current.
        :raises AimlBillingUnavailable: if there was no complete response in time.
        """
        return fetch(self.session, self.settings, self.settings.url_for(path), query, etag=etag)


def body_or_raise(response: ApiResponse, settings: Settings) -> bytes:
    """
    Return the body of a 200 response.

    :raises AimlBillingError: its children, for any other status.
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
