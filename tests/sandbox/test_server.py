"""The sandbox as users run it: from the command line, and with a balance that changes while it runs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
import requests

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sandbox.__main__ import main

COMMAND = [sys.executable, "-m", "airflow_provider_aimlbilling.sandbox"]


def test_the_balance_changes_while_it_runs(sandbox: Sandbox) -> None:
    for path, balance in [
        ("/sandbox/spend?amount=1USD", 3_000_000),
        ("/sandbox/top-up?amount=500", 3_000_500),
        ("/sandbox/set?amount=9999", 9_999),
        ("/sandbox/spend?amount=$1", 0),
    ]:
        response = requests.post(sandbox.url + path, timeout=5)
        assert (response.status_code, response.json()["balance"]) == (200, balance)
        assert sandbox.balance.credits == balance
    assert response.json()["lowBalance"] is True


@pytest.mark.parametrize("path", ["/sandbox/top-up?amount=much", "/sandbox/top-up"])
def test_a_change_that_is_not_an_amount_is_refused(sandbox: Sandbox, path: str) -> None:
    response = requests.post(sandbox.url + path, timeout=5)
    assert response.status_code == 400
    assert "Write credits as" in response.json()["message"]
    assert sandbox.balance.credits == 5_000_000


def test_an_unknown_change_is_not_found(sandbox: Sandbox) -> None:
    assert requests.post(f"{sandbox.url}/sandbox/steal?amount=1", timeout=5).status_code == 404


def test_invalid_settings_are_refused_at_once(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="no_reset, day, week, month, not 'dayly'"):
        sandbox.set_key_limit("5 USD", "dayly")
    with pytest.raises(SystemExit):
        main(["--port", sandbox.url.rpartition(":")[2]])


def test_it_listens_on_this_machine_only(sandbox: Sandbox) -> None:
    assert sandbox._server.server_address[0] == "127.0.0.1"


def test_it_can_be_stopped_before_it_was_started() -> None:
    Sandbox(1).stop()


def test_an_invalid_balance_leaves_no_port_open() -> None:
    with pytest.raises(AimlBillingThresholdError):
        Sandbox("-1")


def test_the_command_prints_the_line_that_sets_the_connection() -> None:
    with subprocess.Popen([*COMMAND, "--balance", "2.50 USD"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            export, assignment = shlex.split(process.stdout.readline())
            assert export == "export"
            name, _, value = assignment.partition("=")
            assert name == "AIRFLOW_CONN_AIMLBILLING_DEFAULT"
            connection = json.loads(value)
            headers = {"Authorization": f"Bearer {connection['password']}"}
            response = requests.get(f"{connection['host']}/v1/billing/balance", headers=headers, timeout=5)
            assert response.json()["balance"] == 5_000_000
        finally:
            process.terminate()


def test_the_command_refuses_a_balance_that_is_not_an_amount() -> None:
    run = subprocess.run([*COMMAND, "--balance", "lots"], check=False, capture_output=True, text=True, timeout=30)
    assert run.returncode == 2
    assert "Write credits as" in run.stderr
