"""
What a response with a status other than 200 means: one classifier for the client and the retry policy.

Errors quote only the vendor's message and request id, without the key: a body may hold personal data, and many people
read errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from airflow_provider_aimlbilling.client.http import ApiResponse
from airflow_provider_aimlbilling.client.settings import Settings
from airflow_provider_aimlbilling.client.text import clean_text
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)


class Refusal(Enum):
    """What a refusal means."""

    OUT_OF_CREDITS = "the account is out of credits"
    KEY_REFUSED = "the key was refused"
    NOT_ALLOWED = "the key is not allowed to do this"
    RATE_LIMITED = "too many requests"
    UNAVAILABLE = "the API is unavailable"
    NOT_THE_API = "something other than the API answered, or it does not know this request"


# The wordings that the vendor documents or that its API has used, and its code words.
_OUT_OF_CREDITS = re.compile(
    r"\bout of (?:credits|funds)\b"
    r"|\binsufficient[ _](?:\w+[ _]){0,2}(?:balance|credits?|funds|quota)\b"
    r"|(?:\bnot|n't)(?: have)? enough (?:credits?|funds|balance)\b"
    r"|\bcredit[ _]balance[ _](?:exhausted|is too low)\b",
    re.IGNORECASE,
)
# Of a used-up plan. With 429 it would be a rate limit.
_EXHAUSTED = re.compile(r"\bexhausted\b.{0,60}\b(?:api_)?credits?\b", re.IGNORECASE | re.DOTALL)
_ADDRESS = re.compile(r"[^\s@<>()\"']{1,64}@[^\s@<>()\"']{1,255}")  # of e-mail
# Fields that only the vendor's own errors have besides the message. A firewall's JSON has none of them.
_VENDOR_FIELDS = ("requestId", "statusCode", "path")


def classify_refusal(status: int, body: object = None) -> Refusal:
    """
    Return what a refusal means.

    :param status: HTTP status, other than 200.
    :param body: the body, as bytes, text or parsed JSON; ``None`` if it is not known.
    """
    answer = _parse(body)
    # Other services say "out of credits" with 400 or 429; with these statuses only the words count.
    words = _words(answer)
    out_of_credits = _OUT_OF_CREDITS.search(words) or (status != 429 and _EXHAUSTED.search(words))
    if status == 402 or (status in (400, 403, 429) and out_of_credits):
        return Refusal.OUT_OF_CREDITS
    if status == 401:
        return Refusal.KEY_REFUSED
    if status == 403 and is_vendor_error(answer):
        return Refusal.NOT_ALLOWED
    if status == 429:
        return Refusal.RATE_LIMITED
    if status == 408 or status >= 500:
        return Refusal.UNAVAILABLE
    return Refusal.NOT_THE_API


def is_vendor_error(body: object) -> bool:
    """Return whether a body has the shape of the vendor's own errors."""
    answer = _parse(body)
    return isinstance(answer.get("message"), str | list) and any(name in answer for name in _VENDOR_FIELDS)


def refusal_error(response: ApiResponse, settings: Settings) -> AimlBillingError:
    """
    Return the error for a response whose status is not 200.

    :param response: the response.
    :param settings: the client's settings, for the base URL and the connection id.
    """
    status = response.status
    answered = f"{response.origin} answered {status}{_quote(_parse(response.body), settings.key)}."
    refusal = classify_refusal(status, response.body)
    if refusal is Refusal.OUT_OF_CREDITS:
        return InsufficientBalanceError(f"The account is out of credits ({status}): top it up. {answered}")
    key = f"Key of {settings.conn_id!r}" if settings.conn_id else "API key"
    if refusal is Refusal.KEY_REFUSED:
        field = "password of the connection (API Key in the form)" if settings.conn_id else "settings"
        return AimlBillingAuthError(f"{key} refused ({status}): put a working key into the {field}. {answered}")
    if refusal is Refusal.NOT_ALLOWED:
        return AimlBillingAuthError(
            f"{key} refused ({status}): it is not allowed to do this. Use a regular key of the account, which may read "
            f"its billing. {answered}"
        )
    if refusal in (Refusal.RATE_LIMITED, Refusal.UNAVAILABLE):
        return AimlBillingUnavailable(
            f"{answered} The call can be repeated later.", retry_after=response.retry_after, status=status
        )
    if status == 403:
        return AimlBillingUnavailable(
            f"{answered} This is not the API's own answer: something in front of it refused the request, such as a "
            "firewall or a proxy.",
            retry_after=response.retry_after,
            status=status,
        )
    if 300 <= status < 400:
        return AimlBillingContractError(
            f"{answered} Redirects are not followed, because they would send the key elsewhere: "
            "set the connection's host to the base URL that answers directly."
        )
    return AimlBillingContractError(
        f"{answered} The API does not accept this request: check the values in it and the connection's host, "
        "or switch api_version in its extra between v1 and v2."
    )


def _parse(body: object) -> Mapping[str, Any]:
    """Return the fields of an error; none if it is not a JSON object."""
    if isinstance(body, str | bytes):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return {}
    return body if isinstance(body, Mapping) else {}


def _words(answer: Mapping[str, Any]) -> str:
    """Return the message and the code words, which some endpoints put into an object of their own."""
    inner = answer.get("error")
    parts = [answer, inner if isinstance(inner, Mapping) else {"message": inner}]
    values = [part.get(name) for part in parts for name in ("message", "code", "type", "error")]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    return "\n".join(text for text in texts if isinstance(text, str))


def _quote(answer: Mapping[str, Any], key: str | None) -> str:
    """
    Return the vendor's message and request id, in parentheses and without the key and e-mail addresses.

    Nothing of a body that is not the vendor's own error is quoted: it may contain anything.
    """
    if not is_vendor_error(answer):
        return ""
    message, request_id = (
        text if isinstance(text := answer.get(name), str) else "" for name in ("message", "requestId")
    )
    quoted = [_without_key(clean_text(_ADDRESS.sub("***", message[:2000]), 200), key)] if message else []
    quoted += [f"requestId {_without_key(clean_text(request_id, 64), key)}"] if request_id else []
    return f" ({'; '.join(quoted)})" if quoted else ""


def _without_key(text: str, key: str | None) -> str:
    """Hide every part of the key of four or more characters."""
    if not key:
        return text
    hidden = [False] * len(text)
    run = min(4, len(key))
    for start in range(len(text) - run + 1):
        if text[start : start + run] in key:
            hidden[start : start + run] = [True] * run
    return re.sub("\0+", "***", "".join("\0" if hide else char for char, hide in zip(text, hidden, strict=True)))
