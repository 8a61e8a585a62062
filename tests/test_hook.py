"""The one door to the network: what goes out, how often, and how a connection is read."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import KEY

from airflow_provider_aimlbilling import exceptions as e
from airflow_provider_aimlbilling.connection import Settings
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox

ENV = "AIRFLOW_CONN_AIMLBILLING_DEFAULT"


@pytest.fixture
def other() -> Iterator[Sandbox]:
    """Serve as the host to which no key may go."""
    with Sandbox(1) as account:
        yield account


def test_the_documented_request(sandbox: Sandbox) -> None:
    AimlBillingHook().get_balance()
    (request,) = sandbox.requests
    assert (request.method, request.path) == ("GET", "/v1/billing/balance")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith("airflow-provider-aimlbilling/")
    assert "Content-Length" not in request.headers


def test_v1_gives_all_documented_fields(sandbox: Sandbox) -> None:
    balance = AimlBillingHook().get_balance()
    assert (balance.balance, balance.balance_usd) == (5_000_000, Decimal("2.5"))
    assert (balance.low_balance, balance.low_balance_threshold) == (False, 10_000)
    assert (balance.auto_debit_status, balance.status) == ("disabled", "current")
    assert balance.status_explanation
    assert balance.last_updated


def test_v2_gives_the_same_balance_from_usd(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setenv(ENV, sandbox.connection(api_version="v2"))
    sandbox.set_balance(551_564_495)
    balance = AimlBillingHook().get_balance()
    assert sandbox.requests[0].path == "/v2/billing"
    assert (balance.balance, balance.balance_usd) == (551_564_495, Decimal("275.7822475"))
    assert balance.low_balance is None
    assert balance.low_balance_threshold is None


@pytest.mark.parametrize(
    ("fields", "url", "timeout"),
    [
        ({}, "https://billing.aimlapi.com/v1/billing/balance", 10),
        ({"extra": {"api_version": "v2"}}, "https://api.aimlapi.com/v2/billing", 10),
        ({"extra": {"api_version": "", "timeout": ""}}, "https://billing.aimlapi.com/v1/billing/balance", 10),
        ({"extra": {"timeout": "2.5"}}, "https://billing.aimlapi.com/v1/billing/balance", 2.5),
        ({"host": "gateway.example.com"}, "https://gateway.example.com/v1/billing/balance", 10),
        ({"host": "https://gateway.example.com/"}, "https://gateway.example.com/v1/billing/balance", 10),
        ({"host": "gateway.example.com", "port": 8443}, "https://gateway.example.com:8443/v1/billing/balance", 10),
        ({"host": "http://[::1]:8080"}, "http://[::1]:8080/v1/billing/balance", 10),
        ({"host": "http://localhost:8080"}, "http://localhost:8080/v1/billing/balance", 10),
    ],
)
def test_connection_as_json(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], url: str, timeout: float) -> None:
    monkeypatch.setenv(ENV, json.dumps({"conn_type": "aimlbilling", "password": KEY} | fields))
    settings = Settings.from_connection(AimlBillingHook.get_connection("aimlbilling_default"))
    assert (settings.url, settings.timeout, settings.key) == (url, timeout, KEY)


@pytest.mark.parametrize(
    ("uri", "url", "timeout"),
    [
        (f"aimlbilling://:{KEY}@", "https://billing.aimlapi.com/v1/billing/balance", 10),
        (f"aimlbilling://:{KEY}@/?timeout=3&api_version=v2", "https://api.aimlapi.com/v2/billing", 3),
        (f"aimlbilling://:{KEY}@gateway.example.com:8443/", "https://gateway.example.com:8443/v1/billing/balance", 10),
        (f"aimlbilling://:{KEY}@http%3A%2F%2F127.0.0.1:81/", "http://127.0.0.1:81/v1/billing/balance", 10),
        (f"aimlbilling://:{quote('a/+?%:k', safe='')}@", "https://billing.aimlapi.com/v1/billing/balance", 10),
    ],
)
def test_connection_as_uri(monkeypatch: pytest.MonkeyPatch, uri: str, url: str, timeout: float) -> None:
    monkeypatch.setenv(ENV, uri)
    settings = Settings.from_connection(AimlBillingHook.get_connection("aimlbilling_default"))
    assert (settings.url, settings.timeout) == (url, timeout)
    assert settings.key in (KEY, "a/+?%:k")


def test_one_session_and_one_connection_for_one_hook(sandbox: Sandbox) -> None:
    hook = AimlBillingHook()
    session = hook.get_conn()
    for _ in range(5):
        hook.get_balance()
    assert hook.get_conn() is session
    assert sandbox.connections == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 520},
        {"status": 429},
        {"status": 429, "retry_after": "soon"},
        {"status": 503, "retry_after": 1},
        {"status": 503, "body": b"x" * 100, "drip": 0.5},
        {"reset": True},
        {"body": b"<html>"},
        {"body": b'{"balance": 1}', "cut": 5},
    ],
    ids=repr,
)
def test_a_few_tries_then_the_answer(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, fault: dict[str, Any]) -> None:
    monkeypatch.setenv(ENV, sandbox.connection(timeout=0.5))
    sandbox.fail(**fault, times=2)
    assert AimlBillingHook().get_balance().balance == 5_000_000
    assert len(sandbox.requests) == 3
    if fault.get("retry_after") == 1:
        gaps = [b.at - a.at for a, b in zip(sandbox.requests, sandbox.requests[1:], strict=False)]
        assert min(gaps) >= 0.95


def test_a_few_tries_then_the_error(sandbox: Sandbox) -> None:
    sandbox.fail(status=500)
    with pytest.raises(e.AimlBillingUnavailable, match="answered 500"):
        AimlBillingHook().get_balance()
    assert len(sandbox.requests) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 302])
def test_no_second_try_where_it_would_change_nothing(sandbox: Sandbox, status: int) -> None:
    sandbox.fail(status=status)
    with pytest.raises(e.AimlBillingError):
        AimlBillingHook().get_balance()
    assert len(sandbox.requests) == 1


def test_a_long_retry_after_is_handed_on_and_not_slept_through(sandbox: Sandbox) -> None:
    sandbox.fail(status=429, retry_after=600)
    began = time.monotonic()
    with pytest.raises(e.AimlBillingUnavailable) as caught:
        AimlBillingHook().get_balance()
    assert time.monotonic() - began < 5
    assert len(sandbox.requests) == 1
    assert (caught.value.retry_after, caught.value.status) == (600, 429)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("5", 5),
        ("999999", 3600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("9" * 5000, None),
    ],
)
def test_retry_after_is_read_with_an_end(sandbox: Sandbox, header: str, seconds: float | None) -> None:
    sandbox.fail(status=503, retry_after=header)
    with pytest.raises(e.AimlBillingUnavailable) as caught:
        AimlBillingHook(retries=0).get_balance()
    assert caught.value.retry_after == seconds


def test_a_redirect_takes_the_key_nowhere(sandbox: Sandbox, other: Sandbox) -> None:
    sandbox.fail(status=307, headers={"Location": f"{other.url}/v1/billing/balance"})
    with pytest.raises(e.AimlBillingContractError, match="Redirects are not followed"):
        AimlBillingHook().get_balance()
    assert other.requests == []


def test_a_netrc_does_not_replace_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sandbox: Sandbox) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    AimlBillingHook().get_balance()
    assert sandbox.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_no_proxy_sees_a_key_in_clear(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, other: Sandbox) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", other.url)
    monkeypatch.setenv("http_proxy", other.url)
    AimlBillingHook().get_balance()
    assert other.requests == []
    assert len(sandbox.requests) == 1


def test_a_proxy_of_the_environment_is_honoured_for_https(monkeypatch: pytest.MonkeyPatch, other: Sandbox) -> None:
    monkeypatch.setenv(ENV, json.dumps({"conn_type": "aimlbilling", "password": KEY, "host": "https://b.invalid"}))
    monkeypatch.setenv("HTTPS_PROXY", other.url)
    with pytest.raises(e.AimlBillingUnavailable, match="the proxy failed"):  # the sandbox knows no CONNECT
        AimlBillingHook(retries=0).get_balance()


def test_a_changed_connection_counts_and_an_unchanged_one_keeps_the_session(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, other: Sandbox
) -> None:
    hook = AimlBillingHook()
    session = hook.get_conn()
    hook.use_connection(AimlBillingHook.get_connection("aimlbilling_default"))
    assert hook.get_conn() is session
    monkeypatch.setenv(ENV, other.connection())
    hook.use_connection(AimlBillingHook.get_connection("aimlbilling_default"))
    assert hook.get_balance().balance == 1


def test_connection_test_says_the_balance_in_both_units(sandbox: Sandbox) -> None:
    assert AimlBillingHook().test_connection() == (
        True,
        "The key works. The account holds 5,000,000 credits (2.50 USD).",
    )


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("refused", [False, True])
def test_the_command_line_tests_the_connection(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, refused: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    if refused:
        sandbox.fail(status=401, message=f"{KEY} is not known")
    airflow = Path(sys.executable).with_name("airflow")
    command = [airflow, "connections", "test", "aimlbilling_default"]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    told = " ".join((run.stdout + run.stderr).split())
    assert ("The key works. The account holds 5,000,000 credits (2.50 USD)." in told) is not refused
    assert ("put a working key into the password of the connection" in told) is refused
    assert KEY not in told


def test_connection_test_says_what_is_wrong_and_the_next_step(sandbox: Sandbox) -> None:
    sandbox.fail(status=401)
    works, message = AimlBillingHook().test_connection()
    assert not works
    assert "put a working key into the password of the connection" in message


@pytest.mark.parametrize(
    "message",
    [
        f"The key [{KEY}] is wrong",
        f"The key {KEY[:8]}… is wrong",
        f"no such key: …{KEY[-4:]}",
        KEY.replace("Z", "\x00Z"),
    ],
)
def test_what_the_vendor_says_is_printed_without_the_key(sandbox: Sandbox, message: str) -> None:
    sandbox.fail(status=401, message=message)
    with pytest.raises(e.AimlBillingAuthError) as caught:
        AimlBillingHook().get_balance()
    text = str(caught.value)
    assert not any(KEY[start : start + 4] in text for start in range(len(KEY) - 3))
    assert text.isprintable()
    assert "requestId" in text
    assert "[" not in text, "Airflow's command line takes that for markup"


def test_the_vendor_s_words_are_cut(sandbox: Sandbox) -> None:
    sandbox.fail(status=401, message="a\n" * 5000)
    with pytest.raises(e.AimlBillingAuthError) as caught:
        AimlBillingHook().get_balance()
    assert len(str(caught.value)) < 600


def test_repr_shows_no_key(sandbox: Sandbox) -> None:
    hook = AimlBillingHook()
    hook.get_balance()
    settings = Settings.from_connection(AimlBillingHook.get_connection("aimlbilling_default"))
    for thing in (hook, settings, hook.get_conn(), hook.get_conn().auth, vars(hook)):
        assert KEY not in repr(thing)
