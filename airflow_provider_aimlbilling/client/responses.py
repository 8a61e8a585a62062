"""
Turn the body of a 200 response into values.

The personal fields of ``/v2/billing/detail`` (``email``, ``user_id``) are not read, so they cannot be passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.client.json_fields import (
    amount_field,
    choice_field,
    contract_error,
    count_field,
    cursor_field,
    object_in_list,
    optional_amount,
    optional_field,
    parse_object,
    require_field,
    require_usd,
    time_field,
    usd_field,
)
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, InsufficientBalanceError
from airflow_provider_aimlbilling.money.amount import CREDITS_PER_USD, Amount, Number
from airflow_provider_aimlbilling.money.balance import Balance, TopUp
from airflow_provider_aimlbilling.money.usage import (
    DIRECTIONS,
    RETENTIONS,
    Spend,
    Transaction,
    Usage,
    add_spend,
)

_V1_TEXT_FIELDS = {
    "lastUpdated": "last_updated",
    "autoDebitStatus": "auto_debit_status",
    "status": "status",
    "statusExplanation": "status_explanation",
}


@dataclass(frozen=True)
class ApiKey:
    """
    What ``GET /v1/key`` says about a key.

    :param prefix: the key's first eight characters.
    :param disabled: whether it is disabled.
    :param retention: when its limit resets: ``no_reset``, ``day``, ``week``, ``month``; ``None`` if that is unknown.
    :param limit: credits that it may spend in that period; ``None`` without a limit.
    :param created_at: when it was created; ``None`` if that is unknown.
    """

    prefix: str = field(repr=False)
    disabled: bool
    retention: str | None
    limit: Number | None
    created_at: datetime | None


def read_balance_v1(body: bytes) -> Balance:
    """
    Read the answer of ``GET /v1/billing/balance``, in credits.

    Only the balance is required. The other fields are ``None`` if they are missing or not as documented: a gate without
    a threshold, which needs ``lowBalance`` and its threshold, then says so.

    :raises AimlBillingUnavailable: if the body is not JSON, so that the balance is unknown.
    :raises AimlBillingContractError: if the balance is missing or not a number.
    :raises InsufficientBalanceError: if the balance is negative.
    """
    answer = parse_object(body)
    return Balance(
        balance=_balance_field(answer, "balance").credits,
        low_balance=optional_field(answer, "lowBalance", bool),
        low_balance_threshold=optional_amount(answer, "lowBalanceThreshold"),
        **{name: optional_field(answer, documented, str) for documented, name in _V1_TEXT_FIELDS.items()},
    )


def read_balance_v2(body: bytes) -> Balance:
    """
    Read the response of ``GET /v2/billing``, which is in USD.

    :raises AimlBillingUnavailable: if the body is not JSON, so that the balance is unknown.
    :raises AimlBillingContractError: if a documented field is missing or wrong, or the currency is not USD.
    :raises InsufficientBalanceError: if the balance is negative.
    """
    answer = parse_object(body)
    require_usd(answer)
    return Balance(balance=_balance_field(answer, "current_balance", credits_per_unit=CREDITS_PER_USD).credits)


def read_balance_v2_detail(body: bytes) -> Balance:
    """
    Read the response of ``GET /v2/billing/detail``: the balance, and whether auto top-up is on.

    Auto top-up is reported in the words of v1. If that part of the response is not as documented, it is ``None``: the
    balance is valid all the same.

    :raises AimlBillingError: see :func:`read_balance_v2`.
    """
    balance = read_balance_v2(body)
    try:
        status = "enabled" if read_top_up(body).is_enabled else "disabled"
    except AimlBillingContractError:
        return balance
    return replace(balance, auto_debit_status=status)


def read_top_up(body: bytes) -> TopUp:
    """
    Read the auto top-up settings from the response of ``GET /v2/billing/detail``, and nothing else.

    Amounts that are missing or not in USD are ``None``.

    :raises AimlBillingContractError: if the response does not say whether auto top-up is on.
    """
    settings = require_field(parse_object(body), "autotopup_settings", dict)
    if not require_field(settings, "is_enabled", bool):
        return TopUp(is_enabled=False)
    if settings.get("currency", "USD") != "USD":
        return TopUp(is_enabled=True)
    threshold, amount = (
        optional_amount(settings, name, credits_per_unit=CREDITS_PER_USD) for name in ("threshold", "amount")
    )
    return TopUp(is_enabled=True, threshold=threshold, amount=amount)


def read_api_key(body: bytes) -> ApiKey:
    """
    Read the response of ``GET /v1/key``.

    :raises AimlBillingContractError: if it is not as documented.
    """
    data = require_field(parse_object(body), "data", dict)
    limit = data.get("limit")
    if limit is not None and not isinstance(limit, dict):
        raise contract_error("limit", "an object or null", limit)
    limit = limit or {}
    retention = optional_field(limit, "retention", str)
    try:
        created_at = time_field(data, "created_at")
    except AimlBillingContractError:
        created_at = None
    return ApiKey(
        prefix=require_field(data, "prefix", str),
        disabled=data.get("disabled") is True,
        retention=retention if retention in RETENTIONS else None,
        # An empty object is no limit. One whose amount is not understood must not be taken for none.
        limit=usd_field(limit, "threshold").credits if limit else None,
        created_at=created_at,
    )


def read_transactions(body: bytes) -> tuple[list[Transaction], str | None]:
    """
    Read a page of ``GET /v2/billing/transactions``. Return its entries and the cursor of the next page, or ``None``
    after the last page.

    :raises AimlBillingContractError: if it is not as documented.
    """
    answer = parse_object(body)
    pagination = require_field(answer, "pagination", dict)
    cursor = cursor_field(pagination, "next_cursor")
    if require_field(pagination, "has_more", bool) != bool(cursor):
        raise contract_error("next_cursor", "a cursor if there is more, else null,", cursor)
    return [_read_transaction(entry) for entry in require_field(answer, "data", list)], cursor


def read_usage(body: bytes) -> Usage:
    """
    Read the response of ``GET /v2/usage`` or ``GET /v2/usage/detail``.

    :raises AimlBillingContractError: if it is not as documented.
    """
    answer = parse_object(body)
    require_usd(answer)
    models: dict[str, Spend] = {}
    for part in require_field(answer, "models", list) if "models" in answer else []:
        name = require_field(object_in_list(part, "models"), "model", str)
        models[name] = add_spend(models[name], _read_spend(part)) if name in models else _read_spend(part)
    groups = require_field(answer, "groups", list) if "groups" in answer else []
    return Usage(
        start=time_field(answer, "start"),
        end=time_field(answer, "end"),
        total=_read_spend(answer),
        models=models,
        groups=tuple(object_in_list(group, "groups") for group in groups),
    )


def _balance_field(answer: Mapping[str, Any], name: str, *, credits_per_unit: int = 1) -> Amount:
    """
    Read what the account holds.

    Charges are recorded after the calls that caused them, so an account can be overdrawn. That is not a faulty
    response: the account is below any threshold.
    """
    number = answer.get(name)
    if isinstance(number, Decimal) and number.is_finite() and number < 0:
        owed = amount_field({name: -number}, name, credits_per_unit=credits_per_unit)
        overdrawn = InsufficientBalanceError(f"The account is overdrawn by {owed}: top it up.")
        overdrawn.overdrawn_credits = owed.credits
        raise overdrawn
    return amount_field(answer, name, credits_per_unit=credits_per_unit)


def _read_transaction(entry: object) -> Transaction:
    entry = object_in_list(entry, "data")
    amount = require_field(entry, "amount", dict)
    credits = amount_field(amount, "credits").credits
    if not isinstance(credits, int):
        raise contract_error("credits", "a whole number", credits)
    return Transaction(
        created_at=time_field(entry, "created_at"),
        direction=choice_field(entry, "direction", DIRECTIONS),
        type=optional_field(entry, "type", str) or "",
        credits=credits,
        usd=_usd_of(amount, credits),
        model=optional_field(entry, "model", str),
        reference_id=optional_field(entry, "reference_id", str),
    )


def _usd_of(amount: Mapping[str, Any], credits: int) -> Decimal:
    """Return the reported USD, which may be more exact than whole credits; if they do not fit, those of the credits."""
    usd = amount.get("usd")
    exact = Amount(credits).usd
    fits = isinstance(usd, Decimal) and usd.is_finite() and abs(usd - exact) * CREDITS_PER_USD < 1
    return usd if isinstance(usd, Decimal) and fits else exact


def _read_spend(answer: Mapping[str, Any]) -> Spend:
    requests = count_field(answer, "requests")
    return Spend(usd_field(answer, "spend"), requests)
