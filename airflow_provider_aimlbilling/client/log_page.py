"""A page of the request log: ``GET /v2/logs``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.client.json_fields import (
    contract_error,
    count_field,
    object_in_list,
    optional_amount,
    optional_field,
    parse_object,
    require_field,
    time_field,
)
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.money.amount import CREDITS_PER_USD, Amount
from airflow_provider_aimlbilling.money.request_log import LoggedRequest

# What tells rows apart: request_id may be null, and nothing says that an inference has only one row.
RowKey = tuple[str | None, str | None, datetime]


_OUTCOMES = {"succeeded": True, "failed": False}


@dataclass(frozen=True)
class LogPage:
    """
    One page.

    :param rows: its rows, each with its key.
    :param total: how many rows the API counts in the window.
    :param has_more: whether another page follows.
    """

    rows: list[tuple[RowKey, LoggedRequest]]
    total: int
    has_more: bool


def read_log_page(body: bytes) -> LogPage:
    """
    Read a page.

    :raises AimlBillingContractError: if it is not as documented.
    """
    answer = parse_object(body)
    pagination = require_field(answer, "pagination", dict)
    return LogPage(
        rows=[_read_row(row) for row in require_field(answer, "data", list)],
        total=count_field(pagination, "total"),
        has_more=require_field(pagination, "has_more", bool),
    )


def _read_row(row: object) -> tuple[RowKey, LoggedRequest]:
    row = object_in_list(row, "data")
    created = time_field(row, "created")
    request_id = require_field(row, "request_id", str, type(None)) or None
    inference_id = optional_field(row, "inference_id", str) or None
    tokens = optional_field(row, "tokens", dict) or {}
    if not (shown_id := request_id or inference_id):
        raise contract_error("request_id", "an id, or one in 'inference_id',", None)
    return (request_id, inference_id, created), LoggedRequest(
        created=created,
        succeeded=_OUTCOMES.get(optional_field(row, "status", str)),
        model=optional_field(row, "model", str) or "",
        cost=_read_cost(optional_field(row, "cost", dict) or {}),
        input_tokens=_optional_count(tokens, "input"),
        output_tokens=_optional_count(tokens, "output"),
        request_id=shown_id,
        client_request_id=optional_field(row, "client_request_id", str) or None,
    )


def _read_cost(cost: Mapping[str, Any]) -> Amount | None:
    """Return the cost; ``None`` if there is none, or credits and USD contradict each other."""
    credits = optional_amount(cost, "credits")
    usd = optional_amount(cost, "usd", credits_per_unit=CREDITS_PER_USD)
    if credits is None or usd is None:
        found = usd if credits is None else credits
        return None if found is None else Amount(found)
    difference = abs(Decimal(usd) - Decimal(credits))
    if difference >= 1:
        return None
    # USD show fractions of a credit, but also the tails of binary floats.
    return Amount(credits if difference < Decimal("0.000001") else usd)


def _optional_count(tokens: Mapping[str, Any], name: str) -> int | None:
    try:
        return count_field(tokens, name)
    except AimlBillingContractError:
        return None
