"""The window of time that an operator reports on: from its parameters, or the data interval of the run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import NOTSET

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context

# Clocks may differ by this much before a window counts as being in the future.
_MAX_CLOCK_SKEW = timedelta(hours=1)

# A shorter window that ends now holds nothing yet.
_SHORTEST = timedelta(seconds=1)

# A log that begins at the beginning of time would be read in thousands of parts.
_EARLIEST_LOG = datetime(2020, 1, 1, tzinfo=timezone.utc)


def resolve_window(
    start: object, end: object, declared: dict[str, object], context: Context, now: datetime
) -> tuple[datetime, datetime]:
    """
    Return the window; empty if it begins just now.

    :param start: start of the window, rendered.
    :param end: end of the window, rendered.
    :param declared: ``start`` and ``end`` as in the DAG file. A template that renders to ``None`` must not fall back to
        the data interval.
    :param context: the task's context, which has the data interval.
    :param now: the current time, UTC.
    :raises ValueError: a time cannot be read, there is none, or the window is in the future or empty.
    """
    names = [name for name, value in declared.items() if value is not NOTSET]
    if names == ["end"]:
        raise ValueError("Set start as well: the start of the data interval does not go with an end of your own.")

    def resolve(name: str, value: object) -> datetime:
        return _data_interval(name, context) if declared[name] is NOTSET else read_time(name, value)

    first = resolve("start", start)
    last = now if names == ["start"] else resolve("end", end)
    if first > now + _MAX_CLOCK_SKEW:
        raise ValueError(f"The window starts in the future, at {first.isoformat()}: nothing can have been spent.")
    if names == ["start"] and last - first < _SHORTEST:  # or the clock that start comes from is ahead
        return first, first
    if first > last:
        raise ValueError(f"The end of the window, {last.isoformat()}, is before its start, {first.isoformat()}.")
    if first == last and (not names or last < now - _MAX_CLOCK_SKEW):
        raise ValueError(
            f"The window from {first.isoformat()} to {last.isoformat()} is empty. Set start. A run only has a "
            "data interval of its own if its timetable provides one, such as CronDataIntervalTimetable."
        )
    return first, last


def read_time(name: str, value: object) -> datetime:
    """
    Return a time in UTC.

    :param name: what it is, for the error.
    :param value: a ``datetime``, or ISO 8601 text; UTC if it has no time zone.
    :raises ValueError: if it is anything else.
    """
    time: Any = value
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time.strip().replace("Z", "+00:00"))
        except ValueError:
            time = None
    if not isinstance(time, datetime):
        raise ValueError(  # noqa: TRY004 - the value is wrong or missing
            f"{name} is {str(value)[:40]!r}, which is not a time. Write it like 2026-11-01T00:00:00Z."
        )
    try:
        # In UTC, because Python compares two times in the same time zone by their wall-clock time.
        return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"{name} is {str(value)[:40]!r}, which is out of range.") from None


def check_log_start(start: datetime) -> None:
    """
    Refuse a window that starts before the API had a request log.

    :param start: start of the window, UTC.
    :raises ValueError: if it is too early.
    """
    if start < _EARLIEST_LOG:
        raise ValueError(f"start is {start.isoformat()}, which is before the API had a request log. Set a later start.")


def _data_interval(name: str, context: Context) -> datetime:
    time = context.get(f"data_interval_{name}")
    if time is None:
        raise ValueError("This run has no data interval. Set start.")
    return read_time(name, time)
