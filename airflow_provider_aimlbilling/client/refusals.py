"""
Turn a response with a status other than 200 into an error that says what to do about it.

Only the vendor's error message and request id are quoted, without the key: a body may hold personal data, and many
people read errors.
"""

from __future__ import annotations

import json
import re

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

# The documented wording, and the wording that the live API has used.
OUT_OF_CREDITS = re.compile(r"out of (credits|funds)", re.IGNORECASE)


def refusal_error(response: ApiResponse, settings: Settings) -> AimlBillingError:
    """
    Return the error for a response whose status is not 200.

    :param response: the response.
    :param settings: the client's settings, for the base URL and the connection id.
    """
    status = response.status
    quote, message = _vendor_message(response.body, settings.key)
    answered = f"{settings.base_url} answered {status}{quote}."
    if status == 401:
        where = (
            f"the password of the connection {settings.conn_id!r} (API Key in the form)"
            if settings.conn_id
            else "the settings"
        )
        return AimlBillingAuthError(f"{answered} The key was refused: put a working key into {where}.")
    if status == 403 and OUT_OF_CREDITS.search(message):
        return InsufficientBalanceError(f"{answered} The account is out of credits: top it up.")
    if status == 403:
        return AimlBillingAuthError(
            f"{answered} The API key is not allowed to do this: use one that may read the account's billing (a regular "
            "key of the account)."
        )
    if status in {408, 429} or status >= 500:
        return AimlBillingUnavailable(
            f"{answered} The balance is unknown; the call can be repeated later.",
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


def _vendor_message(body: bytes, key: str) -> tuple[str, str]:
    """Return the vendor's message in two forms: quoted with the request id and without the key, and as received."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        return "", ""
    message, request_id = (
        text if isinstance(text := answer.get(name), str) else "" for name in ("message", "requestId")
    )
    quoted = [_without_key(clean_text(message, 200), key)] if message else []
    quoted += [f"requestId {_without_key(clean_text(request_id, 64), key)}"] if request_id else []
    return f" ({'; '.join(quoted)})" if quoted else "", message


def _without_key(text: str, key: str) -> str:
    """Hide every part of the key of four or more characters."""
    hidden = [False] * len(text)
    run = min(4, len(key))
    for start in range(len(text) - run + 1):
        if text[start : start + run] in key:
            hidden[start : start + run] = [True] * run
    return re.sub("\0+", "***", "".join("\0" if hide else char for char, hide in zip(text, hidden, strict=True)))
