"""One test a row: what is wrong, the error that it gets, and the fix that the error names."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import AIRFLOW, KEY

from airflow_provider_aimlbilling import exceptions as e
from airflow_provider_aimlbilling.connection import Settings
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

GOOD: dict[str, Any] = {"conn_type": "aimlbilling", "password": KEY, "host": "http://127.0.0.1:9"}

CONNECTIONS = {
    "no key": ({"password": ""}, "has no API key. Put the key into its password"),
    "key in the login": ({"password": "", "login": KEY}, "it stands in the login, move it"),
    "key with a newline": ({"password": KEY + "\n"}, "Paste the key again"),
    "key with a line break inside": ({"password": KEY[:9] + "\r\nX-Evil: 1" + KEY[9:]}, "Paste the key again"),
    "key with a leading space": ({"password": " " + KEY}, "Paste the key again"),
    "key with a space inside": ({"password": KEY[:9] + " " + KEY[9:]}, "Paste the key again"),
    "key with a dash that Word made": ({"password": KEY + "\u2013"}, "Paste the key again"),
    "key of white space": ({"password": " \n"}, "has no API key"),
    "connection of another kind": (
        {"conn_type": "slack", "host": ""},
        "it is of type 'slack', so its password",
    ),
    "plain http": ({"host": "http://billing.example.com"}, "use https://"),
    "plain http, loopback in the name only": ({"host": "http://localhost.example.com"}, "use https://"),
    "plain http, any address": ({"host": "http://0.0.0.0:80"}, "use https://"),
    "host with a path": ({"host": "https://billing.example.com/v1"}, "more than scheme, name and port"),
    "host with a query": ({"host": "https://billing.example.com?x=1"}, "more than scheme, name and port"),
    "host with a log-in": ({"host": f"https://me:{KEY}@billing.example.com"}, "user name or password"),
    "host that is no URL": ({"host": "https://["}, "is no URL"),
    "host with a space": ({"host": "billing example.com"}, "is no URL"),
    "host without a name": ({"host": "https://:443"}, "is no URL"),
    "host with another scheme": ({"host": "ftp://billing.example.com"}, "scheme 'ftp'"),
    "host with a wrong port": ({"host": "https://billing.example.com:x"}, "is no URL"),
    "port without host": ({"host": "", "port": 8080}, "has a port but no host"),
    "schema": ({"schema": "v1"}, "has a schema"),
    "unknown api_version": ({"extra": {"api_version": "v3"}}, "set it to 'v1' or 'v2'"),
    "timeout of nothing": ({"extra": {"timeout": 0}}, "a number of seconds above 0"),
    "timeout below zero": ({"extra": {"timeout": "-1"}}, "a number of seconds above 0"),
    "timeout NaN": ({"extra": {"timeout": "nan"}}, "a number of seconds above 0"),
    "timeout without end": ({"extra": {"timeout": "inf"}}, "a number of seconds above 0"),
    "timeout true": ({"extra": {"timeout": True}}, "a number of seconds above 0"),
    "timeout in words": ({"extra": {"timeout": "ten"}}, "a number of seconds above 0"),
}


@pytest.mark.parametrize("row", CONNECTIONS)
def test_connection(monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    changes, fix = CONNECTIONS[row]
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", json.dumps(GOOD | changes))
    with pytest.raises(e.AimlBillingConnectionError, match="aimlbilling_default") as caught:
        AimlBillingHook(retries=0).get_balance()
    assert fix in str(caught.value)
    assert KEY[:6] not in str(caught.value)
    # The button in the UI says the same.
    assert AimlBillingHook().test_connection() == (False, str(caught.value))


@pytest.mark.parametrize("row", [row for row in CONNECTIONS if row.startswith("key with")])
def test_a_key_that_is_wrong_is_in_no_log(run_dag: Any, monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    """Also where Airflow prints the locals of each frame: what it masks is the password, not a part of it."""
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", json.dumps(GOOD | CONNECTIONS[row][0]))
    run = run_dag("GetBalanceOperator(task_id='gate')")
    assert run.state() == "failed"
    assert "Paste the key again" in run.log
    assert KEY[:9] not in run.log
    assert KEY[9:] not in run.log


@pytest.mark.parametrize("extra", ["[1]", '"v1"', "timeout=5"])
def test_extra_that_is_no_object(extra: str) -> None:
    # Not through Airflow: 3.0 and 3.1 take such a connection for missing.
    with pytest.raises(e.AimlBillingConnectionError, match=r'write it like \{"timeout": 10'):
        Settings.from_connection(SimpleNamespace(conn_id="x", conn_type="", extra=extra))  # type: ignore[arg-type]


def test_no_connection() -> None:
    hook = AimlBillingHook("nowhere")
    with pytest.raises(e.AimlBillingConnectionError, match="AIRFLOW_CONN_NOWHERE") as caught:
        hook.get_balance()
    assert hook.test_connection() == (False, str(caught.value))


def test_a_foreign_secret_is_sent_nowhere(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """A wrong connection id must not hand another service's password to this API."""
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps(json.loads(sandbox.connection()) | {"conn_type": "slack"}))
    with pytest.raises(e.AimlBillingConnectionError, match="of type 'slack'"):
        AimlBillingHook("slack").get_balance()
    assert sandbox.requests == []


