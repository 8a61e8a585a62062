"""How a gate waits: which readings it waits on, what it logs, and what it can tell when its time is up. No Airflow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_aimlbilling.balance import Balance, Gate, Verdict
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingError,
    AimlBillingThresholdError,
    AimlBillingTopUpStuckError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)

# Time beyond the gate's own deadline before Airflow's deferral time-out steps in. That one is for a triggerer that is
# gone: it knows no balance and, on some versions, no soft_fail.
SLACK = timedelta(minutes=5)


def deferral_timeout(timeout: float, poke_interval: float) -> timedelta:
    """
    Give Airflow's deferral time-out for a gate.

    :param timeout: seconds that the gate waits.
    :param poke_interval: seconds between two polls: a deadline is noticed with the poll that follows it.
    """
    return timedelta(seconds=timeout + 2 * poke_interval) + SLACK


class Waiting:
    """
    One gate's wait, whoever drives it: the sensor on a worker, or the trigger.

    It logs a change once, not each poll that finds things as they were.

    :param gate: the rule.
    :param log: a logger of any kind: where changes are told to the person on call.
    :param silent_fail: wait on after errors that waiting does not mend, too.
    :param seen: where another process began to wait: what it saw last.
    :param fault: what kept it from seeing since.
    """

    # There may be thousands, each for days.
    __slots__ = ("_before", "_log", "_silent_fail", "_state", "fault", "gate", "verdict")

    def __init__(self, gate: Gate, log: Any, *, silent_fail: bool = False, seen: str = "", fault: str = "") -> None:
        self.gate = gate
        self._log = log
        self._silent_fail = silent_fail
        self._state: tuple[object, ...] = ()
        self._before = seen
        self.fault = fault  # what has kept from seeing
        self.verdict: Verdict | None = None  # the last one

    @property
    def seen(self) -> str:
        """What was seen last, in words; empty where nothing was."""
        return self.verdict.reason if self.verdict else self._before

    def look(self, reading: Balance | AimlBillingError) -> Verdict | None:
        """
        Take one reading. Gives the verdict; ``None`` where the reading says nothing of the balance.

        :raises AimlBillingError: the reading itself, or what is wrong with the threshold, where waiting is hopeless.
        """
        if isinstance(reading, AimlBillingError) and not isinstance(reading, InsufficientBalanceError):
            self._bear(reading)
            return None
        try:
            verdict = self.gate.decide(reading)
        except AimlBillingThresholdError as error:
            self._bear(error)
            return None
        known = bool(self.verdict or self._before) and not self.fault
        self.fault, self.verdict = "", verdict
        if verdict.clears:
            self._log.info("The gate opens: %s.", verdict.reason)
            return verdict
        top_up = reading.top_up
        # No payment mends a key's limit.
        if top_up and top_up.stuck_for is not None and verdict.short_of != "key_limit":
            self._bear(
                AimlBillingTopUpStuckError(
                    f"Waiting is hopeless: {top_up}; for {top_up.stuck_for:g} seconds the balance was below that, and "
                    f"the ledger shows no payment. Look at the means of payment. The gate waits for: {verdict.reason}."
                )
            )
        elif self._changed("waits") and not known:
            self._log.info("The gate waits: %s.%s", verdict.reason, _prospects(reading))
        return verdict

    def _bear(self, error: AimlBillingError) -> None:
        """Raise the error, or wait on and say so."""
        if not (self._silent_fail or isinstance(error, AimlBillingUnavailable)):
            raise error
        self.fault = str(error)
        # By kind, not by text: the text holds the API's request id, another one each time.
        if self._changed("fault", type(error), getattr(error, "status", None)):
            self._log.warning("The gate still waits. The last poll failed: %s", error)

    def story(self) -> str:
        """Tell the last balance and, where the wait ended in one, the last fault."""
        seen = f"Last seen: {self.seen}." if self.seen else "No balance was read."
        return f"{seen} Last fault: {self.fault}" if self.fault else seen

    def _changed(self, *state: object) -> bool:
        changed, self._state = state != self._state, state
        return changed


def _prospects(reading: Balance | InsufficientBalanceError) -> str:
    """Say whether the account tops itself up, where that is known."""
    if reading.top_up:
        return f" Of itself: {reading.top_up}."
    status = getattr(reading, "auto_debit_status", None)  # in the words of v1
    return f" Auto top-up: {status[:40]}." if status else ""
