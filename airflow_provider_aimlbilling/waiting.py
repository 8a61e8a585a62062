"""How a gate waits: which readings it waits on, what it logs, and what it can tell when its time is up. No Airflow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_aimlbilling.balance import Balance, Gate, Verdict
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingError,
    AimlBillingThresholdError,
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
    """

    def __init__(self, gate: Gate, log: Any, *, silent_fail: bool = False) -> None:
        self.gate = gate
        self._log = log
        self._silent_fail = silent_fail
        self._state: tuple[object, ...] = ()
        # What was seen last, and what has kept from seeing since; a wait that another process began is gone on with.
        self.seen = ""
        self.fault = ""

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
        known = bool(self.seen) and not self.fault
        self.seen, self.fault = verdict.reason, ""
        if verdict.clears:
            self._log.info("The gate opens: %s.", verdict.reason)
        elif self._changed("waits") and not known:
            self._log.info("The gate waits: %s.", verdict.reason)
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
