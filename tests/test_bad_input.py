"""
Bad connections, bad responses and bad thresholds: one row each, with its error and the fix that the error names.

tests/hooks/ and tests/client/ have the single cases that need more than a row.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import KEY

from airflow_provider_aimlbilling import exceptions as e
from airflow_provider_aimlbilling.guard import require_balance
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.operators.balance import BalanceCheckOperator
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

ENV = "AIRFLOW_CONN_AIMLBILLING_DEFAULT"
VALID: dict[str, Any] = {"conn_type": "aimlbilling", "password": KEY, "host": "http://127.0.0.1:9"}

CONNECTIONS = {
    "no key": ({"password": ""}, "has no API key. Put the key into its password"),
    "key in the login": ({"password": "", "login": KEY}, "it is in the login, move it"),
    "key with a newline": ({"password": KEY + "\n"}, "Paste the key again"),
    "key with a line break inside": ({"password": KEY[:9] + "\r\nX-Evil: 1" + KEY[9:]}, "Paste the key again"),
    "key with a leading space": ({"password": " " + KEY}, "Paste the key again"),
    "key with a space inside": ({"password": KEY[:9] + " " + KEY[9:]}, "Paste the key again"),
    "key with a dash that Word inserted": ({"password": KEY + "\u2013"}, "Paste the key again"),
    "only whitespace as the key": ({"password": " \n"}, "has no API key"),
    "connection of another type": ({"conn_type": "slack", "host": ""}, "its type is 'slack', so its password"),
    "plain http": ({"host": "http://billing.example.com"}, "use https://"),
    "plain http, loopback only by name": ({"host": "http://localhost.example.com"}, "use https://"),
    "plain http, any address": ({"host": "http://0.0.0.0:80"}, "use https://"),
    "host with a path": ({"host": "https://billing.example.com/v1"}, "more than scheme, name and port"),
    "host with a query": ({"host": "https://billing.example.com?x=1"}, "more than scheme, name and port"),
    "host with a login": ({"host": f"https://me:{KEY}@billing.example.com"}, "user name or password"),
    "host that is not a URL": ({"host": "https://["}, "is not a URL"),
    "host with a space": ({"host": "billing example.com"}, "is not a URL"),
    "host without a name": ({"host": "https://:443"}, "is not a URL"),
    "host with another scheme": ({"host": "ftp://billing.example.com"}, "scheme 'ftp'"),
    "host with an invalid port": ({"host": "https://billing.example.com:x"}, "is not a URL"),
    "port without a host": ({"host": "", "port": 8080}, "has a port but no host"),
    "schema": ({"schema": "v1"}, "has a schema"),
    "unknown api_version": ({"extra": {"api_version": "v3"}}, "set it to 'v1' or 'v2'"),
    "timeout of zero": ({"extra": {"timeout": 0}}, "a number of seconds above 0"),
    "timeout below zero": ({"extra": {"timeout": "-1"}}, "a number of seconds above 0"),
    "timeout NaN": ({"extra": {"timeout": "nan"}}, "a number of seconds above 0"),
    "timeout infinite": ({"extra": {"timeout": "inf"}}, "a number of seconds above 0"),
    "timeout true": ({"extra": {"timeout": True}}, "a number of seconds above 0"),
    "timeout in words": ({"extra": {"timeout": "ten"}}, "a number of seconds above 0"),
}


@pytest.mark.parametrize("row", CONNECTIONS)
def test_a_bad_connection_is_refused_with_its_fix(monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    changes, fix = CONNECTIONS[row]
    monkeypatch.setenv(ENV, json.dumps(VALID | changes))
    with pytest.raises(e.AimlBillingConnectionError, match="aimlbilling_default") as caught:
        AimlBillingHook(retries=0).get_balance()
    assert fix in str(caught.value)
    assert KEY[:6] not in str(caught.value)
    # The button in the UI reports the same.
    assert AimlBillingHook().test_connection() == (False, str(caught.value))


@pytest.mark.parametrize("row", [row for row in CONNECTIONS if row.startswith("key with")])
def test_no_log_contains_a_part_of_an_invalid_key(run_dag: Any, monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    """Not even where Airflow prints the locals of each frame: it masks the whole password, but not a part of it."""
    monkeypatch.setenv(ENV, json.dumps(VALID | CONNECTIONS[row][0]))
    run = run_dag("GetBalanceOperator(task_id='gate')")
    assert run.state() == "failed"
    assert "Paste the key again" in run.log
    assert KEY[:9] not in run.log
    assert KEY[9:] not in run.log


COMPLETE = {
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
    return json.dumps({key: value for key, value in COMPLETE.items() if key != name}).encode()


def with_(**fields: str) -> bytes:
    """Put fields into a valid body as raw JSON, because json.dumps cannot write most of these values."""
    raw = {name: json.dumps(value) for name, value in COMPLETE.items()} | fields
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in raw.items()) + "}").encode()


RESPONSES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "without balance": ({"body": without("balance")}, CONTRACT, "has no field 'balance'"),
    "balance null": ({"body": with_(balance="null")}, CONTRACT, "'balance', but sent None"),
    "balance true": ({"body": with_(balance="true")}, CONTRACT, "'balance', but sent True"),
    "balance as text": ({"body": with_(balance='"9000000"')}, CONTRACT, "'balance', but sent a str"),
    "balance negative": ({"body": with_(balance="-1")}, e.InsufficientBalanceError, "overdrawn by 1 credits"),
    "balance negative and too large": ({"body": with_(balance="-1e30")}, CONTRACT, "'balance', but sent 1E+30"),
    "balance of 60 decimal places": ({"body": with_(balance="0." + "7" * 60)}, CONTRACT, "'balance'"),
    "balance NaN": ({"body": with_(balance="NaN")}, CONTRACT, "'balance', but sent NaN"),
    "balance Infinity": ({"body": with_(balance="Infinity")}, CONTRACT, "'balance', but sent Infinity"),
    "balance too large": ({"body": with_(balance="1e30")}, CONTRACT, "'balance', but sent 1E+30"),
    "balance beyond Decimal": ({"body": with_(balance="1e99999999999999999999")}, CONTRACT, "'balance'"),
    "balance of 5000 digits": ({"body": with_(balance="9" * 5000)}, CONTRACT, "'balance'"),
    "balance as a list": ({"body": with_(balance="[1]")}, CONTRACT, "'balance', but sent a list"),
    "a list": ({"body": b"[]"}, CONTRACT, "a JSON object, but sent list"),
    "null": ({"body": b"null"}, CONTRACT, "a JSON object"),
    "50 MB": ({"body": b" " * 50_000_000}, CONTRACT, "more than 1,048,576 bytes"),
    "redirect to another host": (
        {"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}},
        CONTRACT,
        "Redirects",
    ),
    "redirect to an invalid URL": ({"status": 302, "headers": {"Location": "http://[::1"}}, CONTRACT, "Redirects"),
    "redirect that never ends": (
        {"status": 302, "headers": {"Location": "/x"}, "body": b"x" * 100, "drip": 0.2},
        UNAVAILABLE,
        "timed out",
    ),
    "400": ({"status": 400}, CONTRACT, "api_version"),
    "404": ({"status": 404}, CONTRACT, "api_version"),
    "410": ({"status": 410}, CONTRACT, "api_version"),
    "418 with HTML": ({"status": 418, "body": b"<h1>teapot"}, CONTRACT, "answered 418."),
    "401": ({"status": 401}, e.AimlBillingAuthError, "put a working key into the password of the connection"),
    "403 with another meaning": (
        {"status": 403, "message": "Not with this key"},
        e.AimlBillingAuthError,
        "not allowed to do this",
    ),
    "403 without a body": ({"status": 403, "body": b""}, UNAVAILABLE, "not the API's own answer"),
    "403 of a firewall": ({"status": 403, "body": b"<html>Blocked"}, UNAVAILABLE, "not the API's own answer"),
    "403 of a firewall that speaks JSON": (
        {"status": 403, "body": b'{"message": "Forbidden"}'},
        UNAVAILABLE,
        "not the API's own answer",
    ),
    "402": ({"status": 402, "body": b""}, e.InsufficientBalanceError, "top it up"),
    "403 of a used-up plan": (
        {"status": 403, "message": "You have exhausted the available [plan.rule:api_credit] resource limit. Upgrade."},
        e.InsufficientBalanceError,
        "top it up",
    ),
    "403 insufficient balance": (
        {"status": 403, "message": "Insufficient balance"},
        e.InsufficientBalanceError,
        "top it up",
    ),
    "403 out of credits": ({"status": 403}, e.InsufficientBalanceError, "top it up"),
    "HTML with 200": ({"body": b"<html>welcome</html>"}, UNAVAILABLE, "a body that is not JSON"),
    "empty with 200": ({"body": b""}, UNAVAILABLE, "a body that is not JSON"),
    "bytes that are not text": ({"body": b"\xff\xfe{"}, UNAVAILABLE, "a body that is not JSON"),
    "nested too deeply": ({"body": b"[" * 100_000}, UNAVAILABLE, "a body that is not JSON"),
    "JSON cut short": ({"body": json.dumps(COMPLETE).encode()[:40]}, UNAVAILABLE, "a body that is not JSON"),
    "connection cut short": ({"body": json.dumps(COMPLETE).encode(), "cut": 40}, UNAVAILABLE, "broke off"),
    "reset": ({"reset": True}, UNAVAILABLE, "broke off"),
    "no response": ({"delay": 5}, UNAVAILABLE, "timed out"),
    "one byte at a time": ({"body": with_(status='"' + "x" * 500 + '"'), "drip": 0.05}, UNAVAILABLE, "timed out"),
    "429": ({"status": 429}, UNAVAILABLE, "can be repeated later"),
    "500": ({"status": 500}, UNAVAILABLE, "can be repeated later"),
    "501": ({"status": 501}, UNAVAILABLE, "can be repeated later"),
    "502 with HTML": ({"status": 502, "body": b"<h1>bad gateway"}, UNAVAILABLE, "answered 502."),
    "500 with 50 MB": ({"status": 500, "body": b" " * 50_000_000}, UNAVAILABLE, "answered 500."),
}


@pytest.mark.parametrize("row", RESPONSES)
def test_a_bad_response_has_a_clear_error_and_opens_no_gate(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, row: str
) -> None:
    fault, error, message = RESPONSES[row]
    # Where a timeout is expected, a short one saves time. Elsewhere a long one keeps slow machines from timing out.
    monkeypatch.setenv(ENV, sandbox.connection(timeout=0.3 if message == "timed out" else 2))
    sandbox.fail(**fault)
    with pytest.raises(e.AimlBillingError) as caught:
        AimlBillingHook(retries=0).get_balance()
    assert type(caught.value) is error
    assert message in str(caught.value)
    assert len(sandbox.requests) == 1, "no redirect is followed, and nothing is retried unasked"
    # And the most permissive gate that exists does not open.
    gate = BalanceSensor(task_id="gate", threshold=0, silent_fail=True)
    assert not gate.poke({})  # type: ignore[typeddict-item]


THRESHOLDS = {
    "negative": "-1",
    "NaN": "'NaN'",
    "empty": "''",
    "boolean": "True",
    "another currency": "'12 EUR'",
    "a fraction without a unit": "'2.50'",
    "a template that was not rendered": "'{% raw %}{{ params.need }}{% endraw %}'",
    "a template that renders to None": "'{{ none }}'",
    "half a credit as a float": "2.5",
}


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("gate", ["BalanceSensor", "BalanceSensor-deferrable", "BalanceCheckOperator"])
def test_a_threshold_that_is_not_an_amount_opens_no_gate(
    run_dag: Any, sandbox: Sandbox, gate: str, threshold: str
) -> None:
    """A literal is refused when the DAG is parsed. What is only known when the task runs fails the task."""
    name, _, deferrable = gate.partition("-")
    arguments = f"task_id='gate', threshold={THRESHOLDS[threshold]}{', deferrable=True' if deferrable else ''}"
    if "{" not in THRESHOLDS[threshold]:
        namespace = {"BalanceSensor": BalanceSensor, "BalanceCheckOperator": BalanceCheckOperator}
        with pytest.raises(e.AimlBillingThresholdError, match="Write credits as 5000000"):
            eval(f"{name}({arguments})", namespace)
        with pytest.raises(e.AimlBillingThresholdError, match="Write credits as 5000000"):
            eval(f"require_balance({THRESHOLDS[threshold]})", {"require_balance": require_balance})
        arguments = f"task_id='gate', threshold='{{{{ params.amount }}}}', params={{'amount': {THRESHOLDS[threshold]}}}"
    run = run_dag(f"{name}({arguments})")
    assert run.state() == "failed"
    assert "AimlBillingThresholdError" in run.log
    assert "Write credits as 5000000" in run.log


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        *[("poke_interval", seconds) for seconds in (0, 0.0001, float("nan"), float("inf"))],
        *[("timeout", seconds) for seconds in (float("nan"), float("inf"))],
        *[("topup_grace", seconds) for seconds in (0, 1e12, float("nan"), float("inf"))],
    ],
)
def test_impossible_times_are_refused_when_the_dag_is_parsed(name: str, seconds: float) -> None:
    """NaN compares false with everything, so a plain comparison would let it pass."""
    with pytest.raises(ValueError, match=f"{name} must be"):
        BalanceSensor(task_id="gate", threshold=1, **{name: seconds})
