"""
The request log, row by row: each row of a window once, in constant memory, within the API's rate limit.

The API pages by offset, so a row that lands while it is read shifts all rows below it, and rows of the same millisecond
may change places. So a window is split into parts of some thousand rows, and a part is done when as many different rows
were read as the API counts in it; until then it is read again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from typing import Any

from airflow_provider_aimlbilling.client.api import Api, iso_time
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
from airflow_provider_aimlbilling.client.retries import with_retries
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingUnavailable
from airflow_provider_aimlbilling.money.amount import CREDITS_PER_USD, Amount
from airflow_provider_aimlbilling.money.request_log import LoggedRequest
from airflow_provider_aimlbilling.money.usage import split_window

_LOG = "/v2/logs"
_PAGE_SIZE = 100  # the most that the API allows
_MAX_PART = 2000  # rows; what is kept in memory to recognize them
_MAX_SPLIT = 8  # parts of a part
_MILLISECOND = timedelta(milliseconds=1)  # the precision of the API
_ALMOST = timedelta(microseconds=999)  # to round up

# The API allows 200 requests in 60 seconds. Other clients of the key need some too.
MAX_REQUESTS = 190
REQUESTS_SECONDS = 60.0
# Seconds to wait after each 429 in a row: longer, in total, than the API's limit looks back. It sends no Retry-After.
RATE_LIMIT_PAUSES = (5.0, 10.0, 20.0, 30.0, 60.0)
# Seconds to wait before a part is read again.
REREAD_PAUSES = (0.0, 1.0, 2.0, 4.0)

# What tells rows apart: request_id may be null, and nothing says that an inference has only one row.
_Key = tuple[str | None, str | None, datetime]


@dataclass(frozen=True)
class _Page:
    rows: list[tuple[_Key, LoggedRequest]]
    total: int
    has_more: bool


class RequestLog:
    """
    Reads the log of one key.

    :param api: the API.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._sent: deque[float] = deque(maxlen=MAX_REQUESTS)  # when requests were sent, by time.monotonic()

    def iter_rows(
        self, start: datetime, end: datetime, retries: int, key_prefix: str | None = None
    ) -> Iterator[LoggedRequest]:
        """
        Iterate over the rows of a window. A page is requested when its first row is needed.

        :param start: start of the window; with a time zone.
        :param end: end of the window, not included; with a time zone.
        :param retries: how often a page that got no believable answer is requested again. A 429 does not count.
        :param key_prefix: first eight characters of another key.
        :raises ValueError: a time without a time zone, or an end before its start.
        """
        iso_time(start), iso_time(end)  # both must have a time zone
        if end < start:
            raise ValueError("The end of the window is before its start.")
        query = {"limit": str(_PAGE_SIZE), **({"key_prefix": key_prefix} if key_prefix else {})}
        return self._iter_window(start.astimezone(timezone.utc), end.astimezone(timezone.utc), query, retries)

    def _iter_window(
        self, start: datetime, end: datetime, query: Mapping[str, str], retries: int
    ) -> Iterator[LoggedRequest]:
        # The API may include the end of a window or not. So the parts share their borders, and the rows that were read
        # at the start of a part are recognized if they come again at the end of the next.
        border: set[_Key] = set()
        parts = list(split_window(_floor(start), _floor(end + _ALMOST))) if start < end else []
        while parts:
            part = parts.pop()  # newest first, as in the API
            times = {"start": iso_time(part[0]), "end": iso_time(part[1])}
            page = self._read_page({**query, **times}, 0, retries)
            if page.total > _MAX_PART and part[1] - part[0] > _MILLISECOND:
                parts += _split(*part, page.total)
                continue
            seen: set[_Key] = set()
            for key, row in self._iter_part(page, seen, {**query, **times}, retries):
                if key not in border and start <= row.created < end:
                    yield row
            border = {key for key in seen if key[2] <= part[0]}

    def _iter_part(
        self, page: _Page, seen: set[_Key], query: Mapping[str, str], retries: int
    ) -> Iterator[tuple[_Key, LoggedRequest]]:
        """Iterate over the rows of a part, each of them once, until there are as many as the API counts."""
        total = 0
        for pause in (*REREAD_PAUSES, None):
            total, offset, this_time = max(total, page.total), 0, set[_Key]()
            while True:
                known = len(this_time)
                for key, row in page.rows:
                    this_time.add(key)
                    if key not in seen:
                        seen.add(key)
                        yield key, row
                offset += len(page.rows)
                if offset >= max(total, page.total) or len(this_time) == known:  # all of the page came before
                    break
                if offset >= total + _MAX_PART:  # rows arrive as quickly as they are read
                    break
                page = self._read_page(query, offset, retries)
            if not page.has_more and len(seen) >= max(total, page.total):
                return
            if pause is not None:
                time.sleep(pause)
                page = self._read_page(query, 0, retries)
        # Rows that land while it is read shift others down, and hide none of them. So what was counted at first counts.
        if page.has_more or len(seen) < total:
            raise AimlBillingUnavailable(
                f"The request log counts {total:,} rows from {query['start']} to {query['end']}, but it sent "
                f"{len(seen):,} different ones{' and has more' if page.has_more else ''}. Read it again later."
            )

    def _read_page(self, query: Mapping[str, str], offset: int, retries: int) -> _Page:
        """Read a page, and wait if the log was read too often."""

        def read() -> _Page | AimlBillingUnavailable:
            self._wait_for_turn()
            try:
                return _parse_page(self._api.get(_LOG, {**query, "offset": str(offset)}))
            except AimlBillingUnavailable as error:
                if error.status != 429:
                    raise
                return error

        pauses = iter(RATE_LIMIT_PAUSES)
        while True:
            answer = with_retries(read, retries)
            if isinstance(answer, _Page):
                return answer
            pause, requested = next(pauses, None), answer.retry_after or 0.0
            if pause is None or requested > max(RATE_LIMIT_PAUSES):
                raise answer.with_traceback(None) from None
            time.sleep(max(pause, requested))

    def _wait_for_turn(self) -> None:
        if len(self._sent) == self._sent.maxlen:
            time.sleep(max(0.0, self._sent[0] + REQUESTS_SECONDS - time.monotonic()))
        self._sent.append(time.monotonic())


def _floor(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _split(start: datetime, end: datetime, total: int) -> list[tuple[datetime, datetime]]:
    """Split a part into at least two, by time."""
    count = min(_MAX_SPLIT, total // _MAX_PART + 1, (end - start) // _MILLISECOND)
    borders = [start, *(_floor(start + (end - start) / count * number) for number in range(1, count)), end]
    return list(pairwise(borders))


def _parse_page(body: bytes) -> _Page:
    answer = parse_object(body)
    pagination = require_field(answer, "pagination", dict)
    return _Page(
        rows=[_read_row(row) for row in require_field(answer, "data", list)],
        total=count_field(pagination, "total"),
        has_more=require_field(pagination, "has_more", bool),
    )


def _read_row(row: object) -> tuple[_Key, LoggedRequest]:
    row = object_in_list(row, "data")
    created = time_field(row, "created")
    request_id = require_field(row, "request_id", str, type(None)) or None
    inference_id = optional_field(row, "inference_id", str) or None
    tokens = optional_field(row, "tokens", dict) or {}
    if not (shown_id := request_id or inference_id):
        raise contract_error("request_id", "an id, or one in 'inference_id',", None)
    return (request_id, inference_id, created), LoggedRequest(
        created=created,
        succeeded=row.get("status") == "succeeded",
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
