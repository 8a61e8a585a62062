"""
From an answer of the API to a :class:`Balance`, or to the error that says what to do about it.

Of a body only the vendor's error message and request id are ever quoted, without the key: an answer may hold personal
data, and errors are read by many.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_aimlbilling.balance import CREDITS_PER_USD, EXACT, MAX_CREDITS, Amount, Balance
from airflow_provider_aimlbilling.connection import Settings
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingThresholdError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)

_V1_TEXTS = {
    "lastUpdated": "last_updated",
    "autoDebitStatus": "auto_debit_status",
    "status": "status",
    "statusExplanation": "status_explanation",
}
# The documented wording, and the one that the API was seen to use.
OUT_OF_MONEY = re.compile(r"out of (credits|funds)", re.IGNORECASE)
_REMEDY = "Update this provider, or set api_version in the connection to the other of v1 and v2."


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whole. ``retry_after`` is in seconds."""

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None
    etag: str | None = None


def read_v1(body: bytes) -> Balance:
    """
    Read the answer of ``GET /v1/billing/balance``, in credits. Fields beyond the seven documented ones are ignored.

    :raises AimlBillingUnavailable: if the body is no JSON: it says nothing of the balance.
    :raises AimlBillingContractError: if a documented field is missing or of the wrong type.
    :raises InsufficientBalanceError: if the balance is negative.
    """
    answer = read_object(body)
    return Balance(
        balance=_holds(answer, "balance").credits,
        low_balance=field_of(answer, "lowBalance", bool),
        low_balance_threshold=amount_of(answer, "lowBalanceThreshold").credits,
        **{name: field_of(answer, documented, str) for documented, name in _V1_TEXTS.items()},
    )


def read_v2(body: bytes) -> Balance:
    """
    Read the answer of ``GET /v2/billing``, which is in USD.

    :raises AimlBillingUnavailable: if the body is no JSON: it says nothing of the balance.
    :raises AimlBillingContractError: if a documented field is missing or wrong, or the currency is not USD.
    :raises InsufficientBalanceError: if the balance is negative.
    """
    answer = read_object(body)
    in_usd(answer)
    return Balance(balance=_holds(answer, "current_balance", credits_per_unit=CREDITS_PER_USD).credits)


def in_usd(answer: Mapping[str, Any]) -> None:
    """
    Make sure that an answer speaks of US dollars.

    :raises AimlBillingContractError: if it does not.
    """
    if (currency := field_of(answer, "currency")) != "USD":
        raise broken("currency", "'USD'", currency)


def read_object(body: bytes) -> dict[str, Any]:
    """
    Read a body that must be a JSON object, its numbers as ``Decimal``.

    :raises AimlBillingUnavailable: if the body is no JSON: it says nothing.
    :raises AimlBillingContractError: if it is JSON of another kind.
    """
    try:
        # All numbers as Decimal, also 'NaN', so that nothing passes through binary float before it was looked at.
        answer = json.loads(body, parse_int=_decimal, parse_float=_decimal, parse_constant=_decimal)
    except (ValueError, RecursionError):
        raise AimlBillingUnavailable(
            "The API answered 200 with a body that is no JSON (a proxy's page, or cut short). This says nothing of "
            "the balance; look at the connection's host and at the proxy if it goes on.",
            status=200,
        ) from None
    if not isinstance(answer, dict):
        raise AimlBillingContractError(f"The API promises a JSON object and sent {type(answer).__name__}. {_REMEDY}")
    return answer


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all sense
        return Decimal("NaN")


