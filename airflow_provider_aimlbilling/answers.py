"""
From the bytes of an answer to a :class:`Balance`, and nothing that the API did not promise.

No body is ever quoted: an answer may hold personal data, and errors are read by many.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_aimlbilling.balance import CREDITS_PER_USD, EXACT, MAX_CREDITS, Amount, Balance
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingThresholdError,
    AimlBillingUnavailable,
)

_V1_TEXTS = {
    "lastUpdated": "last_updated",
    "autoDebitStatus": "auto_debit_status",
    "status": "status",
    "statusExplanation": "status_explanation",
}
_REMEDY = "Update this provider, or set api_version in the connection to the other of v1 and v2."


def read_v1(body: bytes) -> Balance:
    """
    Read the answer of ``GET /v1/billing/balance``, in credits. Fields beyond the seven documented ones are ignored.

    :raises AimlBillingUnavailable: if the body is no JSON: it says nothing of the balance.
    :raises AimlBillingContractError: if a documented field is missing or of the wrong type.
    """
    answer = _object(body)
    low_balance = _field(answer, "lowBalance")
    if not isinstance(low_balance, bool):
        raise _broken("lowBalance", "true or false", low_balance)
    texts = {}
    for documented, name in _V1_TEXTS.items():
        texts[name] = _field(answer, documented)
        if not isinstance(texts[name], str):
            raise _broken(documented, "text", texts[name])
    return Balance(
        balance=_sum(answer, "balance").credits,
        low_balance=low_balance,
        low_balance_threshold=_sum(answer, "lowBalanceThreshold").credits,
        **texts,
    )


def read_v2(body: bytes) -> Balance:
    """
    Read the answer of ``GET /v2/billing``, which is in USD.

    :raises AimlBillingUnavailable: if the body is no JSON: it says nothing of the balance.
    :raises AimlBillingContractError: if a documented field is missing or wrong, or the currency is not USD.
    """
    answer = _object(body)
    if (currency := _field(answer, "currency")) != "USD":
        raise _broken("currency", "'USD'", currency)
    return Balance(balance=_sum(answer, "current_balance", credits_per_unit=CREDITS_PER_USD).credits)


def _object(body: bytes) -> dict[str, Any]:
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


def _field(answer: Mapping[str, Any], name: str) -> Any:
    if name not in answer:
        raise AimlBillingContractError(f"The API's answer lacks the field {name!r}. {_REMEDY}")
    return answer[name]


def _sum(answer: Mapping[str, Any], name: str, *, credits_per_unit: int = 1) -> Amount:
    number = _field(answer, name)
    if isinstance(number, Decimal):
        try:
            return Amount(EXACT.multiply(number, credits_per_unit))
        except (AimlBillingThresholdError, ArithmeticError):
            pass
    raise _broken(name, f"a number from 0 to {MAX_CREDITS // credits_per_unit:,}", number)


def _broken(name: str, promised: str, got: object) -> AimlBillingContractError:
    shown = str(got)[:40] if got is None or isinstance(got, bool | Decimal) else f"a {type(got).__name__}"
    return AimlBillingContractError(f"The API promises {promised} in the field {name!r} and sent {shown}. {_REMEDY}")
