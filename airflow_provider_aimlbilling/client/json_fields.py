"""
Read the fields of a JSON response. All text in it is cleaned before anything else sees it. Errors name the field.

Errors quote received values only if they are numbers, booleans or null, because a response may hold personal data and
many people read errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial
from typing import Any

from airflow_provider_aimlbilling.client.text import clean_text
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingThresholdError,
    AimlBillingUnavailable,
)
from airflow_provider_aimlbilling.money.amount import CREDITS_PER_USD, EXACT, MAX_CREDITS, Amount, Number

_NEXT_STEP = "Update this provider, or switch api_version in the connection between v1 and v2."

_FRACTION = re.compile(r"\.\d+")

EXACT_TEXT_FIELDS = frozenset({"next_cursor"})  # read with cursor_field(), which checks them instead
MAX_COUNT = 2**53
MAX_CURSOR = 4096  # characters

_KIND_NAMES: dict[type, str] = {
    bool: "true or false",
    str: "text",
    dict: "an object",
    list: "a list",
    Decimal: "a number",
    type(None): "null",
}


class ResponseBody(bytes):
    """The body of a response, with the key of the request, which no text that is read from it may contain."""

    key: str | None = None

    @classmethod
    def of(cls, body: bytes, key: str | None) -> ResponseBody:
        """
        Return a body.

        :param body: as it was received.
        :param key: the API key.
        """
        with_key = cls(body)
        with_key.key = key
        return with_key


def parse_object(body: bytes) -> dict[str, Any]:
    """
    Parse a body that must be a JSON object: numbers as ``Decimal``, text as :func:`clean_text` returns it.

    :param body: the body of a 200 response; a :class:`ResponseBody` if it may contain the API key.
    :raises AimlBillingUnavailable: if it is not JSON, so that the balance is unknown.
    :raises AimlBillingContractError: if it is JSON but not an object.
    """
    key = body.key if isinstance(body, ResponseBody) else None
    try:
        # All numbers as Decimal, even 'NaN', so that nothing passes through binary float before it is checked.
        answer = json.loads(
            body,
            parse_int=_decimal,
            parse_float=_decimal,
            parse_constant=_decimal,
            object_pairs_hook=partial(_clean_object, key=key),
        )
    except (ValueError, RecursionError):
        raise AimlBillingUnavailable(
            "The API answered 200 with a body that is not JSON (a proxy's page, or cut short). "
            "If this persists, check the connection's host and the proxy.",
            status=200,
        ) from None
    if not isinstance(answer, dict):
        raise AimlBillingContractError(
            f"The API documents a JSON object, but sent {type(answer).__name__}. {_NEXT_STEP}"
        )
    return answer


def cursor_field(answer: Mapping[str, Any], name: str) -> str | None:
    """
    Return a cursor, which goes back to the API as it is; ``None`` if it is null or empty.

    :raises AimlBillingContractError: if it is neither a text that can be sent back nor null.
    """
    value = require_field(answer, name, str, type(None))
    if value and (len(value) > MAX_CURSOR or not value.isascii() or not value.isprintable()):
        raise contract_error(name, f"printable ASCII of at most {MAX_CURSOR:,} characters", value)
    return value or None


def require_field(answer: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """
    Return a field that must be present. If types are given, it must have one of them.

    :raises AimlBillingContractError: if it is not.
    """
    if name not in answer:
        raise AimlBillingContractError(f"The API's answer has no field {name!r}. {_NEXT_STEP}")
    value = answer[name]
    if kinds and not isinstance(value, kinds):
        raise contract_error(name, " or ".join(_KIND_NAMES[kind] for kind in kinds), value)
    return value


def amount_field(answer: Mapping[str, Any], name: str, *, credits_per_unit: int = 1) -> Amount:
    """
    Return a field that must be an amount of money, zero or more.

    :param credits_per_unit: 1 if the field is in credits, ``CREDITS_PER_USD`` if it is in USD.
    :raises AimlBillingContractError: if it is not.
    """
    number = require_field(answer, name)
    # Sums of binary floats end in long tails, such as 0.000030000000000000004. Accept those, but nothing longer.
    if isinstance(number, Decimal) and number.is_finite() and number.as_tuple().exponent >= -40:  # type: ignore[operator]
        try:
            return Amount(EXACT.multiply(number, credits_per_unit))
        except (AimlBillingThresholdError, ArithmeticError):
            pass
    raise contract_error(name, f"a number from 0 to {MAX_CREDITS // credits_per_unit:,}", number)


def count_field(answer: Mapping[str, Any], name: str) -> int:
    """
    Return a field that must be a whole number, zero or more.

    :raises AimlBillingContractError: if it is not.
    """
    count = require_field(answer, name, Decimal)
    # The upper bound comes first: to write out 1e1000000 as an integer takes half a minute.
    if not count.is_finite() or not 0 <= count <= MAX_COUNT or count != count.to_integral_value():
        raise contract_error(name, f"a whole number up to {MAX_COUNT:,}", count)
    return int(count)


def optional_field(answer: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a field that no decision depends on: ``None`` if it is missing, or of another type than documented."""
    value = answer.get(name)
    return value if isinstance(value, kind) else None


