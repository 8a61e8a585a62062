"""Rows of the request log, built by hand."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.request_id import encode_request_id
from airflow_provider_aimlbilling.money.request_log import LoggedRequest

START = datetime(2026, 11, 26, 10, tzinfo=timezone.utc)
# A request id cannot hold all of it.
LONG = "group_with_a_long_name." * 3 + "a_task_with_a_name_that_does_not_fit_into_any_id"
_numbers = itertools.count()


def row(
    credits: int | str | None = 100,
    task: str = "job",
    index: int = -1,
    number: int = 1,
    *,
    dag: str = "d",
    run: str = "r",
    at: datetime = START,
    **fields: Any,
) -> LoggedRequest:
    values = {
        "created": at,
        "succeeded": True,
        "model": "chat",
        "cost": None if credits is None else Amount(Decimal(credits)),
        "input_tokens": 10,
        "output_tokens": 5,
        "request_id": f"req-{next(_numbers)}",
        "client_request_id": encode_request_id(dag, run, task, index, number),
    }
    return LoggedRequest(**(values | fields))