def field_of(answer: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """
    Give a field that must be there, and of one of the kinds if some are named.

    :raises AimlBillingContractError: if it is not.
    """
    if name not in answer:
        raise AimlBillingContractError(f"The API's answer lacks the field {name!r}. {_REMEDY}")
    value = answer[name]
    if kinds and not isinstance(value, kinds):
        raise broken(name, " or ".join(_KINDS[kind] for kind in kinds), value)
    return value


_KINDS: dict[type, str] = {
    bool: "true or false",
    str: "text",
    dict: "an object",
    list: "a list",
    Decimal: "a number",
    type(None): "null",
}


def _holds(answer: Mapping[str, Any], name: str, *, credits_per_unit: int = 1) -> Amount:
    """
    Read what the account holds.

    Charges land after the calls that they are for, so an account can be overdrawn. That is below any threshold, and no
    fault of the answer.
    """
    number = answer.get(name)
    if isinstance(number, Decimal) and number.is_finite() and number < 0:
        owed = amount_of({name: -number}, name, credits_per_unit=credits_per_unit)
        overdrawn = InsufficientBalanceError(f"The account is overdrawn by {owed}: top it up.")
        overdrawn.overdrawn_credits = owed.credits
        raise overdrawn
    return amount_of(answer, name, credits_per_unit=credits_per_unit)


def amount_of(answer: Mapping[str, Any], name: str, *, credits_per_unit: int = 1) -> Amount:
    """
    Give a field that must be a sum of money, zero or more.

    :param credits_per_unit: 1 where the field is in credits, ``CREDITS_PER_USD`` where it is in USD.
    :raises AimlBillingContractError: if it is not.
    """
    number = field_of(answer, name)
    # Sums of binary floats have long tails, as in 0.000030000000000000004. What is longer is no sum of money.
    if isinstance(number, Decimal) and number.is_finite() and number.as_tuple().exponent >= -40:  # type: ignore[operator]
        try:
            return Amount(EXACT.multiply(number, credits_per_unit))
        except (AimlBillingThresholdError, ArithmeticError):
            pass
    raise broken(name, f"a number from 0 to {MAX_CREDITS // credits_per_unit:,}", number)


def broken(name: str, promised: str, got: object) -> AimlBillingContractError:
    """Give the error for a field that is not what was promised. Of what came only numbers and booleans are shown."""
    shown = str(got)[:40] if got is None or isinstance(got, bool | Decimal) else f"a {type(got).__name__}"
    return AimlBillingContractError(f"The API promises {promised} in the field {name!r} and sent {shown}. {_REMEDY}")


def read_refusal(answer: Answer, settings: Settings) -> AimlBillingError:
    """Turn any status but 200 into the error that says what to do about it."""
    status = answer.status
    said, message = _vendor_words(answer.body, settings.key)
    where = f"{settings.base_url} answered {status}{said}."
    if status == 401:
        return AimlBillingAuthError(
            f"{where} The key was refused: put a working key into the password of the connection {settings.conn_id!r} "
            "(API Key in the form)."
        )
    if status == 403 and OUT_OF_MONEY.search(message):
        return InsufficientBalanceError(f"{where} The account is out of credits: top it up.")
    if status == 403:
        return AimlBillingAuthError(
            f"{where} The API key may not do this: use one that may read the account's billing (a regular key of the "
            "account)."
        )
    if status in {408, 429} or status >= 500:
        return AimlBillingUnavailable(
            f"{where} This says nothing of the balance; the call can be made again later.",
            retry_after=answer.retry_after,
            status=status,
        )
    if 300 <= status < 400:
        return AimlBillingContractError(
            f"{where} Redirects are not followed, since they would take the key to another place: "
            "set the connection's host to the base URL that answers itself."
        )
    return AimlBillingContractError(
        f"{where} The API does not take this request: look at the values in it, at the connection's host, "
        "or set api_version in its extra to the other of v1 and v2."
    )


def _vendor_words(body: bytes, key: str) -> tuple[str, str]:
    """Find the vendor's message in an error's body: once with the request id and fit to print, once as it came."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        return "", ""
    message, request_id = (
        text if isinstance(text := answer.get(name), str) else "" for name in ("message", "requestId")
    )
    said = [_without_key(message[:200], key)] if message else []
    said += [f"requestId {_without_key(request_id[:64], key)}"] if request_id else []
    return f" ({'; '.join(said)})" if said else "", message


def _without_key(text: str, key: str) -> str:
    """Make text from outside fit to print: one line, nothing unprintable, no run of four characters of the key."""
    # No square brackets either: Airflow's command line takes them for markup, and swallows what is in them.
    text = " ".join(text.split()).translate({ord("["): "(", ord("]"): ")"})
    text = "".join(char for char in text if char.isprintable())
    hidden = [False] * len(text)
    run = min(4, len(key))
    for start in range(len(text) - run + 1):
        if text[start : start + run] in key:
            hidden[start : start + run] = [True] * run
    return re.sub("\0+", "***", "".join("\0" if hide else char for char, hide in zip(text, hidden, strict=True)))
