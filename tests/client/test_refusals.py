"""Refusals: the error for each status, and what it quotes of the vendor's message."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from endpoints import CALLS
from support import KEY

from airflow_provider_aimlbilling.client import AimlBillingClient, Settings
from airflow_provider_aimlbilling.exceptions import AimlBillingAuthError, AimlBillingError, AimlBillingUnavailable
from airflow_provider_aimlbilling.sandbox import Sandbox


@pytest.mark.parametrize("call", CALLS)
def test_a_status_means_the_same_for_every_endpoint(sandbox: Sandbox, client: AimlBillingClient, call: str) -> None:
    for status, error in ((401, AimlBillingAuthError), (503, AimlBillingUnavailable)):
        sandbox.fail(status=status)
        with pytest.raises(error) as caught:
            CALLS[call](client)
        assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        f"The key [{KEY}] is wrong",
        f"The key {KEY[:8]}… is wrong",
        f"no such key: …{KEY[-4:]}",
        KEY.replace("Z", "\x00Z"),
    ],
)
def test_the_vendor_s_message_is_quoted_without_any_part_of_the_key(
    sandbox: Sandbox, client: AimlBillingClient, message: str
) -> None:
    sandbox.fail(status=401, message=message)
    with pytest.raises(AimlBillingAuthError) as caught:
        client.get_balance()
    text = str(caught.value)
    assert not any(KEY[start : start + 4] in text for start in range(len(KEY) - 3))
    assert text.isprintable()
    assert "requestId" in text
    assert "[" not in text, "Airflow's command line would read it as markup"


PERSONAL = {"message": "Access of jane.doe@example.com was blocked", "user": "jane.doe@example.com"}
VENDOR = {"message": "The key of Jane <jane.doe@example.com> is blocked.", "requestId": "r-1", "statusCode": "403"}


@pytest.mark.parametrize("status", [302, 400, 401, 402, 403, 404, 429, 500])
def test_a_body_that_is_not_the_api_s_own_error_is_not_quoted(
    sandbox: Sandbox, client: AimlBillingClient, status: int
) -> None:
    for body in (PERSONAL, {"message": PERSONAL["message"], "code": 7}, [PERSONAL], PERSONAL["message"]):
        sandbox.fail(status=status, body=json.dumps(body).encode())
        with pytest.raises(AimlBillingError, match=rf"answered {status}\.") as caught:
            client.get_balance()
        assert not re.search("jane|example|blocked", str(caught.value))


def test_the_vendor_s_message_is_quoted_without_e_mail_addresses(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.fail(status=403, body=json.dumps(VENDOR).encode())
    with pytest.raises(AimlBillingAuthError, match=r"\(The key of Jane \*\*\* is blocked\.; requestId r-1\)"):
        client.get_balance()


def test_a_long_message_of_the_vendor_is_cut(sandbox: Sandbox, client: AimlBillingClient) -> None:
    sandbox.fail(status=401, message="a\n" * 5000)
    with pytest.raises(AimlBillingAuthError) as caught:
        client.get_balance()
    assert len(str(caught.value)) < 600


def test_the_refusal_of_a_management_key_names_the_right_kind_of_key(sandbox: Sandbox, settings: Settings) -> None:
    client = AimlBillingClient(replace(settings, key=sandbox.account.management_key), retries=0)
    with pytest.raises(AimlBillingAuthError, match="regular key"):
        list(client.iter_transactions())


def test_a_refused_key_is_to_be_replaced_where_it_came_from(sandbox: Sandbox, settings: Settings) -> None:
    sandbox.fail(status=401)
    of_connection = "Key of 'team_a' refused (401): put a working key into the password of the connection "
    for conn_id, message in (
        ("team_a", of_connection),
        ("", "API key refused (401): put a working key into the settings."),
    ):
        client = AimlBillingClient(replace(settings, conn_id=conn_id), retries=0)
        with pytest.raises(AimlBillingAuthError, match=f"^{re.escape(message)}"):
            client.get_balance()
