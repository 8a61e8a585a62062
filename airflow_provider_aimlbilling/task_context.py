"""Where the code runs: in a running task, in a DAG file, or in a process that a task started. What a guard leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context
    from airflow_provider_aimlbilling.money.gate import Verdict

# The key of a guard's XCom. Not "verdict", which the task that the guard runs in may push itself.
GUARD_VERDICT = "aimlbilling_verdict"


def is_resuming(context: Context) -> bool:
    """Return whether the task was deferred and is resuming now."""
    ti: Any = context["ti"]
    server_context = getattr(ti, "_ti_context_from_server", None)  # on Airflow 3
    return bool(getattr(ti, "next_method", None) or getattr(server_context, "next_method", None))


def in_process_started_by_task() -> bool:
    """
    Return whether a running task started this process, other than by a fork.

    Airflow sets the variable in the task's own process, so it is part of the initial environment only in processes that
    the task started.
    """
    try:
        return b"\0AIRFLOW_CTX_TASK_ID=" in b"\0" + Path("/proc/self/environ").read_bytes()
    except OSError:
        return False


def current_context() -> Context | None:
    """Return the context of the task that runs here; ``None`` while a DAG file is parsed."""
    from airflow_provider_aimlbilling.compat import get_current_context

    try:
        return get_current_context()
    except Exception:  # noqa: BLE001 - Airflow's versions raise different exceptions
        return None


def in_event_loop() -> bool:
    """Return whether this code runs in an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def push_guard_verdict(context: Context, verdict: Verdict, log: Any) -> None:
    """
    Push the verdict of a guard that stops its task, unless the task pushes no XComs.

    The task stops in any case, so a failure is only logged.

    :param context: the task's context.
    :param verdict: what the guard decided.
    :param log: the logger of a failure.
    """
    try:
        if getattr(context["task"], "do_xcom_push", True):
            context["ti"].xcom_push(key=GUARD_VERDICT, value=verdict.to_dict())
    except Exception as fault:  # noqa: BLE001 - an XCom backend may raise anything
        log.warning("The guard's verdict could not be pushed as XCom (%s).", type(fault).__name__)
