"""Decides when a state is worth a line in the log. Imports no Airflow."""

from __future__ import annotations

import math
import time

# At most so many lines at once, and after that one in so many seconds.
MAX_LINES = 5
LINE_INTERVAL = 60.0


class StateLog:
    """
    Tells when to log: once for each change of a state, and less often if it keeps changing.

    A change that comes too soon is logged later, if the new state lasts.

    :param state: the initial state, which needs no line.
    """

    # Each waiting gate has one of these, and there may be thousands.
    __slots__ = ("_credit_from", "_state")

    def __init__(self, state: object = None) -> None:
        self._state = state
        self._credit_from = -math.inf  # each line costs LINE_INTERVAL seconds, of which at most MAX_LINES are saved up

    def is_due(self, state: object) -> bool:
        """
        Return whether the state is to be logged now.

        :param state: the current state.
        """
        if state == self._state:
            return False
        now = time.monotonic()
        credit_from = max(self._credit_from, now - MAX_LINES * LINE_INTERVAL)
        if credit_from + LINE_INTERVAL > now:
            return False
        self._state, self._credit_from = state, credit_from + LINE_INTERVAL
        return True
