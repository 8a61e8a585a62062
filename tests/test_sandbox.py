"""The sandbox is for users too: what its page says, it does."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from conftest import KEY

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.sandbox import Sandbox, main

V1_FIELDS = {
    "balance": int,
    "lowBalance": bool,
    "lowBalanceThreshold": int,
    "lastUpdated": str,
    "autoDebitStatus": str,
    "status": str,
    "statusExplanation": str,
}


def ask(sandbox: Sandbox, path: str, *, key: str = KEY, method: str = "GET") -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(sandbox.url + path, headers={"Authorization": f"Bearer {key}"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def test_v1_has_the_documented_shape(sandbox: Sandbox) -> None:
    status, answer = ask(sandbox, "/v1/billing/balance")
    assert status == 200
    assert {name: type(value) for name, value in answer.items()} == V1_FIELDS


def test_what_is_set_wrong_is_refused_at_once(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="no_reset, day, week, month, not 'dayly'"):
        sandbox.set_key_limit("5 USD", "dayly")
    with pytest.raises(SystemExit):
        main(["--port", sandbox.url.rpartition(":")[2]])


def test_v2_has_the_documented_shape(sandbox: Sandbox) -> None:
    assert ask(sandbox, "/v2/billing") == (200, {"current_balance": 2.5, "currency": "USD"})


@pytest.mark.parametrize(("path", "key", "status"), [("/v1/billing/balance", "wrong", 401), ("/v3/billing", KEY, 404)])
def test_errors_have_the_vendor_s_body(sandbox: Sandbox, path: str, key: str, status: int) -> None:
    code, answer = ask(sandbox, path, key=key)
    assert code == status
    assert set(answer) == {"message", "path", "requestId", "statusCode", "timestamp"}
    assert (answer["statusCode"], answer["path"]) == (str(status), path)


def test_money_moves_while_it_runs(sandbox: Sandbox) -> None:
    for method, path, balance in [
        ("POST", "/sandbox/spend?amount=1USD", 3_000_000),
        ("POST", "/sandbox/top-up?amount=500", 3_000_500),
        ("POST", "/sandbox/set?amount=9999", 9_999),
        ("GET", "/v1/billing/balance", 9_999),
        ("POST", "/sandbox/spend?amount=$1", 0),
    ]:
        status, answer = ask(sandbox, path, method=method)
        assert (status, answer["balance"]) == (200, balance)
    assert answer["lowBalance"] is True


@pytest.mark.parametrize("path", ["/sandbox/top-up?amount=much", "/sandbox/top-up"])
def test_a_change_that_is_no_money_is_refused(sandbox: Sandbox, path: str) -> None:
    status, answer = ask(sandbox, path, method="POST")
    assert status == 400
    assert "Write credits as" in str(answer["message"])
    assert sandbox.balance.credits == 5_000_000


def test_it_listens_on_this_machine_alone(sandbox: Sandbox) -> None:
    assert sandbox._server.server_address[0] == "127.0.0.1"


def test_the_command_prints_the_line_that_sets_the_connection() -> None:
    command = [sys.executable, "-m", "airflow_provider_aimlbilling.sandbox", "--balance", "2.50 USD"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            export, assignment = shlex.split(process.stdout.readline())
            assert export == "export"
            name, _, value = assignment.partition("=")
            assert name == "AIRFLOW_CONN_AIMLBILLING_DEFAULT"
            connection = json.loads(value)
            request = urllib.request.Request(
                connection["host"] + "/v1/billing/balance",
                headers={"Authorization": f"Bearer {connection['password']}"},
            )
            with urllib.request.urlopen(request, timeout=5) as answer:
                assert json.load(answer)["balance"] == 5_000_000
        finally:
            process.terminate()


def test_the_command_refuses_a_balance_that_is_no_money() -> None:
    command = [sys.executable, "-m", "airflow_provider_aimlbilling.sandbox", "--balance", "lots"]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert run.returncode == 2
    assert "Write credits as" in run.stderr


def test_it_can_be_stopped_before_it_was_started() -> None:
    Sandbox(1).stop()


def test_parts_of_a_credit_are_served_exactly(sandbox: Sandbox) -> None:
    sandbox.set_balance("0.1 credits")
    sandbox.top_up("0.2 credits")
    request = urllib.request.Request(sandbox.url + "/v1/billing/balance", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert b'"balance": 0.3,' in answer.read()


def test_a_refused_balance_leaves_no_port_open() -> None:
    with pytest.raises(AimlBillingThresholdError):
        Sandbox("-1")
