"""Requests to the sandbox without the provider's own client."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from support import KEY

from airflow_provider_aimlbilling.sandbox import Sandbox

Get = Callable[..., requests.Response]


@pytest.fixture
def get(sandbox: Sandbox) -> Get:
    """Return a function that sends a GET request with a key and query parameters."""

    def send(path: str, key: str = KEY, **query: str) -> requests.Response:
        return requests.get(sandbox.url + path, params=query, headers={"Authorization": f"Bearer {key}"}, timeout=5)

    return send
