"""What a sensor hands over to its trigger, whether a worker defers it or it starts in the triggerer."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.waiting.wait_state import WaitState

# Time after the gate's own deadline before Airflow's deferral timeout steps in. Airflow's timeout is for a triggerer
# that is gone: it knows no balance and, on some versions, ignores soft_fail.
DEFERRAL_SLACK = timedelta(minutes=5)


def deferral_timeout(timeout: float, poke_interval: float) -> timedelta:
    """
    Return Airflow's deferral timeout for a gate.

    :param timeout: seconds that the gate waits.
    :param poke_interval: seconds between two polls. A gate notices its deadline at the poll that follows it.
    """
    return timedelta(seconds=timeout + 2 * poke_interval) + DEFERRAL_SLACK


def trigger_arguments(
    sensor: Any, wait_state: WaitState, deadline: float, retry_after: float, try_number: int | None
) -> dict[str, Any]:
    """
    Return the arguments of the trigger that a worker hands the wait over to.

    :param sensor: the gate, a ``BalanceSensor``.
    :param wait_state: the wait so far.
    :param deadline: when the gate stops waiting, in seconds since the epoch.
    :param retry_after: seconds that the API asked to wait; negative if they have passed.
    :param try_number: the task's current try.
    """
    threshold = wait_state.gate.threshold
    first_wait = max(sensor.poke_interval, retry_after)
    return {
        "aimlbilling_conn_id": sensor.aimlbilling_conn_id,
        "threshold": None if threshold is None else threshold.text,
        "deadline": deadline,
        "next_poll_at": time.time() + first_wait,
        "first_wait": first_wait if first_wait > sensor.poke_interval else None,
        "last_seen": wait_state.last_seen,
        "last_fault": wait_state.last_fault,
        "try_number": try_number,
        **trigger_options(sensor),
    }


def trigger_options(sensor: Any) -> dict[str, Any]:
    """
    Return the trigger's arguments that do not depend on how it is started.

    :param sensor: the gate, a ``BalanceSensor``.
    """
    flags = {
        "exponential_backoff": sensor.exponential_backoff,
        "max_wait": sensor.max_wait.total_seconds() if sensor.max_wait else None,
        "silent_fail": sensor.silent_fail,
    }
    options = sensor.query_options()
    if "budget" in options:
        options["budget"] = options["budget"].text
    # Only those that are set: Airflow sends the serialized DAG along with each gate that starts in the triggerer.
    return {
        "poke_interval": sensor.poke_interval,
        **{name: flag for name, flag in flags.items() if flag},
        **options,
    }


def describe_polling(sensor: Any, deadline: float) -> str:
    """
    Return how a triggerer polls for a gate, for its log.

    :param sensor: the gate, a ``BalanceSensor``.
    :param deadline: when it stops, in seconds since the epoch.
    """
    until = datetime.fromtimestamp(deadline, tz=timezone.utc).isoformat(timespec="seconds")
    if sensor.exponential_backoff:
        return f"the triggerer polls on its own schedule, with exponential backoff, until {until}"
    return f"the triggerer polls every {sensor.poke_interval:g} s until {until}"
