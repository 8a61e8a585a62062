"""Where the code runs: in a running task, in a DAG file, or in a process that a task started."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context


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
