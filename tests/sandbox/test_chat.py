"""Chats that the sandbox completes: they cost what the catalogue says, and appear in log, ledger and usage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from shapes import SHAPES, deviations
from support import KEY

from airflow_provider_aimlbilling.sandbox import Sandbox

Get = Callable[..., requests.Response]
CHAT = {"model": "sandbox/chat", "messages": [{"role": "user", "content": "x" * 400}]}


def post(sandbox: Sandbox, chat: Any = CHAT, key: str = KEY, **headers: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"} | {name.replace("_", "-"): text for name, text in headers.items()}
    return requests.post(f"{sandbox.url}/v1/chat/completions", json=chat, headers=headers, timeout=5)


def test_a_chat_is_charged_logged_and_recorded_alike(sandbox: Sandbox, get: Get) -> None:
    response = post(sandbox, X_Client_Request_Id="customer-42")
    assert response.status_code == 200
    assert response.json()["usage"] == {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200}
    assert response.json()["choices"][0]["message"]["content"] == "x" * 400
    credits = 100 * 5 + 100 * 20  # 2.50 and 10 USD per million tokens
    assert sandbox.balance.credits == 5_000_000 - credits
    assert response.headers["x-aimlapi-credits-used"] == str(credits)
    assert response.headers["x-aimlapi-usd-spent"] == "0.00125"
    (row,) = get("/v2/logs", period="1h").json()["data"]
    assert row["cost"] == {"usd": 0.00125, "credits": credits}
    assert row["tokens"] == {"input": 100, "output": 100, "total": 200}
    assert (row["status"], row["model"], row["client_request_id"]) == ("succeeded", "sandbox/chat", "customer-42")
    charge = get("/v2/billing/transactions").json()["data"][0]
    assert (charge["amount"]["credits"], charge["model"]) == (credits, "sandbox/chat")
    assert row["inference_id"] == charge["reference_id"] == response.headers["x-inference-id"]
    assert get("/v2/usage", period="1h").json()["spend"] == 0.00125


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_reply_is_no_longer_than_its_limit(sandbox: Sandbox, name: str) -> None:
    answer = post(sandbox, CHAT | {name: 7}).json()
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("model", ["chat", "SANDBOX/CHAT", "sandbox/gpt", "sandbox/mini"])
def test_every_chat_model_with_fixed_rates_answers(sandbox: Sandbox, model: str) -> None:
    parts = [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "you"}]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    assert post(sandbox, {"model": model, "messages": messages}).json()["usage"]["prompt_tokens"] == 6
    assert sandbox.balance.credits < 5_000_000


@pytest.mark.parametrize(
    ("client_request_id", "stored"),
    [("a.B_9:-", True), ("x" * 128, True), ("x" * 129, False), ("a+b", False), ("a b", False), ("", False)],
)
def test_a_client_request_id_outside_the_alphabet_is_dropped(
    sandbox: Sandbox, get: Get, client_request_id: str, stored: bool
) -> None:
    assert post(sandbox, X_Client_Request_Id=client_request_id).status_code == 200
    (row,) = get("/v2/logs", period="1h").json()["data"]
    assert row["client_request_id"] == (client_request_id if stored else None)


@pytest.mark.parametrize(
    ("chat", "balance", "status"),
    [
        (CHAT | {"model": "sandbox/none"}, "1 USD", 404),
        (CHAT | {"model": "sandbox/video"}, "1 USD", 404),
        (CHAT | {"stream": True}, "1 USD", 400),
        (CHAT | {"messages": []}, "1 USD", 400),
        (CHAT | {"messages": [{"role": "user"}]}, "1 USD", 400),
        (CHAT | {"max_tokens": 0}, "1 USD", 400),
        (CHAT, "0", 403),
        (CHAT, "2499", 403),
    ],
)
def test_a_refused_chat_is_logged_and_costs_nothing(
    sandbox: Sandbox, get: Get, chat: Any, balance: str, status: int
) -> None:
    sandbox.set_balance(balance)
    before = sandbox.balance
    response = post(sandbox, chat, X_Client_Request_Id="customer-42")
    assert response.status_code == status
    assert deviations(response.json(), SHAPES["error"]) == []
    assert sandbox.balance == before
    (row,) = get("/v2/logs", period="1h", status="failed").json()["data"]
    assert (row["cost"]["credits"], row["model"], row["client_request_id"]) == (0, chat["model"], "customer-42")


@pytest.mark.parametrize(
    ("chat", "key", "status"),
    [([], KEY, 400), ({}, KEY, 400), ({"model": 1}, KEY, 400), (CHAT, "wrong", 401), (CHAT, "management", 403)],
)
def test_what_is_no_chat_of_the_key_is_refused(sandbox: Sandbox, chat: Any, key: str, status: int) -> None:
    key = sandbox.account.management_key if key == "management" else key
    assert post(sandbox, chat, key).status_code == status
    assert not sandbox.account.log


def test_a_fault_meets_chats_too(sandbox: Sandbox) -> None:
    sandbox.fail(status=429, retry_after=1, times=1)
    assert [post(sandbox).status_code for _ in range(2)] == [429, 200]
    assert [request.method for request in sandbox.requests] == ["POST"] * 2


def test_openai_s_client_works_against_the_sandbox(sandbox: Sandbox, get: Get) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{sandbox.url}/v1", api_key=KEY, max_retries=0) as client:
        messages = [{"role": "user", "content": "Hello"}]
        answer = client.chat.completions.create(
            model="sandbox/chat", messages=messages, extra_headers={"X-Client-Request-Id": "customer-42"}
        )
        assert answer.choices[0].message.content == "Hello"
        assert answer.usage.total_tokens == 4
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="none", messages=messages)
        sandbox.set_balance(0)
        with pytest.raises(openai.PermissionDeniedError, match="run out of credits"):
            client.chat.completions.create(model="sandbox/chat", messages=messages)
    rows = get("/v2/logs", period="1h").json()["data"]
    assert [row["status"] for row in rows] == ["failed", "failed", "succeeded"]
    assert rows[2]["client_request_id"] == "customer-42"
