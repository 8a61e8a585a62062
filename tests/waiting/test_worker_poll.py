"""The polls of a gate on a worker: a connection that was found once is out of reach and not missing."""

from __future__ import annotations

import pytest

from airflow_provider_aimlbilling.exceptions import AimlBillingConnectionError, AimlBillingUnavailable
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.waiting.worker_poll import WorkerPoll

ENV = "AIRFLOW_CONN_AIMLBILLING_DEFAULT"


def worker_poll(waited: float = 0.0) -> WorkerPoll:
    return WorkerPoll(AimlBillingHook(retries=0), 60.0, waited)


def test_a_secrets_backend_that_is_away_ends_no_wait(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    polls = worker_poll()
    assert isinstance(polls.read({}), Balance)
    sandbox.fail(status=503, times=1)
    assert isinstance(polls.read({}), AimlBillingUnavailable), "after that, the connection is looked up again"
    monkeypatch.delenv(ENV)
    reading = polls.read({})
    assert isinstance(reading, AimlBillingUnavailable)
    assert "was found before, but cannot be looked up now" in str(reading)
    monkeypatch.setenv(ENV, sandbox.connection())
    assert isinstance(polls.read({}), Balance)


def test_a_connection_that_was_never_found_is_missing(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.delenv(ENV)
    reading = worker_poll().read({})
    assert isinstance(reading, AimlBillingConnectionError)
    assert reading.missing


def test_an_earlier_process_has_found_it(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """In reschedule mode, each poke is a new process. The first would have failed without the connection."""
    monkeypatch.delenv(ENV)
    assert isinstance(worker_poll(waited=5.0).read({}), AimlBillingUnavailable)


def test_no_poll_is_made_before_retry_after_has_passed(sandbox: Sandbox) -> None:
    sandbox.fail(status=429, retry_after=60, times=1)
    polls = worker_poll()
    assert isinstance(polls.read({}), AimlBillingUnavailable)
    assert polls.read({}) is None
    assert polls.retry_after() > 50
    assert len(sandbox.requests) == 1