def optional_amount(answer: Mapping[str, Any], name: str, *, credits_per_unit: int = 1) -> Number | None:
    """Return an amount that no decision depends on, in credits: ``None`` if it is missing, or not an amount."""
    try:
        return amount_field(answer, name, credits_per_unit=credits_per_unit).credits
    except AimlBillingContractError:
        return None


def usd_field(answer: Mapping[str, Any], name: str) -> Amount:
    """
    Return a field that must be an amount in USD, zero or more.

    :raises AimlBillingContractError: if it is not.
    """
    return amount_field(answer, name, credits_per_unit=CREDITS_PER_USD)


def require_usd(answer: Mapping[str, Any]) -> None:
    """
    Check that an answer is in US dollars.

    :raises AimlBillingContractError: if it is not.
    """
    if (currency := require_field(answer, "currency")) != "USD":
        raise contract_error("currency", "'USD'", currency)


def choice_field(answer: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    """
    Return a text field that must have one of the documented values.

    :raises AimlBillingContractError: if it has another value.
    """
    value: str = require_field(answer, name, str)
    if value not in known:
        raise AimlBillingContractError(
            f"The API documents one of {', '.join(known)} in the field {name!r}, but sent another value. "
            "Update this provider."
        )
    return value


def time_field(answer: Mapping[str, Any], name: str) -> datetime:
    """
    Return a field that must be an ISO 8601 time, in UTC.

    :raises AimlBillingContractError: if it is not.
    """
    text = require_field(answer, name, str)
    try:
        # Python 3.10 accepts no trailing Z, and fractions of a second with three or six digits only.
        normal = _FRACTION.sub(lambda digits: digits[0][:7].ljust(7, "0"), text)
        found = datetime.fromisoformat(normal.replace("Z", "+00:00"))
        return found.astimezone(timezone.utc) if found.tzinfo else found.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        raise contract_error(name, "a time", text) from None


def object_in_list(value: object, name: str) -> dict[str, Any]:
    """
    Return an element of a list that must be an object.

    :param name: name of the list.
    :raises AimlBillingContractError: if it is not.
    """
    if not isinstance(value, dict):
        raise contract_error(name, "a list of objects", value)
    return value


def contract_error(name: str, documented: str, received: object) -> AimlBillingContractError:
    """Return the error for a field that is not as documented."""
    show_value = received is None or isinstance(received, bool | Decimal)
    shown = str(received)[:40] if show_value else f"a {type(received).__name__}"
    return AimlBillingContractError(
        f"The API documents {documented} in the field {name!r}, but sent {shown}. {_NEXT_STEP}"
    )


def _clean_object(pairs: list[tuple[str, Any]], key: str | None) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for name, value in pairs:
        if name in EXACT_TEXT_FIELDS and isinstance(value, str):
            cleaned[name] = value
            continue
        # A name that only looks like another one after it was cleaned must not replace it.
        cleaned.setdefault(_clean_name(name, key), _clean_value(value, key))
    return cleaned


@lru_cache(1024)  # each answer has the same names
def _clean_name(name: str, key: str | None) -> str:
    return clean_text(name, 100, key)


def _clean_value(value: Any, key: str | None) -> Any:
    if isinstance(value, str):
        return clean_text(value, key=key)
    # Objects were cleaned when they were parsed.
    return [_clean_value(element, key) for element in value] if isinstance(value, list) else value


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an implausible exponent
        return Decimal("NaN")
