"""A check in the same task as the spending, so that nothing lies between the two."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_aimlbilling.exceptions import InsufficientBalanceError
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.left_out import LEFT_OUT

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aimlbilling.balance import Verdict


def require_balance(
    threshold: object = LEFT_OUT,
    *,
    aimlbilling_conn_id: str = DEFAULT_CONN_ID,
    skip_if_insufficient: bool = False,
    respect_key_limit: bool = False,
) -> Guard:
    """
    Hold a task that must not start without money.

    For any operator, mapped or not::

        SpendingOperator(task_id="job", pre_execute=require_balance("2 USD"))

    or as a plain call in a ``@task``, ahead of what spends::

        require_balance("2 USD")

    In a running task it checks at once; in a DAG file it gives the callable. On a mapped task each index asks anew, so
    that the rest is held when the money is gone. As ``pre_execute`` it does not hold a task that was deferred and goes
    on, since that has spent; a plain call always checks.

    :param threshold: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`, templates included.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param skip_if_insufficient: skip the task in place of failing it. An unknown balance fails it all the same.
    :param respect_key_limit: compare with what the key may still spend, where that is less than the balance.
    :returns: a callable that takes the context; calling it checks (again).
    :raises RuntimeError: it stands in a process of the task's own making (``@task.external_python``, a spawned pool),
        where it could not do either.
    :raises InsufficientBalanceError: the account cannot pay.
    :raises AirflowSkipException: the same, with ``skip_if_insufficient``.
    :raises AimlBillingError: its other children, as :meth:`AimlBillingHook.get_balance` says: nothing was decided, and
        the task does not run.
    """
    if isinstance(threshold, Mapping) and "ti" in threshold:  # Airflow's context: it was handed this function itself
        raise TypeError('Call it where it is handed over: pre_execute=require_balance("2 USD").')
    guard = Guard(threshold, aimlbilling_conn_id, skip_if_insufficient, respect_key_limit)
    if (context := _running()) is not None:
        guard.check(context)
    elif _in_a_process_of_a_task():
        # To give the callable here would be to let the task spend unchecked.
        raise RuntimeError(
            "require_balance was called in a process that a task has started, where Airflow's context is not known. "
            "Call it in the task itself, or give it to the task as pre_execute=. (If DAG files are loaded here on "
            "purpose, take AIRFLOW_CTX_TASK_ID out of the environment of that process.)"
        )
    return guard


class Guard:
    """What :func:`require_balance` gives."""

    def __init__(
        self, threshold: object, aimlbilling_conn_id: str, skip_if_insufficient: bool, respect_key_limit: bool
    ) -> None:
        self.threshold = threshold
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.skip_if_insufficient = skip_if_insufficient
        self.respect_key_limit = respect_key_limit

    def __call__(self, context: Context) -> None:
        """Check as ``pre_execute``, which Airflow calls once more when a deferred task goes on. It has spent then."""
        if not isinstance(context, Mapping):
            raise TypeError("require_balance(…) decorates nothing: write @task(pre_execute=require_balance(…)).")
        if not _goes_on(context):
            self.check(context)

    def check(self, context: Context) -> None:
        """Ask the API, decide, and let the task run or not."""
        verdict = self._decide(context)
        if verdict.clears:
            return
        message = f"The account of {self.aimlbilling_conn_id!r} cannot pay for this task: {verdict.reason}."
        if self.skip_if_insufficient:
            raise AirflowSkipException(message)
        raise InsufficientBalanceError(message)

    def _decide(self, context: Context) -> Verdict:
        from airflow_provider_aimlbilling.balance import Amount, Gate
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

        task: Any = context["task"]
        # The task's own template fields are rendered before this; what is written here is not among them.
        conn_id = task.render_template(self.aimlbilling_conn_id, context)
        gate = Gate()
        if self.threshold is not LEFT_OUT:  # None is not left out: it is an XCom or a template that gave nothing
            gate = Gate(Amount.parse(task.render_template(self.threshold, context)))
        return AimlBillingHook(conn_id).decide(gate, respect_key_limit=self.respect_key_limit)


def _goes_on(context: Context) -> bool:
    """Say whether the task was deferred and goes on."""
    ti: Any = context["ti"]
    told = getattr(ti, "_ti_context_from_server", None)  # of Airflow 3
    return bool(getattr(ti, "next_method", None) or getattr(told, "next_method", None))


def _in_a_process_of_a_task() -> bool:
    """Say whether this process was started, and not forked, by a running task: its environment came with the mark."""
    try:
        return b"\0AIRFLOW_CTX_TASK_ID=" in b"\0" + Path("/proc/self/environ").read_bytes()
    except OSError:
        return False


def _running() -> Context | None:
    """Give the context of the task that runs here; ``None`` while a DAG file is loaded."""
    from airflow.providers.common.compat.sdk import get_current_context

    try:
        return get_current_context()
    except Exception:  # noqa: BLE001 - its versions raise exceptions of their own
        return None
