"""Ask Airflow how many jobs are running, and wait until the account can pay for all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

from airflow_provider_aimlbilling.compat import count_task_instances
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.money.running_jobs import (
    CountedTask,
    Turn,
    decide_when_affordable,
    parse_counted_tasks,
)

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
    from airflow_provider_aimlbilling.money.gate import Verdict

# A job in one of these states may have spent money that has not been charged yet. So may one that resumes after a
# deferral, but until it runs it has the states of a job that has not started.
COUNTED_STATES = ("running", "deferred", "restarting")


def decide_among_running(
    hook: AimlBillingHook,
    gate: Gate,
    ti: Any,
    count_running: object,
    max_wait: float,
    wait: Callable[[float], object],
    **options: Any,
) -> Verdict:
    """
    Decide for all running jobs. Wait if the account can pay for this job, but not for all of them.

    :param hook: reads the balance.
    :param gate: the gate for this job.
    :param ti: the task instance of this job, from its context.
    :param count_running: as in :func:`parse_counted_tasks`.
    :param max_wait: as in :meth:`Turn.of`.
    :param wait: waits for some seconds.
    :param options: as in :meth:`AimlBillingHook.read`.
    :raises AimlBillingError: or a subclass, as in :func:`parse_counted_tasks` and :meth:`AimlBillingHook.read`.
    """
    if gate.warning:
        hook.log.warning(gate.warning)
    # Indexes of a mapped task get consecutive numbers; those of other tasks and runs are arbitrary.
    identity = f"{ti.dag_id}.{ti.task_id}.{ti.run_id}.{getattr(ti, 'try_number', 0)}"
    number = crc32(identity.encode()) + (getattr(ti, "map_index", None) or 0)
    decision = decide_when_affordable(
        gate,
        _running_counter(ti, count_running, hook.log),
        partial(hook.read, **options),
        turn=Turn.of(number, max_wait, time.time()),
        clock=time.monotonic,
        chance=random.Random(),  # noqa: S311 - nothing secret
    )
    waits = False
    while True:
        try:
            pause, verdict = next(decision)
        except StopIteration as end:
            decided: Verdict = end.value
            hook.report(decided)
            return decided
        if not waits:
            hook.log.info("Waiting for other jobs, for up to %g s: %s.", max_wait, verdict.reason)
            waits = True
        wait(pause)


def _running_counter(ti: Any, count_running: object, log: Any) -> Callable[[], dict[CountedTask, int]]:
    """Return a function that asks Airflow how many instances of each task are running."""
    tasks = parse_counted_tasks(count_running, f"{ti.dag_id}.{ti.task_id}")
    for task in tasks:
        if warning := Gate(task.price).warning:
            log.warning("count_running, %s: %s", task.name, warning)
    for task in tasks[1:]:
        if not any(count_task_instances(ti, dag_id, [task_id]) for dag_id, task_id in task.ids):
            log.warning("count_running: %r has never run. Check its name, unless the task is new.", task.name)

    def count() -> dict[CountedTask, int]:
        return {
            task: sum(count_task_instances(ti, dag_id, [task_id], COUNTED_STATES) for dag_id, task_id in task.ids)
            for task in tasks
        }

    return count
