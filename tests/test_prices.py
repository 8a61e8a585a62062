"""The command that prints the rates of a model, and the words that name them."""

from __future__ import annotations

import re
import subprocess
import sys
from decimal import Decimal

import pytest

from airflow_provider_aimlbilling.client.client import AimlBillingClient
from airflow_provider_aimlbilling.client.settings import Settings
from airflow_provider_aimlbilling.exceptions import AimlBillingAuthError
from airflow_provider_aimlbilling.prices import main
from airflow_provider_aimlbilling.sandbox import Sandbox


def prices(sandbox: Sandbox, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main([*arguments, "--base-url", sandbox.url])
    return capsys.readouterr().out


def test_it_prints_each_rate_and_sends_no_key(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    printed = prices(sandbox, capsys, "GPT")
    assert "'text input token' at 2.5 USD for 1000000" in printed
    assert "'text cached input token' at 0.25 USD for 1000000" in printed
    assert not [request for request in sandbox.requests if request.headers.get("Authorization")]


def test_the_words_that_it_prints_price_a_job(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """What it suggests can be pasted: EstimateCostOperator accepts every word."""
    labels = re.findall(r"'([a-z ]+)': …", prices(sandbox, capsys, "sandbox/gpt"))
    pricing = AimlBillingClient(Settings(None, base_url=sandbox.url)).get_pricing("sandbox/gpt")
    assert pricing.estimate(dict.fromkeys(labels, 1_000_000)).amount.usd == Decimal("12.75")


def test_it_says_what_a_variant_needs(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert "variant={'resolution': '720p'}" in prices(sandbox, capsys, "sandbox/video")
    assert "only known with the response" in prices(sandbox, capsys, "sandbox/agent")


def test_an_unknown_model_is_an_error(sandbox: Sandbox) -> None:
    command = [sys.executable, "-m", "airflow_provider_aimlbilling.prices", "gtp", "--base-url", sandbox.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "no model with that id or alias" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_names_the_server_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the balance. Somebody may have to open it in a firewall."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # so that nothing leaves this machine
    with pytest.raises(SystemExit, match=r"^No answer from https://api\.aimlapi\.com: the proxy failed"):
        main(["sandbox/gpt"])


def test_without_a_key_only_the_catalogue_answers(sandbox: Sandbox) -> None:
    with pytest.raises(AimlBillingAuthError):
        AimlBillingClient(Settings(None, base_url=sandbox.url), retries=0).get_balance()
