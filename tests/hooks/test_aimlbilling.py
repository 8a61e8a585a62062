"""The hook: how it finds and refreshes its connection, tests it, and hands its settings to the client."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support import AIRFLOW_3, KEY

from airflow_provider_aimlbilling.client import Settings
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingConnectionError,
    AimlBillingUnavailable,
)
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

NOW = datetime.now(timezone.utc)
HOUR = timedelta(hours=1)
ENV = "AIRFLOW_CONN_AIMLBILLING_DEFAULT"


@pytest.fixture
def other_host() -> Iterator[Sandbox]:
    """Serve another account, which holds 1 credit."""
    with Sandbox(1) as account:
        yield account


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        ("aimlbilling://:{key}@[::1]:8080", "https://[::1]:8080"),
        ("aimlbilling://:{key}@[2001:db8::1]", "https://[2001:db8::1]"),
        ("aimlbilling://http://:{key}@[::1]:8080", "http://[::1]:8080"),
        ("aimlbilling://:{key}@http%3A%2F%2F%5B%3A%3A1%5D:8080", "http://[::1]:8080"),
        ({"host": "::1", "port": 8080}, "https://[::1]:8080"),
        ({"host": "http://::1", "port": 8080}, "http://[::1]:8080"),
        ({"host": "fe80::1%eth0"}, "https://[fe80::1%25eth0]"),
    ],
)
def test_an_ipv6_host_is_read_in_every_form(
    monkeypatch: pytest.MonkeyPatch, connection: str | dict[str, Any], url: str
) -> None:
    """Airflow drops the brackets when it reads a URI."""
    if isinstance(connection, dict):
        connection = json.dumps({"conn_type": "aimlbilling", "password": KEY} | connection)
    monkeypatch.setenv(ENV, connection.replace("{key}", KEY))
    assert AimlBillingHook().client.settings.base_url == url


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
def test_a_connection_as_json_is_read(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], url: str, timeout: float
) -> None:
    monkeypatch.setenv(ENV, json.dumps({"conn_type": "aimlbilling", "password": KEY} | fields))
    settings = AimlBillingHook().client.settings
    assert (settings.balance_url, settings.timeout, settings.key) == (url, timeout, KEY)
    assert settings == Settings.from_connection(AimlBillingHook.get_connection("aimlbilling_default"))


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
def test_a_connection_as_uri_is_read(monkeypatch: pytest.MonkeyPatch, uri: str, url: str, timeout: float) -> None:
    monkeypatch.setenv(ENV, uri)
    settings = AimlBillingHook().client.settings
    assert (settings.balance_url, settings.timeout) == (url, timeout)
    assert settings.key == (KEY if KEY in uri else "a/+?%:k")


def test_a_missing_connection_is_named_with_its_environment_variable() -> None:
    hook = AimlBillingHook("nowhere")
    with pytest.raises(AimlBillingConnectionError, match="AIRFLOW_CONN_NOWHERE") as caught:
        hook.get_balance()
    assert hook.test_connection() == (False, str(caught.value))


def test_the_password_of_another_service_is_not_sent(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps(json.loads(sandbox.connection()) | {"conn_type": "slack"}))
    with pytest.raises(AimlBillingConnectionError, match="its type is 'slack'"):
        AimlBillingHook("slack").get_balance()
    assert sandbox.requests == []


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 reports it itself")
@pytest.mark.parametrize("value", ["{", "aimlbilling://:a/b@/"])
def test_a_connection_that_cannot_be_read_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", value)
    with pytest.raises(AimlBillingConnectionError, match="AIRFLOW_CONN_BROKEN is not valid JSON or a valid URI"):
        AimlBillingHook("broken").get_balance()


def test_calls_share_one_session_and_one_tcp_connection(sandbox: Sandbox) -> None:
    hook = AimlBillingHook()
    session = hook.get_conn()
    for _ in range(5):
        hook.get_balance()
    assert hook.get_conn() is session
    assert sandbox.connections == 1


def test_a_changed_connection_is_used_and_an_unchanged_one_keeps_its_session(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, other_host: Sandbox
) -> None:
    hook = AimlBillingHook()
    session = hook.get_conn()
    hook.refresh_connection()
    assert hook.get_conn() is session
    monkeypatch.setenv(ENV, other_host.connection())
    assert hook.get_conn() is session, "the connection is looked up only on request"
    hook.refresh_connection()
    assert hook.get_balance().balance == 1


def test_the_client_gets_the_retries_of_the_hook(sandbox: Sandbox) -> None:
    assert AimlBillingHook().client.retries == 3
    sandbox.fail(status=500)
    works, _ = AimlBillingHook(retries=0).test_connection()
    assert not works
    assert len(sandbox.requests) == 1


def test_a_working_connection_reports_the_balance_in_both_units(sandbox: Sandbox) -> None:
    assert AimlBillingHook().test_connection() == (
        True,
        "The key works. The account holds 5,000,000 credits (2.50 USD).",
    )


def test_a_failed_connection_test_reports_what_to_do(sandbox: Sandbox) -> None:
    sandbox.fail(status=401)
    works, message = AimlBillingHook().test_connection()
    assert not works
    assert "put a working key into the password of the connection" in message


def test_an_unknown_extra_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setenv(ENV, sandbox.connection(time_out=5))
    works, message = AimlBillingHook().test_connection()
    assert not works
    assert "'time_out'" in message
    assert "timeout and api_version" in message


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("refused", [False, True])
def test_the_command_line_reports_the_outcome_without_the_key(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, refused: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    if refused:
        sandbox.fail(status=401, message=f"{KEY} is not known")
    airflow = Path(sys.executable).with_name("airflow")
    command = [airflow, "connections", "test", "aimlbilling_default"]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    output = " ".join((run.stdout + run.stderr).split())
    assert ("The key works. The account holds 5,000,000 credits (2.50 USD)." in output) is not refused
    assert ("put a working key into the password of the connection" in output) is refused
    assert KEY not in output


def test_no_repr_contains_the_key(sandbox: Sandbox) -> None:
    hook = AimlBillingHook()
    hook.get_balance()
    settings = Settings.from_connection(AimlBillingHook.get_connection("aimlbilling_default"))
    for thing in (hook, settings, hook.get_conn(), hook.get_conn().auth, vars(hook), hook.client):
        assert KEY not in repr(thing)


def test_a_rotated_key_is_looked_up_once_more(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    hook = AimlBillingHook()
    hook.get_balance()
    sandbox.account.key = f"{KEY}-new"
    monkeypatch.setenv(ENV, sandbox.connection())
    assert hook.get_balance().balance == 5_000_000
    assert len(sandbox.requests) == 3, "the refusal of the old key is one of them"
    assert [usage.requests for usage in [hook.get_usage(start=NOW - HOUR, end=NOW).total]] == [0]


def test_a_key_that_stays_refused_is_not_tried_again(sandbox: Sandbox) -> None:
    sandbox.account.key = f"{KEY}-new"
    with pytest.raises(AimlBillingAuthError):
        AimlBillingHook().get_balance()
    assert len(sandbox.requests) == 1


def test_a_refused_key_may_have_been_replaced_while_look_ups_fail(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    hook = AimlBillingHook()
    hook.get_balance()
    sandbox.account.key = f"{KEY}-new"
    monkeypatch.delenv(ENV)
    with pytest.raises(AimlBillingUnavailable, match=r"refused the key \(401\).*Airflow has no connection"):
        hook.client.get_balance(max_seconds=0.5)


def test_what_holds_the_key_cannot_be_pickled(sandbox: Sandbox) -> None:
    hook = AimlBillingHook()
    hook.get_balance()
    client = hook.client
    for thing in (client, client.session, client.settings, client._api, client.session.auth):
        for copy_of in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="API key"):
                copy_of(thing)
    data = pickle.dumps(hook)
    assert KEY.encode() not in data
    assert pickle.loads(data).get_balance().balance == 5_000_000
    sensor = BalanceSensor(task_id="gate", threshold=1)
    sensor.poke({})
    assert KEY.encode() not in pickle.dumps(copy.deepcopy(sensor)._poll)


FIELDS = ("conn_type", "host", "schema", "login", "extra.timeout", "extra.api_version", "extra.name", "host.scheme")


@pytest.mark.parametrize("field", FIELDS)
def test_a_key_typed_into_a_wrong_field_is_not_echoed(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    connection: dict[str, Any] = {"conn_type": "aimlbilling", "host": "http://127.0.0.1:9", "password": "another-key"}
    name, _, part = field.partition(".")
    if name == "extra":
        connection["extra"] = {KEY: 1} if part == "name" else {part: KEY}
    else:
        connection[name] = f"{KEY}://billing.example" if part else KEY
    monkeypatch.setenv(ENV, json.dumps(connection))
    works, message = AimlBillingHook().test_connection()
    assert not works
    assert not [start for start in range(len(KEY) - 3) if KEY[start : start + 4] in message], message


def test_the_hook_reads_the_request_log_of_its_connection(sandbox: Sandbox) -> None:
    sandbox.spend("0.50 USD", "sandbox/chat", at=NOW - HOUR / 2, client_request_id="customer-42")
    sandbox.spend("0.50 USD", "sandbox/chat", at=NOW - 2 * HOUR)
    (row,) = AimlBillingHook().iter_requests(NOW - HOUR, NOW)
    assert (row.client_request_id, row.cost and row.cost.credits) == ("customer-42", 1_000_000)
