"""Retries: which calls are repeated, how often, and after which delay."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings, retries
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingUnavailable
from airflow_provider_aimlbilling.sandbox import Sandbox


@pytest.fixture
def client(sandbox: Sandbox) -> AimlBillingClient:
    return AimlBillingClient(Settings(key=KEY, base_url=sandbox.url, timeout=0.5))


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the delays before retries, in seconds, instead of sleeping."""
    seconds: list[float] = []
    monkeypatch.setattr(retries, "time", SimpleNamespace(sleep=seconds.append, monotonic=time.monotonic))
    return seconds


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 520},
        {"status": 429},
        {"status": 429, "retry_after": "soon"},
        {"status": 503, "body": b"x" * 100, "drip": 0.5},
        {"reset": True},
        {"body": b"<html>"},
        {"body": b'{"balance": 1}', "cut": 5},
    ],
    ids=repr,
)
def test_a_call_is_repeated_until_there_is_a_believable_answer(
    sandbox: Sandbox, client: AimlBillingClient, delays: list[float], fault: dict[str, Any]
) -> None:
    sandbox.fail(**fault, times=2)
    assert client.get_balance().balance == 5_000_000
    assert len(sandbox.requests) == 3
    assert len(delays) == 2


def test_a_retry_waits_as_long_as_the_api_asks(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.fail(status=503, retry_after=1, times=2)
    assert client.get_balance().balance == 5_000_000
    first, second, third = (request.at for request in sandbox.requests)
    assert min(second - first, third - second) >= 0.95


def test_after_three_retries_the_call_fails(sandbox: Sandbox, client: AimlBillingClient, delays: list[float]) -> None:
    sandbox.fail(status=500)
    with pytest.raises(AimlBillingUnavailable, match="answered 500"):
        client.get_balance()
    assert len(sandbox.requests) == 4
    assert len(delays) == 3
    assert delays == sorted(delays)
    assert delays[-1] >= 2


@pytest.mark.parametrize("status", [400, 404, 410, 302])
def test_an_odd_answer_is_retried(sandbox: Sandbox, client: AimlBillingClient, status: int) -> None:
    """Something in front of the API may have given it."""
    sandbox.fail(status=status, times=2)
    assert client.get_balance().balance == 5_000_000
    assert len(sandbox.requests) == 3


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refusal_is_not_retried(sandbox: Sandbox, client: AimlBillingClient, status: int) -> None:
    sandbox.fail(status=status)
    with pytest.raises(AimlBillingError):
        client.get_balance()
    assert len(sandbox.requests) == 1


def test_a_long_retry_after_is_reported_instead_of_slept_through(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.fail(status=429, retry_after=600)
    started = time.monotonic()
    with pytest.raises(AimlBillingUnavailable) as caught:
        client.get_balance()
    assert time.monotonic() - started < 5
    assert len(sandbox.requests) == 1
    assert (caught.value.retry_after, caught.value.status) == (600, 429)
