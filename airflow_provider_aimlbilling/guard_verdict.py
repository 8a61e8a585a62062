"""What a guard leaves behind when it stops its task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context
    from airflow_provider_aimlbilling.money.gate import Verdict

# The key of a guard's XCom. Not "verdict", which the task that the guard runs in may push itself.
GUARD_VERDICT = "aimlbilling_verdict"


def push_guard_verdict(context: Context, verdict: Verdict, log: Any) -> None:
    """
    Push the verdict of a guard that stops its task, unless the task pushes no XComs.

    The task stops in any case, so a failure is only logged.

    :param context: the task's context.
    :param verdict: what the guard decided.
    :param log: the logger of a failure.
    """
    fault = ""
    try:
        if getattr(context["task"], "do_xcom_push", True):
            context["ti"].xcom_push(key=GUARD_VERDICT, value=verdict.to_dict())
    except Exception as error:  # noqa: BLE001 - an XCom backend may raise anything
        fault = type(error).__name__
    # Not in the handler above: a log handler that fails there shows the message of the error.
    if fault:
        log.warning("The guard's verdict could not be pushed as XCom (%s).", fault)
