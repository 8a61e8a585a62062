"""The clock that decides in which period of a budget it is."""

from __future__ import annotations

from datetime import datetime, tzinfo

import pytest

from airflow_provider_aimlbilling.client import spending


class Clock:
    """
    The time of day where spending is read. It stands still.

    :param now: what it shows, with a time zone.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
        self.now = now
        clock = self

        class Datetime(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return clock.now.astimezone(tz)

        monkeypatch.setattr(spending, "datetime", Datetime)
