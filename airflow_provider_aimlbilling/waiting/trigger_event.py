"""
The events that triggers fire, and how the resumed tasks read them. Imports no Airflow.

A worker may receive an event from another version of this package, or none at all. So an event counts as success only
if it says so in the documented form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_aimlbilling import exceptions
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingError
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.gate import Verdict


@dataclass(frozen=True)
class ClearedEvent:
    """
    The gate opened.

    :param balance: as :meth:`Balance.to_dict` returns it.
    """

    balance: dict[str, Any]


@dataclass(frozen=True)
class TimeoutEvent:
    """
    The deadline passed.

    :param message: summary of the wait.
    """

    message: str


def cleared_event(verdict: Verdict, balance: Balance) -> dict[str, Any]:
    """Return the event of a gate that opens."""
    return {"status": "cleared", "balance": balance.to_dict(), "verdict": verdict.to_dict()}


def timeout_event(message: str, verdict: Verdict | None) -> dict[str, Any]:
    """Return the event of a gate whose deadline passed."""
    return {"status": "timeout", "message": message, "verdict": verdict.to_dict() if verdict else None}


def failed_event(error: AimlBillingError, verdict: Verdict | None = None) -> dict[str, Any]:
    """
    Return the event of a gate that waiting cannot open.

    :param error: why.
    :param verdict: the last one, if there was one.
    """
    return {**error_event(error), "verdict": verdict.to_dict() if verdict else None}


def error_event(error: AimlBillingError) -> dict[str, Any]:
    """
    Return the event of a wait that ended with an error.

    :param error: why.
    """
    # All gates of a poll receive the same error object. Its traceback would keep each of them in memory.
    error.with_traceback(None)
    return {"status": "failed", "error": type(error).__name__, "message": str(error)}


def unexpected_error_event(fault: Exception) -> dict[str, Any]:
    """Return the event for an exception that is not ours."""
    return failed_event(unexpected_error("the balance", fault))


def unexpected_error(awaited: str, fault: Exception) -> AimlBillingError:
    """
    Return our error for an exception that is not ours: only its type, because its text may contain anything.

    :param awaited: what the trigger waited for.
    :param fault: the exception.
    """
    return AimlBillingError(f"Waiting for {awaited} failed unexpectedly with {type(fault).__name__}.")


def is_stale(event: object, try_number: int | None) -> bool:
    """
    Return whether an event is of another try of the task than the one that received it.

    Airflow may hand a retried or cleared task the event of an earlier try. It says nothing about the account now.

    :param event: what Airflow passed to the resumed task.
    :param try_number: number of the task's current try.
    """
    return (
        isinstance(event, dict)
        and event.get("status") in ("cleared", "settled", "timeout", "failed")
        and event.get("try_number") != try_number
    )


def read_event(event: object) -> ClearedEvent | TimeoutEvent:
    """
    Read an event.

    :param event: what Airflow passed to the resumed task.
    :returns: how the wait ended.
    :raises AimlBillingError: the error that the trigger reported.
    :raises AimlBillingContractError: if this version of the trigger does not fire such an event.
    """
    event = event if isinstance(event, dict) else {"status": event}
    status, message = event.get("status"), event.get("message")
    if status == "cleared":
        return ClearedEvent(Balance.from_dict(event.get("balance")).to_dict())
    if status == "timeout" and isinstance(message, str):
        return TimeoutEvent(message)
    raise reported_error(event, "sensor")


def read_settled_event(event: object) -> str | None:
    """
    Read an event of a ``RunCostTrigger``.

    :param event: what Airflow passed to the resumed task.
    :returns: the fingerprint of the charges that have settled; ``None`` if they have not.
    :raises AimlBillingError: as :func:`read_event`.
    """
    event = event if isinstance(event, dict) else {"status": event}
    status, fingerprint = event.get("status"), event.get("fingerprint")
    if status == "settled" and isinstance(fingerprint, str):
        return fingerprint
    if status == "timeout":
        return None
    raise reported_error(event, "operator")


def reported_error(event: dict[str, Any], receiver: str) -> AimlBillingError:
    """
    Return the error that an event reports, or the error that it is not a known event.

    :param event: what Airflow passed to the resumed task.
    :param receiver: what the task is.
    """
    status, message = event.get("status"), event.get("message")
    kind = getattr(exceptions, str(event.get("error")), None)
    if (
        status == "failed"
        and isinstance(message, str)
        and isinstance(kind, type)
        and issubclass(kind, AimlBillingError)
    ):
        return kind(message)
    return AimlBillingContractError(
        f"The trigger sent an event that this {receiver} does not know (status {str(status)[:40]!r}). Install the same "
        "version of airflow-provider-aimlbilling on the workers and the triggerer, then clear this task."
    )
