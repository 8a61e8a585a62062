"""Settings: what they accept, and the URLs that follow from them. tests/test_bad_input.py has the bad connections."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support import KEY

from airflow_provider_aimlbilling.client import Settings
from airflow_provider_aimlbilling.exceptions import AimlBillingConnectionError


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://billing.aimlapi.com/v1/billing/balance"),
        ({"api_version": "v2"}, "https://api.aimlapi.com/v2/billing"),
        ({"base_url": "gateway.example.com:8443/"}, "https://gateway.example.com:8443/v1/billing/balance"),
        ({"base_url": "http://[::1]:8080"}, "http://[::1]:8080/v1/billing/balance"),
        ({"base_url": "::1"}, "https://[::1]/v1/billing/balance"),
    ],
)
def test_the_url_of_the_balance_follows_from_base_url_and_version(fields: dict[str, str], url: str) -> None:
    settings = Settings(key=KEY, **fields)
    assert (settings.balance_url, settings.timeout) == (url, 10)


def test_the_vendor_s_balance_host_is_used_for_the_balance_only() -> None:
    vendor = Settings(conn_id="c", key="k", base_url="https://billing.aimlapi.com", timeout=1, api_version="v1")
    assert vendor.url_for("/v1/key") == "https://api.aimlapi.com/v1/key"
    assert vendor.balance_url == "https://billing.aimlapi.com/v1/billing/balance"
    other = Settings(conn_id="c", key="k", base_url="https://gateway.example", timeout=1, api_version="v1")
    assert other.url_for("/v1/key") == "https://gateway.example/v1/key"


@pytest.mark.parametrize(
    ("fields", "fix"),
    [
        ({"key": ""}, "no API key"),
        ({"key": KEY + "\n"}, "Paste the key again"),
        ({"base_url": "http://billing.example.com"}, "use https://"),
        ({"base_url": "https://billing.example.com/v1"}, "more than scheme, name and port"),
        ({"timeout": 0}, "a number of seconds above 0"),
        ({"timeout": 3601}, "up to 3600"),
        ({"api_version": "v3"}, "set it to 'v1' or 'v2'"),
    ],
)
def test_settings_without_a_connection_are_checked_too(fields: dict[str, Any], fix: str) -> None:
    with pytest.raises(AimlBillingConnectionError, match="The configuration of the client is invalid") as caught:
        Settings(**{"key": KEY} | fields)
    assert fix in str(caught.value)
    assert KEY[:6] not in str(caught.value)


@pytest.mark.parametrize("extra", ["[1]", '"v1"', "timeout=5"])
def test_an_extra_that_is_not_an_object_is_refused(extra: str) -> None:
    # Not through Airflow, because 3.0 and 3.1 treat such a connection as missing.
    with pytest.raises(AimlBillingConnectionError, match=r'write it like \{"timeout": 10'):
        Settings.from_connection(SimpleNamespace(conn_id="x", conn_type="", extra=extra))  # type: ignore[arg-type]


def test_the_repr_does_not_contain_the_key() -> None:
    assert KEY not in repr(Settings(key=KEY))
