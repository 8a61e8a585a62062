"""
What time it is for the API.

Its clock and this machine's differ. What it records is stamped by its own clock, so a window that ends now by a slow
clock lacks the newest records. And whether it accepts a window that ends in the future is not documented.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

# A Date header that is further off says nothing about the API's clock.
_MAX_DIFFERENCE = timedelta(days=1)


class ApiClock:
    """
    Compares the API's clock with this machine's, by the ``Date`` header of its responses.

    ``ahead`` is by how much the API's clock is ahead, up to a second too little, because the header has whole seconds;
    negative if it is behind; zero if no response told. ``accepts_future`` is whether the API accepts a window that ends
    in the future, as far as it is known.
    """

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        self.accepts_future = True

    def update(self, date: datetime | None) -> None:
        """
        Take the header of a response that has just arrived.

        :param date: the header; ``None`` if there was none.
        """
        if date is not None and abs(ahead := date - datetime.now(timezone.utc)) < _MAX_DIFFERENCE:
            self.ahead = ahead

    def present(self, now: datetime) -> datetime:
        """
        Return a time that has passed by the API's clock, no more than about a second ago.

        :param now: the time by this machine's clock.
        """
        return now + self.ahead

    def latest(self, now: datetime) -> datetime:
        """
        Return the time by the clock that is ahead, up to a second too early.

        :param now: the time by this machine's clock.
        """
        return now + max(self.ahead, timedelta(0))

    def earliest(self, now: datetime) -> datetime:
        """
        Return the time by the clock that is behind.

        :param now: the time by this machine's clock.
        """
        return now + min(self.ahead, timedelta(0))
