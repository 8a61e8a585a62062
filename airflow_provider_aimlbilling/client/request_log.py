"""
The request log, row by row: each row of a window once, in little memory, within the API's rate limit.

The API pages by offset, so a row that lands while it is read shifts all rows below it, and rows of the same millisecond
may change places. So a window is split into parts of some thousand rows, and a part is done when as many different rows
were read as the API counts in it; until then it is read again.

How precisely the API takes the times of a window is not documented. So parts begin and end with whole minutes if
possible, and all rows within a minute of the border between two parts are remembered, to recognize those that come with
both. So memory depends on how many rows there are in a minute, not on the length of the window.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from itertools import pairwise

from airflow_provider_aimlbilling.client.api import Api, iso_time
from airflow_provider_aimlbilling.client.log_page import LogPage, RowKey, read_log_page
from airflow_provider_aimlbilling.client.retries import with_retries
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingUnavailable
from airflow_provider_aimlbilling.money.request_log import LoggedRequest
from airflow_provider_aimlbilling.money.usage import CLOCK_MARGIN, split_window

_LOG = "/v2/logs"
_PAGE_SIZE = 100  # the most that the API allows
_MAX_PART = 2000  # rows; what is kept in memory to recognize them
_MAX_SPLIT = 8  # parts of a part
_MAX_MINUTE = 100_000  # rows; more in a minute cannot be
_MINUTE = timedelta(minutes=1)
_MILLISECOND = timedelta(milliseconds=1)  # the precision of the API's times
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# The API allows 200 requests in 60 seconds. Other clients of the key need some too.
MAX_REQUESTS = 190
REQUESTS_SECONDS = 60.0
# Seconds to wait after each 429 in a row: longer, in total, than the API's limit looks back. A Retry-After that fits in
# there is honoured. The API documents none.
RATE_LIMIT_PAUSES = (5.0, 10.0, 20.0, 30.0, 60.0)
# Seconds to wait before a part is read again.
REREAD_PAUSES = (0.0, 1.0, 2.0, 4.0)


class RequestLog:
    """
    Reads the log of one key.

    :param api: the API.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._sent: deque[float] = deque(maxlen=MAX_REQUESTS)  # when requests were sent, by time.monotonic()

    def iter_rows(
        self, start: datetime, end: datetime | None, retries: int, key_prefix: str | None = None
    ) -> Iterator[LoggedRequest]:
        """
        Iterate over the rows of a window. A page is requested when its first row is needed.

        :param start: start of the window; with a time zone.
        :param end: end of the window, not included; with a time zone. ``None`` for all rows up to now, also if the
            API's clock is ahead.
        :param retries: how often a page that got no believable answer is requested again. A 429 does not count.
        :param key_prefix: first eight characters of another key.
        :raises ValueError: a time without a time zone, or an end before its start.
        """
        iso_time(start), iso_time(end or start)  # both must have a time zone
        if end is not None and end < start:
            raise ValueError("The end of the window is before its start.")
        query = {"limit": str(_PAGE_SIZE), **({"key_prefix": key_prefix} if key_prefix else {})}
        return self._iter_window(start.astimezone(timezone.utc), end and end.astimezone(timezone.utc), query, retries)

    def _iter_window(
        self, start: datetime, end: datetime | None, query: Mapping[str, str], retries: int
    ) -> Iterator[LoggedRequest]:
        is_open, refused = end is None, False
        end = end or self._latest()
        parts = _parts(start, end)
        is_split, shortest, latest = len(parts) > 1, _MILLISECOND, _ceil(end, _MINUTE)
        # Rows of the parts that were read that the API may send again with the next part.
        border: set[RowKey] = set()
        while parts:
            part = parts.pop()  # newest first, as in the API
            times = {**query, "start": iso_time(part[0]), "end": iso_time(part[1])}
            try:
                page = self._read_page(times, 0, retries, part[1])
            except AimlBillingContractError:
                now = datetime.now(timezone.utc)
                if refused or not self._api.refuses_future(part[1], now):
                    raise
                present, refused = self._api.clock.present(now), True
                parts += [(part[0], present)] if part[0] < present else []
                latest = present
                continue
            is_open, first = False, is_open
            if first and self._latest() - CLOCK_MARGIN > end:  # the API's clock is far ahead, as the answer says
                end = self._latest()
                parts, latest = _parts(start, end), _ceil(end, _MINUTE)
                continue
            if page.total > _MAX_PART and part[1] - part[0] > shortest:
                is_split = True
                if part[1] - part[0] < _MINUTE and any(not part[0] <= key[2] <= part[1] for key, _ in page.rows):
                    # The API cuts times to whole seconds or minutes, so that shorter parts would have the same rows.
                    shortest, minute = _MINUTE, _floor(part[0])
                    parts = [other for other in parts if other[0] < minute]
                    parts.append((minute, min(_ceil(part[1], _MINUTE), latest)))
                else:
                    parts += _split(*part, page.total)
                continue
            if page.total > _MAX_MINUTE:
                raise _window_error(part, f"counts {page.total:,} rows")
            seen: set[RowKey] = set()
            for key, row in self._iter_part(page, seen, times, retries):
                if is_split and not part[0] - _MINUTE <= row.created < part[1] + _MINUTE:
                    raise _window_error(part, f"sent a row of {iso_time(row.created)}")
                if key not in border and start <= row.created < end:
                    yield row
            border = {key for key in border | seen if key[2] < part[0] + _MINUTE}

    def _latest(self) -> datetime:
        """Return an end for a window that has to include everything up to now."""
        return self._api.clock.latest(datetime.now(timezone.utc)) + CLOCK_MARGIN

    def _iter_part(
        self, page: LogPage, seen: set[RowKey], query: Mapping[str, str], retries: int
    ) -> Iterator[tuple[RowKey, LoggedRequest]]:
        """Iterate over the rows of a part, each of them once, until there are as many as the API counts."""
        total = 0
        for pause in (*REREAD_PAUSES, None):
            total, offset, this_time = max(total, page.total), 0, set[RowKey]()
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

    def _read_page(self, query: Mapping[str, str], offset: int, retries: int, end: datetime | None = None) -> LogPage:
        """
        Read a page, and wait if the log was read too often.

        :param end: end of the window, if nothing is to be repeated when the API refuses one in the future.
        """

        def read() -> LogPage | AimlBillingUnavailable | AimlBillingContractError:
            self._wait_for_turn()
            try:
                return read_log_page(self._api.get(_LOG, {**query, "offset": str(offset)}))
            except AimlBillingUnavailable as error:
                if error.status != 429:
                    raise
                return error
            except AimlBillingContractError as error:
                if end is None or not self._api.refuses_future(end, datetime.now(timezone.utc)):
                    raise
                return error

        pauses, waited = iter(RATE_LIMIT_PAUSES), 0.0
        while True:
            answer = with_retries(read, retries)
            if isinstance(answer, LogPage):
                return answer
            if isinstance(answer, AimlBillingContractError):
                raise answer.with_traceback(None) from None
            pause, requested = next(pauses, None), answer.retry_after or 0.0
            if pause is None or waited + requested > sum(RATE_LIMIT_PAUSES):
                raise answer.with_traceback(None) from None
            pause = max(pause, requested)
            time.sleep(pause)
            waited += pause

    def _wait_for_turn(self) -> None:
        if len(self._sent) == self._sent.maxlen:
            time.sleep(max(0.0, self._sent[0] + REQUESTS_SECONDS - time.monotonic()))
        self._sent.append(time.monotonic())


def _floor(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _ceil(moment: datetime, unit: timedelta) -> datetime:
    return _EPOCH - (_EPOCH - moment) // unit * unit


def _parts(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Return a window in whole minutes, in as many parts as the API requires."""
    return list(split_window(_floor(start), _ceil(end, _MINUTE))) if start < end else []


def _split(start: datetime, end: datetime, total: int) -> list[tuple[datetime, datetime]]:
    """Split a part into at least two, by time: at whole minutes if it is longer than a minute."""
    unit = _MINUTE if end - start > _MINUTE else _MILLISECOND
    count = min(_MAX_SPLIT, total // _MAX_PART + 1, max(2, (end - start) // unit))
    borders = [start, *(_ceil(start + (end - start) / count * number, unit) for number in range(1, count)), end]
    return list(pairwise(borders))


def _window_error(part: tuple[datetime, datetime], what: str) -> AimlBillingContractError:
    return AimlBillingContractError(
        f"The request log {what} when it was asked for {iso_time(part[0])} to {iso_time(part[1])}. So it cannot be "
        "read in parts. Update this provider, or report on a shorter window."
    )
