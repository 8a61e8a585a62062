"""The account's auto top-up, and whether it is stuck."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any

from airflow_provider_aimlbilling.client.api import Api, iso_time
from airflow_provider_aimlbilling.client.ledger import iter_ledger
from airflow_provider_aimlbilling.client.responses import read_top_up
from airflow_provider_aimlbilling.exceptions import AimlBillingError
from airflow_provider_aimlbilling.money.amount import Number
from airflow_provider_aimlbilling.money.balance import TopUp
from airflow_provider_aimlbilling.money.usage import stayed_below

DETAIL = "/v2/billing/detail"

# The most ledger entries that one poll reads to decide whether an auto top-up is stuck.
MAX_LEDGER_ENTRIES = 300


class TopUpMonitor:
    """
    Reads the auto top-up that belongs to a balance. Its failures are logged once and never raised.

    :param api: the API.
    :param log: logger for failures.
    """

    def __init__(self, api: Api, log: Any) -> None:
        self._api = api
        self._log = log
        self._warned = False
        self._not_before = 0.0  # the API asked not to be called before this time.monotonic()

    def read(self, balance: Number, grace: float) -> TopUp | None:
        """
        Read the auto top-up. A failure here must not hide the balance that we already have.

        :param balance: what the account holds, in credits; negative if it is overdrawn.
        :param grace: seconds that a payment may take before the auto top-up counts as stuck.
        :returns: the auto top-up; ``None`` if it could not be read.
        """
        if time.monotonic() < self._not_before:
            return None
        try:
            return self._read(balance, grace)
        except AimlBillingError as error:
            self._not_before = time.monotonic() + (getattr(error, "retry_after", None) or 0.0)
            if not self._warned and not self._api.closed:
                self._log.warning("The auto top-up could not be read: %s", error)
            self._warned = True
            return None

    def _read(self, balance: Number, grace: float) -> TopUp:
        top_up = read_top_up(self._api.get(DETAIL))
        if not top_up.is_enabled or top_up.threshold is None or balance >= top_up.threshold:
            return top_up
        since = datetime.now(timezone.utc) - timedelta(seconds=grace)
        # Usually one page is enough. An account with more entries than are read here is busy, not stuck.
        ledger = iter_ledger(self._api, {"limit": "100", "from": iso_time(since)}, retries=0)
        entries = list(islice(ledger, MAX_LEDGER_ENTRIES + 1))
        stuck = len(entries) <= MAX_LEDGER_ENTRIES and stayed_below(balance, top_up.threshold, entries)
        return replace(top_up, stuck_for=grace) if stuck else top_up
