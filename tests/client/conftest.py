"""Fixtures for the tests of the client, which need no Airflow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings, request_log
from airflow_provider_aimlbilling.sandbox import Sandbox


@pytest.fixture
def settings(sandbox: Sandbox) -> Settings:
    return Settings(key=KEY, base_url=sandbox.url, timeout=2, conn_id="aimlbilling_default")


@pytest.fixture
def client(settings: Settings) -> Iterator[AimlBillingClient]:
    """Return a client that makes each call once."""
    client = AimlBillingClient(settings, retries=0)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def reread_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait before a part of the request log is read again."""
    monkeypatch.setattr(request_log, "REREAD_PAUSES", (0.0,) * len(request_log.REREAD_PAUSES))


@pytest.fixture
def other_host() -> Iterator[Sandbox]:
    """Serve another account on another port. The key must not be sent there."""
    with Sandbox(1) as account:
        yield account