@pytest.mark.skipif(AIRFLOW.startswith("2."), reason="Airflow 2 says it itself")
@pytest.mark.parametrize("written", ["{", "aimlbilling://:a/b@/"])
def test_a_connection_that_cannot_be_read_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", written)
    with pytest.raises(e.AimlBillingConnectionError, match="AIRFLOW_CONN_BROKEN holds no valid JSON or URI"):
        AimlBillingHook("broken").get_balance()


def test_unknown_extra_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(time_out=5))
    works, message = AimlBillingHook().test_connection()
    assert not works
    assert "'time_out'" in message
    assert "timeout and api_version" in message


FULL = {
    "balance": 9_000_000,
    "lowBalance": False,
    "lowBalanceThreshold": 10_000,
    "lastUpdated": "2026-11-22T10:00:00Z",
    "autoDebitStatus": "disabled",
    "status": "current",
    "statusExplanation": "fine",
}
CONTRACT, UNAVAILABLE = e.AimlBillingContractError, e.AimlBillingUnavailable


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in FULL.items() if key != name}).encode()


def with_(**fields: str) -> bytes:
    """Put fields into a good answer as raw JSON, since much of it could not be written otherwise."""
    written = {name: json.dumps(value) for name, value in FULL.items()} | fields
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in written.items()) + "}").encode()


ANSWERS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    **{f"without {name}": ({"body": without(name)}, CONTRACT, f"lacks the field '{name}'") for name in FULL},
    "balance null": ({"body": with_(balance="null")}, CONTRACT, "'balance' and sent None"),
    "balance true": ({"body": with_(balance="true")}, CONTRACT, "'balance' and sent True"),
    "balance as text": ({"body": with_(balance='"9000000"')}, CONTRACT, "'balance' and sent a str"),
    "balance negative": ({"body": with_(balance="-1")}, e.InsufficientBalanceError, "overdrawn by 1 credits"),
    "balance negative and enormous": ({"body": with_(balance="-1e30")}, CONTRACT, "'balance' and sent 1E+30"),
    "balance of 60 decimal places": ({"body": with_(balance="0." + "7" * 60)}, CONTRACT, "'balance'"),
    "threshold negative": ({"body": with_(lowBalanceThreshold="-1")}, CONTRACT, "'lowBalanceThreshold' and sent -1"),
    "balance NaN": ({"body": with_(balance="NaN")}, CONTRACT, "'balance' and sent NaN"),
    "balance Infinity": ({"body": with_(balance="Infinity")}, CONTRACT, "'balance' and sent Infinity"),
    "balance enormous": ({"body": with_(balance="1e30")}, CONTRACT, "'balance' and sent 1E+30"),
    "balance beyond Decimal": ({"body": with_(balance="1e99999999999999999999")}, CONTRACT, "'balance'"),
    "balance of 5000 digits": ({"body": with_(balance="9" * 5000)}, CONTRACT, "'balance'"),
    "balance as a list": ({"body": with_(balance="[1]")}, CONTRACT, "'balance' and sent a list"),
    "lowBalance as text": ({"body": with_(lowBalance='"false"')}, CONTRACT, "'lowBalance' and sent a str"),
    "lowBalance as a number": ({"body": with_(lowBalance="0")}, CONTRACT, "'lowBalance' and sent 0"),
    "threshold null": ({"body": with_(lowBalanceThreshold="null")}, CONTRACT, "'lowBalanceThreshold'"),
    "status null": ({"body": with_(status="null")}, CONTRACT, "'status' and sent None"),
    "a list": ({"body": b"[]"}, CONTRACT, "a JSON object and sent list"),
    "null": ({"body": b"null"}, CONTRACT, "a JSON object"),
    "50 MB": ({"body": b" " * 50_000_000}, CONTRACT, "longer than 1,048,576 bytes"),
    "redirect to another host": (
        {"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}},
        CONTRACT,
        "Redirects",
    ),
    "redirect to nowhere": ({"status": 302, "headers": {"Location": "http://[::1"}}, CONTRACT, "Redirects"),
    "redirect that never ends": (
        {"status": 302, "headers": {"Location": "/x"}, "body": b"x" * 100, "drip": 0.2},
        UNAVAILABLE,
        "timed out",
    ),
    "400": ({"status": 400}, CONTRACT, "api_version"),
    "404": ({"status": 404}, CONTRACT, "api_version"),
    "410": ({"status": 410}, CONTRACT, "api_version"),
    "418 with html": ({"status": 418, "body": b"<h1>teapot"}, CONTRACT, "answered 418."),
    "401": ({"status": 401}, e.AimlBillingAuthError, "put a working key into the password of the connection"),
    "403 of another meaning": (
        {"status": 403, "message": "Not with this key"},
        e.AimlBillingAuthError,
        "may not do this",
    ),
    "403 without a body": ({"status": 403, "body": b""}, e.AimlBillingAuthError, "may not do this"),
    "403 out of credits": ({"status": 403}, e.InsufficientBalanceError, "top it up"),
    "HTML with 200": ({"body": b"<html>welcome</html>"}, UNAVAILABLE, "a body that is no JSON"),
    "empty with 200": ({"body": b""}, UNAVAILABLE, "a body that is no JSON"),
    "bytes that are no text": ({"body": b"\xff\xfe{"}, UNAVAILABLE, "a body that is no JSON"),
    "nested without end": ({"body": b"[" * 100_000}, UNAVAILABLE, "a body that is no JSON"),
    "JSON cut short": ({"body": json.dumps(FULL).encode()[:40]}, UNAVAILABLE, "a body that is no JSON"),
    "connection cut short": ({"body": json.dumps(FULL).encode(), "cut": 40}, UNAVAILABLE, "broke off"),
    "reset": ({"reset": True}, UNAVAILABLE, "broke off"),
    "no answer": ({"delay": 5}, UNAVAILABLE, "timed out"),
    "a byte a moment": ({"body": with_(status='"' + "x" * 500 + '"'), "drip": 0.05}, UNAVAILABLE, "timed out"),
    "429": ({"status": 429}, UNAVAILABLE, "made again later"),
    "500": ({"status": 500}, UNAVAILABLE, "made again later"),
    "501": ({"status": 501}, UNAVAILABLE, "made again later"),
    "502 with html": ({"status": 502, "body": b"<h1>bad gateway"}, UNAVAILABLE, "answered 502."),
    "500 with 50 MB": ({"status": 500, "body": b" " * 50_000_000}, UNAVAILABLE, "answered 500."),
}


