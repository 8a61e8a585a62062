"""A check inside the task that spends, so that nothing happens between the check and the spending."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import (
    AIRFLOW_3_2,
    NOTSET,
    AirflowSkipException,
    current_context,
    in_process_started_by_task,
)
from airflow_provider_aimlbilling.exceptions import InsufficientBalanceError
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.thresholds import check_threshold

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context


def require_balance(
    threshold: object = NOTSET,
    *,
    aimlbilling_conn_id: str = DEFAULT_CONN_ID,
    skip_if_insufficient: bool = False,
    respect_key_limit: bool = False,
) -> Guard:
    """
    Stop a task that must not start without money.

    For any operator, mapped or not::

        SpendingOperator(task_id="job", pre_execute=require_balance("2 USD"))

    or as a plain call in a ``@task``, before the code that spends::

        require_balance("2 USD")

    In a running task it checks at once; in a DAG file it returns the callable. Each index of a mapped task checks for
    itself, so the remaining ones stop when the money is gone. As ``pre_execute`` it lets a task resume after a
    deferral, because that task has already spent; a plain call always checks.

    Guards push no XCom because they run inside someone else's task.

    :param threshold: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`, templates included.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param skip_if_insufficient: skip the task instead of failing it. An unknown balance still fails it.
    :param respect_key_limit: compare the threshold with what the key may still spend, if that is less than the balance.
    :returns: a callable that takes the context and checks when it is called.
    :raises RuntimeError: it was called in a process that a task started with its own environment
        (``@task.external_python``, a spawned pool), where it cannot check; or in an asynchronous task, which needs
        :func:`arequire_balance`.
    :raises AimlBillingThresholdError: the threshold is not an amount; raised when Airflow parses the DAG, unless it is
        a template or an XCom.
    :raises InsufficientBalanceError: the account cannot pay.
    :raises AirflowSkipException: the account cannot pay, with ``skip_if_insufficient``.
    :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.get_balance`: nothing was decided, and
        the task does not run.
    """
    if isinstance(threshold, Mapping) and "ti" in threshold:  # Airflow's context: pre_execute was this function itself
        raise TypeError('Call it when you pass it: pre_execute=require_balance("2 USD").')
    guard = Guard(threshold, aimlbilling_conn_id, skip_if_insufficient, respect_key_limit)
    if (context := current_context()) is not None:
        if _in_event_loop():
            raise RuntimeError(
                "require_balance would block the event loop of this asynchronous task, and Airflow may stop the task "
                "because of that. Write: await arequire_balance(…)"
            )
        guard.check(context)
    elif in_process_started_by_task():
        # Returning the callable here would let the task spend without a check.
        raise RuntimeError(
            "require_balance was called in a process that a task started, where Airflow's context is not available. "
            "Call it in the task itself, or pass it to the task as pre_execute=. (If you load DAG files here on "
            "purpose, remove AIRFLOW_CTX_TASK_ID from the environment of that process.)"
        )
    else:
        check_threshold(threshold)
    return guard


def arequire_balance(
    threshold: object = NOTSET,
    *,
    aimlbilling_conn_id: str = DEFAULT_CONN_ID,
    skip_if_insufficient: bool = False,
    respect_key_limit: bool = False,
) -> Coroutine[Any, Any, None]:
    """
    Stop an asynchronous task that must not start without money::

        @task
        async def job():
            await arequire_balance("2 USD")
            ...

    It is :func:`require_balance` for ``async def`` tasks, which Airflow has since 3.2. It does not block the event
    loop. (Before 3.2, in an event loop of your own, it does.)

    :param threshold: as in :func:`require_balance`.
    :param aimlbilling_conn_id: as in :func:`require_balance`.
    :param skip_if_insufficient: as in :func:`require_balance`.
    :param respect_key_limit: as in :func:`require_balance`.
    :returns: a coroutine, which checks when it is awaited. **Without await, nothing is checked.**
    :raises RuntimeError: it was called outside an event loop or a running task.
    :raises InsufficientBalanceError: or another exception, as in :func:`require_balance`.
    """
    context = current_context()
    # Checked here and not in a coroutine, which would do nothing at all if it was never awaited.
    if context is None or not _in_event_loop() or (isinstance(threshold, Mapping) and "ti" in threshold):
        raise RuntimeError(
            "arequire_balance only works in an async task: write await arequire_balance(…) there. Elsewhere, and as "
            "pre_execute of any task, use require_balance(…)."
        )
    return Guard(threshold, aimlbilling_conn_id, skip_if_insufficient, respect_key_limit).acheck(context)


class Guard:
    """
    The callable that :func:`require_balance` returns.

    :param threshold: as in :func:`require_balance`.
    :param aimlbilling_conn_id: as in :func:`require_balance`.
    :param skip_if_insufficient: as in :func:`require_balance`.
    :param respect_key_limit: as in :func:`require_balance`.
    """

    def __init__(
        self, threshold: object, aimlbilling_conn_id: str, skip_if_insufficient: bool, respect_key_limit: bool
    ) -> None:
        self.threshold = threshold
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.skip_if_insufficient = skip_if_insufficient
        self.respect_key_limit = respect_key_limit

    def __call__(self, context: Context) -> None:
        """
        Check as ``pre_execute``. Airflow also calls it when a deferred task resumes, which has already spent.

        :param context: the task's context.
        :raises TypeError: it was used as a decorator.
        """
        if not isinstance(context, Mapping):
            raise TypeError("require_balance(…) is not a decorator: write @task(pre_execute=require_balance(…)).")
        if not _is_resuming(context):
            self.check(context)

    def check(self, context: Context) -> None:
        """
        Read the balance and decide whether the task may run.

        :param context: the task's context.
        :raises InsufficientBalanceError: the account cannot pay.
        :raises AirflowSkipException: the account cannot pay, with ``skip_if_insufficient``.
        :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.get_balance`.
        """
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
        from airflow_provider_aimlbilling.money.gate import Gate

        task: Any = context["task"]
        # Airflow has rendered the task's own template fields by now. The guard's parameters are not among them.
        conn_id = task.render_template(self.aimlbilling_conn_id, context)
        gate = Gate()
        if self.threshold is not NOTSET:  # None is an empty XCom or template, not a missing threshold
            gate = Gate.for_threshold(task.render_template(self.threshold, context), optional=False)
        verdict = AimlBillingHook(conn_id).decide(gate, respect_key_limit=self.respect_key_limit)
        if verdict.clears:
            return
        if self.skip_if_insufficient:
            raise AirflowSkipException(verdict.refusal(conn_id))
        raise InsufficientBalanceError(verdict.refusal(conn_id))

    async def acheck(self, context: Context) -> None:
        """
        Do what :meth:`check` does, without blocking the event loop.

        :param context: the task's context.
        :raises AimlBillingError: or another exception, as in :meth:`check`.
        """
        if not AIRFLOW_3_2:
            # Airflow calls from two threads at once get each other's answers there. It has no asynchronous tasks yet.
            self.check(context)
            return
        from concurrent.futures import ThreadPoolExecutor

        # A thread of its own, because all threads of the event loop may be waiting for an answer from Airflow.
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aimlbilling-guard")
        in_context = partial(copy_context().run, self.check, context)
        try:
            await asyncio.get_running_loop().run_in_executor(executor, in_context)
        finally:
            executor.shutdown(wait=False)  # if the task was cancelled, a request may still be running


def _is_resuming(context: Context) -> bool:
    """Return whether the task was deferred and is resuming now."""
    ti: Any = context["ti"]
    server_context = getattr(ti, "_ti_context_from_server", None)  # on Airflow 3
    return bool(getattr(ti, "next_method", None) or getattr(server_context, "next_method", None))


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
