"""HTTP: what is sent, where the key may go, and what faults of the network mean."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from raw_server import BALANCE, RawServer, answer
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings, http
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingConnectionError,
    AimlBillingContractError,
    AimlBillingUnavailable,
)
from airflow_provider_aimlbilling.sandbox import Sandbox


def test_the_request_is_the_documented_one(sandbox: Sandbox, client: AimlBillingClient) -> None:
    client.get_balance()
    (request,) = sandbox.requests
    assert (request.method, request.path) == ("GET", "/v1/billing/balance")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith("airflow-provider-aimlbilling/")
    assert "Content-Length" not in request.headers


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
def test_retry_after_is_read_and_capped_at_one_hour(
    sandbox: Sandbox, client: AimlBillingClient, header: str, seconds: float | None
) -> None:
    sandbox.fail(status=503, retry_after=header)
    with pytest.raises(AimlBillingUnavailable) as caught:
        client.get_balance()
    assert caught.value.retry_after == seconds


def test_a_redirect_is_not_followed(sandbox: Sandbox, other_host: Sandbox, client: AimlBillingClient) -> None:
    sandbox.fail(status=307, headers={"Location": f"{other_host.url}/v1/billing/balance"})
    with pytest.raises(AimlBillingContractError, match="Redirects are not followed"):
        client.get_balance()
    assert other_host.requests == []


def test_a_netrc_does_not_replace_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sandbox: Sandbox, client: AimlBillingClient
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    client.get_balance()
    assert sandbox.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_proxy_never_sees_the_key_unencrypted(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, other_host: Sandbox, client: AimlBillingClient
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", other_host.url)
    monkeypatch.setenv("http_proxy", other_host.url)
    client.get_balance()
    assert other_host.requests == []
    assert len(sandbox.requests) == 1


def test_https_uses_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, other_host: Sandbox) -> None:
    monkeypatch.setenv("HTTPS_PROXY", other_host.url)
    client = AimlBillingClient(Settings(key=KEY, base_url="https://b.invalid"), retries=0)
    with pytest.raises(AimlBillingUnavailable, match="the proxy failed"):  # the sandbox does not support CONNECT
        client.get_balance()


@pytest.mark.parametrize(
    ("base_url", "fault"),
    [("https://billing.invalid", "does not resolve"), ("http://127.0.0.1:9", "cannot connect")],
)
def test_an_unreachable_host_means_unavailable(base_url: str, fault: str) -> None:
    with pytest.raises(AimlBillingUnavailable, match=fault):
        AimlBillingClient(Settings(key=KEY, base_url=base_url), retries=0).get_balance()


def test_a_closed_client_sends_no_request(sandbox: Sandbox, client: AimlBillingClient) -> None:
    client.close()
    with pytest.raises(AimlBillingUnavailable, match="closed"):
        client.get_balance()
    assert sandbox.requests == []


def test_a_connection_that_was_closed_meanwhile_is_replaced_at_once() -> None:
    """A load balancer closes idle connections. That must not cost a poll."""
    with RawServer(lambda: [answer(BALANCE)]) as server:  # it closes the connection after each answer, unannounced
        client = AimlBillingClient(Settings(KEY, server.url, 2), retries=0)
        for _ in range(4):
            assert client.get_balance().balance == 5_000_000
            time.sleep(0.05)
        assert server.connections == 4


def test_a_connection_that_breaks_at_once_is_not_tried_again() -> None:
    with RawServer(list) as server, pytest.raises(AimlBillingUnavailable, match="broke off"):
        AimlBillingClient(Settings(KEY, server.url, 2), retries=0).get_balance()
    assert server.connections == 1


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, client: AimlBillingClient
) -> None:
    """A firewall may have dropped it without a word, and then the next request would wait for its timeout."""
    monkeypatch.setattr(http, "MAX_IDLE_TIME", 0.2)
    client.get_balance()
    client.get_balance()
    assert sandbox.connections == 1
    time.sleep(0.3)
    client.get_balance()
    assert sandbox.connections == 2


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_ca_bundle_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "/no/such/file.pem")
    with pytest.raises(AimlBillingConnectionError, match=f"{variable} .* does not exist"):
        AimlBillingClient(Settings(KEY, "https://127.0.0.1:9"), retries=0).get_balance()


@pytest.mark.parametrize("proxy", ["http://", "socks5://127.0.0.1:9", "http://[::1"])
def test_a_proxy_that_cannot_work_is_an_error_of_the_settings(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(AimlBillingConnectionError, match="Correct HTTPS_PROXY"):
        AimlBillingClient(Settings(KEY, "https://b.invalid", 2), retries=0).get_balance()
