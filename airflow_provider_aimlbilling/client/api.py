"""Requests with one key: keep the session, find the endpoint's host, raise an error for every status but 200."""

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
    Sends requests with one key. The session is opened with the first request and then kept.

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
            raise AimlBillingUnavailable("The client is closed and sends no more requests.")
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
        Read the balance from the endpoint of the configured API version.

        :raises AimlBillingError: or a subclass, for any status other than 200, or no response.
        """
        return body_or_raise(fetch(self.session, self.settings, self.settings.balance_url), self.settings)

    def get(self, path: str, query: Mapping[str, str] | None = None, *, max_bytes: int = MAX_BODY_BYTES) -> bytes:
        """
        Read any other endpoint.

        :param path: path of the endpoint.
        :param query: query parameters.
        :param max_bytes: largest body that is accepted, in bytes.
        :raises AimlBillingError: or a subclass, for any status other than 200, or no response.
        """
        url = self.settings.url_for(path)
        return body_or_raise(fetch(self.session, self.settings, url, query, max_bytes=max_bytes), self.settings)

    def get_if_changed(self, path: str, query: Mapping[str, str], etag: str | None) -> ApiResponse:
        """
        Read an endpoint that supports ``ETag``.

        :param etag: ETag of the response that the caller still has.
        :returns: the response, whose status is 304 if that one is still current.
        :raises AimlBillingUnavailable: if there was no complete response in time.
        """
        return fetch(self.session, self.settings, self.settings.url_for(path), query, etag=etag)


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
