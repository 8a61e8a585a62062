"""The state of a waiting gate: which readings it waits through, what it logs, and its summary. Imports no Airflow."""

from __future__ import annotations

import math
import time
from typing import Any

from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingThresholdError,
    AimlBillingTopUpStuckError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.gate import Gate, Verdict
from airflow_provider_aimlbilling.waiting.log_limit import StateLog

# An answer that is not the API's own word ends a wait only when it has lasted for so many polls, and for so long.
ODD_ANSWER_POLLS = 5
ODD_ANSWER_SECONDS = 300.0
# While it waits, a gate logs a changed balance at most once in so many seconds.
BALANCE_LOG_INTERVAL = 60.0


class WaitState:
    """
    The wait of one gate, used by the sensor on a worker and by the trigger.

    It logs when something changes, not at every poll, and at most once a minute if it keeps changing.

    :param gate: the rule that decides.
    :param log: a logger of any kind, for the person on call.
    :param silent_fail: keep waiting even after errors that waiting cannot fix.
    :param last_seen: the last verdict's reason, if another process started this wait.
    :param last_fault: the last error, if another process started this wait.
    """

    # There may be thousands of these, each for days.
    __slots__ = (
        *("_balance_logged_at", "_changes", "_initial_last_seen", "_log", "_logged_balance", "_odd_polls"),
        *("_odd_since", "_silent_fail"),
        *("gate", "last_fault", "verdict"),
    )

    def __init__(
        self, gate: Gate, log: Any, *, silent_fail: bool = False, last_seen: str = "", last_fault: str = ""
    ) -> None:
        self.gate = gate
        self._log = log
        self._silent_fail = silent_fail
        self._changes = StateLog()
        self._odd_polls, self._odd_since = 0, 0.0  # contract errors since the last balance
        self._initial_last_seen = last_seen
        self._logged_balance: Amount | None = None  # that the last line about a reading showed
        self._balance_logged_at = -math.inf
        self.last_fault = last_fault  # empty once a balance has been read again
        self.verdict: Verdict | None = None  # the last one

    @property
    def last_seen(self) -> str:
        """The reason of the last verdict; empty if there is none."""
        return self.verdict.reason if self.verdict else self._initial_last_seen

    def verdict_dict(self) -> dict[str, Any] | None:
        """Return the last verdict as :meth:`Verdict.to_dict` does; ``None`` if there is none."""
        return self.verdict.to_dict() if self.verdict else None

    def update(self, reading: Balance | AimlBillingError) -> Verdict | None:
        """
        Take one reading.

        :param reading: the balance, or the error that a poll ended with.
        :returns: the verdict; ``None`` if the reading says nothing about the balance.
        :raises AimlBillingError: if waiting cannot succeed: the reading itself, an unusable threshold, or an auto
            top-up that does not pay. With ``silent_fail`` the error is logged instead.
        """
        if isinstance(reading, AimlBillingError) and not isinstance(reading, InsufficientBalanceError):
            self.handle_error(reading)
            return None
        try:
            verdict = self.gate.decide(reading)
        except (AimlBillingThresholdError, AimlBillingContractError) as error:
            self.handle_error(error)
            return None
        is_first = not self.last_seen
        logged_before = not self.verdict and not self.last_fault and verdict.reason == self._initial_last_seen
        self.last_fault, self.verdict, self._odd_polls = "", verdict, 0
        if is_first and self.gate.warning:
            self._log.warning(self.gate.warning)
        if verdict.clears:
            self._log.info("Gate open: %s.", verdict.reason)
            return verdict
        top_up = reading.top_up
        # A payment raises neither a key's limit nor a budget, so a stuck top-up does not matter there.
        if top_up and top_up.stuck_for is not None and "balance" in verdict.too_low:
            self.handle_error(
                AimlBillingTopUpStuckError(
                    f"Auto top-up is stuck: the balance has been below its threshold for {top_up.stuck_for:g} seconds, "
                    f"and the ledger shows no payment. Check the payment method. Setting: {top_up}. "
                    f"Last reading: {verdict.reason}."
                )
            )
        elif self._is_news(verdict, logged_before):
            self._log.info("Waiting: %s.%s", verdict.reason, _top_up_hint(reading))
        return verdict

    def _is_news(self, verdict: Verdict, logged_before: bool) -> bool:
        """Return whether a reading below the threshold is worth a line: the API recovered, or the balance changed."""
        now = time.monotonic()
        if self._changes.is_due("waiting"):
            is_news = not logged_before
        else:
            balance_changed = verdict.available != self._logged_balance
            is_news = balance_changed and now - self._balance_logged_at >= BALANCE_LOG_INTERVAL
            if is_news:
                self._balance_logged_at = now
        if is_news or logged_before:
            self._logged_balance = verdict.available
        return is_news

    def handle_error(self, error: AimlBillingError) -> None:
        """
        Keep waiting and log the error, if waiting may help or ``silent_fail`` is set.

        :param error: what a poll ended with.
        :raises AimlBillingError: the error, if it ends the wait.
        """
        ends_wait = not isinstance(error, AimlBillingUnavailable)
        if isinstance(error, AimlBillingContractError):
            ends_wait = self._has_lasted()
        if ends_wait and not self._silent_fail:
            raise error
        self.last_fault = str(error)
        # Compared by kind, not by text: the text contains a request id, which differs each time.
        if self._changes.is_due((type(error), getattr(error, "status", None))):
            self._log.warning("Still waiting: %s", error)

    def _has_lasted(self) -> bool:
        """Count an odd answer, and return whether there have been too many of them for too long."""
        now = time.monotonic()
        if not self._odd_polls:
            self._odd_since = now
        self._odd_polls += 1
        return self._odd_polls >= ODD_ANSWER_POLLS and now - self._odd_since >= ODD_ANSWER_SECONDS

    def summary(self) -> str:
        """Return the last reading and, if the last poll failed, its error."""
        last_seen = f"{self.last_seen[0].upper()}{self.last_seen[1:]}." if self.last_seen else "No balance was read."
        return f"{last_seen} Last error: {self.last_fault}" if self.last_fault else last_seen


def _top_up_hint(reading: Balance | InsufficientBalanceError) -> str:
    """Return a sentence about the account's auto top-up, if it is known."""
    if reading.top_up:
        text = str(reading.top_up)
        return f" {text[0].upper()}{text[1:]}."
    status = getattr(reading, "auto_debit_status", None)  # in the words of v1
    return f" Auto top-up: {status[:40]}." if status else ""
