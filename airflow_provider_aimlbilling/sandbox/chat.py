"""
The response of ``POST /v1/chat/completions``: a reply, what it costs, and the log row of the request.

The reply repeats the last message, up to ``max_tokens``. Four characters are a token, so that a test knows in advance
what a request costs.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from airflow_provider_aimlbilling.money.amount import CREDITS_PER_USD, EXACT, Amount
from airflow_provider_aimlbilling.sandbox.account import Account
from airflow_provider_aimlbilling.sandbox.errors import BadRequestError, ForbiddenError, NotFoundError

CHARACTERS_PER_TOKEN = 4
_CHAT = "openai/chat-completions"
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def complete_chat(
    account: Account, body: bytes, client_request_id: str | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Answer a chat and charge the account. A request that is refused is logged too, and costs nothing.

    :param account: the account.
    :param body: the body of the request.
    :param client_request_id: the header ``X-Client-Request-Id``. As in the API, an invalid one is dropped.
    :returns: the response, as JSON values, and its headers.
    :raises BadRequestError: the body is not a chat.
    :raises NotFoundError: the catalogue has no such model for chats.
    :raises ForbiddenError: the account cannot pay.
    """
    if client_request_id is not None and not _CLIENT_REQUEST_ID.fullmatch(client_request_id):
        client_request_id = None
    chat = _parse(body)
    model = next((model for model in account.catalogue if _is_chat_model(model, chat["model"])), None)
    try:
        if model is None:
            raise NotFoundError(f"There is no model {chat['model']!r} for chat completions.")
        texts, max_tokens = _messages(chat), _max_tokens(chat)
    except (BadRequestError, NotFoundError):
        account.log_failure(model["id"] if model else chat["model"], client_request_id)
        raise
    prompt = sum(map(_count_tokens, texts))
    reply = texts[-1] if max_tokens is None else texts[-1][: max_tokens * CHARACTERS_PER_TOKEN]
    tokens = prompt, _count_tokens(reply)
    row = account.request(model["id"], _cost(model["pricing"]["units"], *tokens), tokens, client_request_id)
    if not row.succeeded:
        raise ForbiddenError
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": reply},
        "finish_reason": "stop" if reply == texts[-1] else "length",
    }
    response = {
        "id": f"chatcmpl-{row.request_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model["id"],
        "choices": [choice],
        "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
    }
    headers = {
        "x-inference-id": row.inference_id,
        "x-aimlapi-credits-used": str(row.credits),
        "x-aimlapi-usd-spent": format(Amount(row.credits).usd, "f"),
    }
    return response, headers


def _parse(body: bytes) -> dict[str, Any]:
    try:
        chat = json.loads(body)
    except ValueError:
        raise BadRequestError("The body must be JSON.") from None
    if not isinstance(chat, dict) or not isinstance(chat.get("model"), str):
        raise BadRequestError("model must be the name of a model.")
    return chat


def _is_chat_model(model: Mapping[str, Any], name: str) -> bool:
    names = {known.lower() for known in (model["id"], *model["aliases"])}
    return model["type"] == _CHAT and model["pricing"]["kind"] == "fixed" and name.lower() in names


def _messages(chat: Mapping[str, Any]) -> list[str]:
    """Return the texts of the messages."""
    if chat.get("stream"):
        raise BadRequestError("The sandbox does not stream: leave out stream.")
    messages = chat.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages must be a list of messages.")
    try:
        return [_text(message["content"]) for message in messages]
    except (KeyError, TypeError):
        raise BadRequestError("Each message must have a text as its content.") from None


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _max_tokens(chat: Mapping[str, Any]) -> int | None:
    limit = chat.get("max_completion_tokens", chat.get("max_tokens"))
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise BadRequestError("max_tokens must be 1 or more.")
    return limit


def _count_tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _cost(units: list[Mapping[str, Any]], prompt: int, reply: int) -> Amount:
    """Return the cost in whole credits, rounded up."""
    usd = Decimal(0)
    for count, measure, origin in ((prompt, "input", "provided"), (reply, "output", "generated")):
        rate = next(unit for unit in units if unit.get("origin", unit["measure"]) in (measure, origin))
        usd = EXACT.add(usd, EXACT.divide(EXACT.multiply(Decimal(count), rate["price"]), Decimal(rate["per"])))
    return Amount(int(EXACT.multiply(usd, CREDITS_PER_USD).to_integral_value(ROUND_CEILING)))
