"""
The table in docs/reference/errors.md: what a refusal means, to the client and to the retry policy.

Each row is sent over a socket. The retry policy reads the real exceptions of the usual HTTP clients.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import requests
from support import AIRFLOW, KEY

from airflow_provider_aimlbilling.client.refusals import Refusal, classify_refusal
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox

VENDOR = {"requestId": "5d0e", "statusCode": 403, "path": "/v1/chat/completions"}
PLAN = "You have exhausted the available [plan.rule:api_credit] resource limit. Upgrade your plan."
OUT, KEY_REFUSED, NOT_ALLOWED = Refusal.OUT_OF_CREDITS, Refusal.KEY_REFUSED, Refusal.NOT_ALLOWED
LIMITED, DOWN, OTHER = Refusal.RATE_LIMITED, Refusal.UNAVAILABLE, Refusal.NOT_THE_API

ROWS: dict[str, tuple[int, object, Refusal]] = {
    "402, JSON": (402, {"message": "Payment required"}, OUT),
    "402, a page": (402, "<html>", OUT),
    "402, nothing": (402, "", OUT),
    "403, run out of credits": (403, VENDOR | {"message": "You've run out of credits."}, OUT),
    "403, run out of funds": (403, VENDOR | {"message": "Your account has run out of funds, top it up"}, OUT),
    "403, a used-up plan": (403, VENDOR | {"message": PLAN}, OUT),
    "403, insufficient balance": (403, {"message": "Insufficient balance"}, OUT),
    "403, insufficient account balance": (403, {"message": "Insufficient account balance"}, OUT),
    "403, not enough credits": (403, VENDOR | {"message": "You don't have enough credits"}, OUT),
    "403, a list of messages": (403, VENDOR | {"message": ["You have run out of credits"]}, OUT),
    "403, a code word": (403, {"error": {"code": "insufficient_credits", "message": "No."}}, OUT),
    "400, a code word": (400, {"error": {"code": "insufficient_quota", "message": "Upgrade."}}, OUT),
    "429, a code word": (429, {"error": {"type": "insufficient_quota", "message": "Upgrade."}}, OUT),
    "401, the API's": (401, VENDOR | {"message": "Invalid key"}, KEY_REFUSED),
    "401, a page": (401, "<html>", KEY_REFUSED),
    "403, not allowed": (403, VENDOR | {"message": "This key may not use the route"}, NOT_ALLOWED),
    "403, a firewall's page": (403, "<html>Access denied</html>", OTHER),
    "403, a firewall's JSON": (403, {"message": "Forbidden"}, OTHER),
    "429": (429, VENDOR | {"message": "Too many requests"}, LIMITED),
    "429, a limit in credits": (429, {"message": "Rate limit exhausted: at most 1000 credits a minute"}, LIMITED),
    "408": (408, "", DOWN),
    "500": (500, VENDOR | {"message": "Internal error"}, DOWN),
    "503, out of credits": (503, {"message": "out of credits"}, DOWN),
    "302": (302, "", OTHER),
    "404": (404, VENDOR | {"message": "Cannot GET"}, OTHER),
    "410": (410, "", OTHER),
    "422, out of credits": (422, {"message": "out of credits"}, OTHER),
}
ERRORS = {
    OUT: InsufficientBalanceError,
    KEY_REFUSED: AimlBillingAuthError,
    NOT_ALLOWED: AimlBillingAuthError,
    LIMITED: AimlBillingUnavailable,
    DOWN: AimlBillingUnavailable,
    OTHER: AimlBillingContractError,
}
DECISIONS = {OUT: "fail", KEY_REFUSED: "fail", NOT_ALLOWED: "fail", LIMITED: "retry", DOWN: "retry", OTHER: "default"}


def refuse(sandbox: Sandbox, row: str) -> None:
    status, body, _ = ROWS[row]
    sandbox.fail(status=status, body=(body if isinstance(body, str) else json.dumps(body)).encode())


def by_requests(url: str) -> None:
    requests.get(url, timeout=5, allow_redirects=False).raise_for_status()


def by_httpx(url: str) -> None:
    httpx.get(url, timeout=5).raise_for_status()


def by_aiohttp(url: str) -> None:
    import aiohttp

    async def call() -> None:
        async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as response:
            response.raise_for_status()

    asyncio.run(call())


def by_openai(url: str) -> None:
    import openai

    with openai.OpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
        client.models.list()


def by_openai_in_a_task_group(url: str) -> None:
    """Raise an ExceptionGroup, as asyncio.TaskGroup does on Python 3.11 and later."""
    import openai

    async def call() -> None:
        async with asyncio.TaskGroup() as group:
            client = openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0)
            for _ in range(3):
                group.create_task(client.models.retrieve("m"))

    asyncio.run(call())


CLIENTS = [by_requests, by_httpx, by_aiohttp, by_openai, by_openai_in_a_task_group]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_table(row: str) -> None:
    status, body, meaning = ROWS[row]
    assert classify_refusal(status, body) is meaning
    assert classify_refusal(status, json.dumps(body).encode()) is meaning


@pytest.mark.parametrize("row", ROWS)
def test_the_client_raises_the_error_of_the_row(sandbox: Sandbox, row: str) -> None:
    status, _, meaning = ROWS[row]
    refuse(sandbox, row)
    with pytest.raises(AimlBillingError) as caught:
        AimlBillingHook(retries=0).get_balance()
    of_firewall = status == 403 and meaning is OTHER
    assert type(caught.value) is (AimlBillingUnavailable if of_firewall else ERRORS[meaning])


@pytest.mark.skipif(AIRFLOW.startswith(("2.", "3.0.", "3.1.", "3.2.")), reason="Airflow 3.3 added retry policies")
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
@pytest.mark.parametrize("row", ROWS)
def test_the_retry_policy_reads_the_exceptions_of_clients(
    sandbox: Sandbox, row: str, client: Callable[[str], Any]
) -> None:
    status, _, meaning = ROWS[row]
    name = client.__name__.split("_")[1]
    pytest.importorskip(name)
    if client is by_openai_in_a_task_group and not hasattr(asyncio, "TaskGroup"):
        pytest.skip("Python 3.11 added asyncio.TaskGroup")
    if status == 302 and name != "httpx":
        pytest.skip("this client does not raise for a redirect")
    refuse(sandbox, row)
    policy = importlib.import_module("airflow_provider_aimlbilling.retry_policy").AimlApiRetryPolicy()
    with pytest.raises(Exception) as caught:
        client(f"{sandbox.url}/v1")
    if name == "aiohttp":  # its error has no body
        meaning = classify_refusal(status)
        if status == 403:
            meaning = NOT_ALLOWED
    expected = DECISIONS[meaning]
    assert policy.evaluate(caught.value, 1, 3).action.value == expected
