"""A check inside the task that spends, so that nothing happens between the check and the spending."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import AIRFLOW_3_2, NOTSET, AirflowSkipException
from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError, InsufficientBalanceError
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.guard_verdict import push_guard_verdict
from airflow_provider_aimlbilling.task_context import (
    current_context,
    in_event_loop,
    in_process_started_by_task,
    is_resuming,
)
from airflow_provider_aimlbilling.thresholds import check_budget, check_count_running, check_seconds, check_threshold

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context


def require_balance(
    threshold: object = NOTSET,
    *,
    aimlbilling_conn_id: str = DEFAULT_CONN_ID,
    skip_if_insufficient: bool = False,
    respect_key_limit: bool = False,
    count_running: object = False,
    max_wait: float = 60,
    budget: object = NOTSET,
) -> Guard:
    """
    Stop a task that must not start without money.

    For any operator, mapped or not::

        SpendingOperator(task_id="job", pre_execute=require_balance("2 USD"))

    or as a plain call in a ``@task``, before the code that spends::

        require_balance("2 USD")

    In a running task it checks at once; in a DAG file it returns the callable. Each index of a mapped task checks
    again, so the remaining indexes stop when the money is gone. As ``pre_execute`` it lets a task resume after a
    deferral, because that task has already spent; a plain call always checks.

    Jobs that start at the same moment all see the same money. With ``count_running``, the threshold is the price of one
    job, and the account must be able to pay for all running jobs, this one included. If it can pay for this job but
    not for all, the job waits for others to end or to give up.

    A guard that stops its task pushes its verdict as XCom ``aimlbilling_verdict``. One that lets it run pushes nothing.

    :param threshold: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`, templates included.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param skip_if_insufficient: skip the task instead of failing it. An unknown balance still fails it.
    :param respect_key_limit: compare the threshold with what the key may still spend, if that is less than the balance.
    :param budget: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`, templates included.
    :param count_running: ``True`` to count the running and deferred instances of this task in all runs; a list of
        ``"dag_id.task_id"`` to count those tasks as well; or a dictionary from such names to the most that one instance
        of the task costs, if that is not this threshold. Templated, except for the names in a dictionary; a template
        for all of it needs a DAG with ``render_template_as_native_obj=True``.
    :param max_wait: with ``count_running``, the longest time that a job waits for others, in seconds.
    :returns: a callable that takes the context and checks when it is called.
    :raises RuntimeError: it was called in a process that a task started with its own environment
        (``@task.external_python``, a spawned pool), where it cannot check; or in an asynchronous task, which needs
        :func:`arequire_balance`.
    :raises AimlBillingThresholdError: the threshold is not an amount, or is missing with ``count_running``, or the
        budget is not one; raised when Airflow parses the DAG, unless it is a template or an XCom.
    :raises ValueError: ``max_wait`` is not a number of seconds.
    :raises InsufficientBalanceError: the account cannot pay, or the budget does not allow it.
    :raises AirflowSkipException: the same, with ``skip_if_insufficient``.
    :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.get_balance`: nothing was decided, and
        the task does not run.
    """
    if isinstance(threshold, Mapping) and "ti" in threshold:  # Airflow's context: pre_execute was this function itself
        raise TypeError('Call it when you pass it: pre_execute=require_balance("2 USD").')
    guard = Guard(
        threshold, aimlbilling_conn_id, skip_if_insufficient, respect_key_limit, count_running, max_wait, budget
    )
    if (context := current_context()) is not None:
        if in_event_loop():
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
        check_budget(budget)
        check_count_running(count_running)
    return guard


def arequire_balance(
    threshold: object = NOTSET,
    *,
    aimlbilling_conn_id: str = DEFAULT_CONN_ID,
    skip_if_insufficient: bool = False,
    respect_key_limit: bool = False,
    count_running: object = False,
    max_wait: float = 60,
    budget: object = NOTSET,
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
    :param budget: as in :func:`require_balance`.
    :param count_running: as in :func:`require_balance`.
    :param max_wait: as in :func:`require_balance`.
    :returns: a coroutine, which checks when it is awaited. **Without await, nothing is checked.**
    :raises RuntimeError: it was called outside an event loop or a running task.
    :raises InsufficientBalanceError: or another exception, as in :func:`require_balance`.
    """
    context = current_context()
    # Checked here and not in a coroutine, which would do nothing at all if it was never awaited.
    if context is None or not in_event_loop() or (isinstance(threshold, Mapping) and "ti" in threshold):
        raise RuntimeError(
            "arequire_balance only works in an async task: write await arequire_balance(…) there. Elsewhere, and as "
            "pre_execute of any task, use require_balance(…)."
        )
    guard = Guard(
        threshold, aimlbilling_conn_id, skip_if_insufficient, respect_key_limit, count_running, max_wait, budget
    )
    return guard.acheck(context)


class Guard:
    """
    The callable that :func:`require_balance` returns.

    :param threshold: as in :func:`require_balance`.
    :param aimlbilling_conn_id: as in :func:`require_balance`.
    :param skip_if_insufficient: as in :func:`require_balance`.
    :param respect_key_limit: as in :func:`require_balance`.
    :param budget: as in :func:`require_balance`.
    :param count_running: as in :func:`require_balance`.
    :param max_wait: as in :func:`require_balance`.
    """

    def __init__(
        self,
        threshold: object,
        aimlbilling_conn_id: str,
        skip_if_insufficient: bool,
        respect_key_limit: bool,
        count_running: object,
        max_wait: float,
        budget: object = NOTSET,
    ) -> None:
        check_seconds("max_wait", max_wait)
        if count_running is not False and threshold is NOTSET:
            raise AimlBillingThresholdError(
                "count_running needs the price of one job: require_balance('0.25 USD', count_running=True)."
            )
        self.threshold = threshold
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.skip_if_insufficient = skip_if_insufficient
        self.respect_key_limit = respect_key_limit
        self.count_running = count_running
        self.max_wait = max_wait
        self.budget = budget

    def __call__(self, context: Context) -> None:
        """
        Check as ``pre_execute``. Airflow also calls it when a deferred task resumes, which has already spent.

        :param context: the task's context.
        :raises TypeError: it was used as a decorator.
        """
        if not isinstance(context, Mapping):
            raise TypeError("require_balance(…) is not a decorator: write @task(pre_execute=require_balance(…)).")
        if not is_resuming(context):
            self.check(context)

    def check(self, context: Context, wait: Callable[[float], object] = time.sleep) -> None:
        """
        Read the balance and decide whether the task may run.

        :param context: the task's context.
        :param wait: waits for some seconds, with ``count_running``.
        :raises InsufficientBalanceError: the account cannot pay.
        :raises AirflowSkipException: the account cannot pay, with ``skip_if_insufficient``.
        :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.get_balance`.
        """
        from airflow_provider_aimlbilling.count_running import decide_among_running
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
        from airflow_provider_aimlbilling.money.budget import Budget
        from airflow_provider_aimlbilling.money.gate import Gate

        task: Any = context["task"]
        # Airflow has rendered the task's own template fields by now. The guard's parameters are not among them.
        hook = AimlBillingHook(task.render_template(self.aimlbilling_conn_id, context))
        gate = Gate()
        if self.threshold is not NOTSET:  # None is an empty XCom or template, not a missing threshold
            gate = Gate.for_threshold(task.render_template(self.threshold, context), optional=False)
        options: dict[str, Any] = {"respect_key_limit": self.respect_key_limit}
        if self.budget is not NOTSET:
            options["budget"] = Budget.parse(task.render_template(self.budget, context))
        if self.count_running is False:
            verdict = hook.decide(gate, **options)
        else:
            count_running = task.render_template(self.count_running, context)
            verdict = decide_among_running(hook, gate, context["ti"], count_running, self.max_wait, wait, **options)
        if verdict.clears:
            return
        push_guard_verdict(context, verdict, hook.log)
        refusal = verdict.refusal(hook.aimlbilling_conn_id)
        if self.skip_if_insufficient:
            raise AirflowSkipException(refusal)
        raise InsufficientBalanceError(refusal)

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
        ended = Event()

        def wait(seconds: float) -> None:
            if ended.wait(seconds):
                raise asyncio.CancelledError

        in_context = partial(copy_context().run, self.check, context, wait)
        try:
            await asyncio.get_running_loop().run_in_executor(executor, in_context)
        finally:
            ended.set()
            executor.shutdown(wait=False)  # if the task was cancelled, a request may still be running


def keep_counted(seconds: float) -> Callable[..., None]:
    """
    Keep a task running until its charges have posted, so that guards with ``count_running`` still count it::

        SpendingOperator(
            task_id="job",
            pre_execute=require_balance("0.25 USD", count_running=True),
            post_execute=keep_counted(15),
        )

    The API charges after it has answered. Without this, a task that ends is no longer counted although its price is
    still in the balance. In a running task, a plain call waits at once. Airflow calls ``post_execute`` only after a
    success, so call it in a ``finally`` block if a task may fail after it has spent.

    :param seconds: how long charges take to post.
    :returns: a callable for ``post_execute``.
    :raises ValueError: it is not a number of seconds.
    :raises RuntimeError: it was called in an event loop, or in a process that a task started with its own environment.
    """
    check_seconds("keep_counted", seconds)
    if current_context() is not None:
        if in_event_loop():
            raise RuntimeError("keep_counted would block the event loop. Write: await asyncio.sleep(…)")
        time.sleep(seconds)
    elif in_process_started_by_task():
        raise RuntimeError("keep_counted was called in a process that a task started. Call it in the task itself.")
    return partial(_keep_counted, seconds)


def _keep_counted(seconds: float, *_context_and_result: object) -> None:
    time.sleep(seconds)