@pytest.mark.parametrize("row", ANSWERS)
def test_answer(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, row: str) -> None:
    fault, kind, says = ANSWERS[row]
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(timeout=0.7))
    sandbox.fail(**fault)
    with pytest.raises(e.AimlBillingError) as caught:
        AimlBillingHook(retries=0).get_balance()
    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert len(sandbox.requests) == 1, "no redirect followed, no retry behind the caller's back"
    # And the most generous gate there is does not open on it.
    gate = BalanceSensor(task_id="gate", threshold=0, silent_fail=True)
    assert not gate.poke({})  # type: ignore[typeddict-item]


V2_ANSWERS = {
    "without current_balance": b'{"currency": "USD"}',
    "without currency": b'{"current_balance": 5}',
    "another currency": b'{"current_balance": 5, "currency": "EUR"}',
    "text": b'{"current_balance": "5", "currency": "USD"}',
    "true": b'{"current_balance": true, "currency": "USD"}',
    "null": b'{"current_balance": null, "currency": "USD"}',
    "NaN": b'{"current_balance": NaN, "currency": "USD"}',
    "enormous": b'{"current_balance": 1e15, "currency": "USD"}',
}


@pytest.mark.parametrize("row", V2_ANSWERS)
def test_v2_answer(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, row: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    sandbox.fail(body=V2_ANSWERS[row])
    with pytest.raises(CONTRACT, match="api_version"):
        AimlBillingHook(retries=0).get_balance()


def test_v2_overdrawn(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    sandbox.fail(body=b'{"current_balance": -0.01, "currency": "USD"}')
    with pytest.raises(e.InsufficientBalanceError, match=r"overdrawn by 20,000 credits \(0\.01 USD\): top it up"):
        AimlBillingHook(retries=0).get_balance()


def test_name_that_does_not_resolve_and_port_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, says in {"https://billing.invalid": "does not resolve", "http://127.0.0.1:9": "cannot connect"}.items():
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", json.dumps(GOOD | {"host": host}))
        with pytest.raises(UNAVAILABLE, match=says):
            AimlBillingHook(retries=0).get_balance()


THRESHOLDS = {
    "negative": "-1",
    "NaN": "'NaN'",
    "empty": "''",
    "boolean": "True",
    "another currency": "'12 EUR'",
    "a fraction without a unit": "'2.50'",
    "a template that was not rendered": "'{% raw %}{{ params.need }}{% endraw %}'",
    "a template that gave nothing": "'{{ none }}'",
    "half a credit in binary": "2.5",
}


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("gate", ["BalanceSensor", "BalanceSensor-deferrable", "BalanceCheckOperator"])
def test_no_gate_opens_on_a_threshold_that_is_no_money(
    run_dag: Any, sandbox: Sandbox, gate: str, threshold: str
) -> None:
    name, _, deferrable = gate.partition("-")
    run = run_dag(
        f"{name}(task_id='gate', threshold={THRESHOLDS[threshold]}{', deferrable=True' if deferrable else ''})"
    )
    assert run.state() == "failed"
    assert "AimlBillingThresholdError" in run.log
    assert "Write credits as 5000000" in run.log


def test_poke_interval_of_nothing_is_refused_when_the_dag_is_written() -> None:
    with pytest.raises(ValueError, match="poke_interval must be above 0"):
        BalanceSensor(task_id="gate", threshold=1, poke_interval=0)
