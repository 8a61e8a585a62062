"""The operator that reports what one DAG run cost."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import (
    NOTSET,
    BaseOperator,
    conf,
    count_task_instances,
    has_dag_run,
    run_start,
    try_number,
)
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.links.billing import BillingPageLink
from airflow_provider_aimlbilling.thresholds import check_seconds

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context
    from airflow_provider_aimlbilling.money.amount import Amount
    from airflow_provider_aimlbilling.money.run_cost import RunCost
    from airflow_provider_aimlbilling.waiting.run_window import RunWindow

# What only a running task needs is imported where it is used: Airflow parses DAG files again and again.

# Airflow's deferral timeout is this much later than the wait's own deadline, so that a reading in progress can finish.
_DEFERRAL_SLACK = timedelta(minutes=5)
_SHORTEST = timedelta(seconds=1)
# In these states, a task instance may send requests without anything else happening first.
_ACTIVE = ("scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule")


class GetRunCostOperator(BaseOperator):
    """
    Report what a DAG run cost, by task, map index, try and model, in USD and credits.

    Counts the requests whose ``X-Client-Request-Id``, set by :func:`request_headers`, names a task of the run. Its XCom
    has the totals, what retries cost, a comparison with an estimate, and what could not be attributed; see
    ``docs/reference/xcoms.md``. A figure that is not known is ``None``, never 0.

    Charges appear some time after their requests. ``may_be_incomplete`` in the XCom is false only if the window ended
    at least ``settle_seconds`` ago, or if two readings that far apart saw the same charges and no other task of the run
    was active.

    :param run_id: the DAG run; templated. Default: the run of this task.
    :param run_dag_id: the DAG of the run; templated. Default: the DAG of this task.
    :param start: start of the window, as ``datetime`` or ISO 8601 text; UTC if it has no time zone; templated. Default:
        when the run of this task began. Required for another run.
    :param end: end of the window, in the same form; templated. Default: now.
    :param estimate: what the run was estimated to cost: the output of an :class:`EstimateCostOperator`, its XCom
        ``estimate``, another amount such as ``"2.50 USD"``, or a list of these; templated.
    :param wait_until_settled: wait until the charges have settled.
    :param settle_seconds: seconds between two readings that agree.
    :param settle_timeout: seconds that the wait may take. After that, the figures are reported as they are, with
        ``may_be_incomplete``.
    :param deferrable: wait in the triggerer, without a worker slot. Needs a running triggerer. Default: ``[operators]
        default_deferrable``.
    :param aimlbilling_conn_id: id of the Airflow connection whose key sent the requests; templated.
    :raises ValueError: there is no such DAG run, ``start`` is missing for another run, or a time cannot be read. When
        the DAG is parsed: ``settle_seconds`` or ``settle_timeout`` is not a valid number of seconds.
    :raises AimlBillingThresholdError: the estimate is not an amount of money.
    :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.iter_requests`.
    """

    template_fields: Sequence[str] = ("run_id", "run_dag_id", "start", "end", "estimate", "aimlbilling_conn_id")
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)

    def __init__(
        self,
        *,
        run_id: object = NOTSET,
        run_dag_id: object = NOTSET,
        start: object = NOTSET,
        end: object = NOTSET,
        estimate: object = NOTSET,
        wait_until_settled: bool = False,
        settle_seconds: float = 120,
        settle_timeout: float = 1800,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        check_seconds("settle_seconds", settle_seconds)
        check_seconds("settle_timeout", settle_timeout)
        if not 0 < settle_seconds <= settle_timeout:
            raise ValueError(
                f"settle_seconds is {settle_seconds!r} and settle_timeout {settle_timeout!r}: both are seconds, and "
                "settle_timeout must be at least settle_seconds, which must be more than 0."
            )
        super().__init__(**kwargs)
        self.run_id = None if run_id is NOTSET else run_id
        self.run_dag_id = None if run_dag_id is NOTSET else run_dag_id
        self.start = None if start is NOTSET else start
        self.end = None if end is NOTSET else end
        self.estimate = None if estimate is NOTSET else estimate
        # A template that renders to None must not silently fall back to the default.
        declared = {"run_id": run_id, "run_dag_id": run_dag_id, "start": start, "end": end, "estimate": estimate}
        self._declared = {name for name, value in declared.items() if value is not NOTSET}
        self.wait_until_settled = wait_until_settled
        self.settle_seconds = settle_seconds
        self.settle_timeout = settle_timeout
        self.deferrable = deferrable
        self.aimlbilling_conn_id = aimlbilling_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the request log, and wait if that was requested."""
        window, estimate = self._window(context), self._read_estimate()  # before any request
        began = time.time()
        hook = self._hook()
        cost = window.read(hook, began)
        settled = began - window.end_at(began).timestamp() >= self.settle_seconds
        if settled or not self.wait_until_settled:
            return self._report(context, window, cost, estimate, began, settled=settled)
        from airflow_provider_aimlbilling.exceptions import AimlBillingUnavailable
        from airflow_provider_aimlbilling.money.run_cost import Settling

        settling, deadline = Settling(self.settle_seconds), began + self.settle_timeout
        settling.update(cost.fingerprint, began, time.time())
        if self.deferrable:
            self._defer(context, window, settling, deadline)
        self.log.info("Waiting until two readings %g s apart show the same charges.", self.settle_seconds)
        pause = self.settle_seconds
        while not settled and time.time() < deadline:
            time.sleep(max(0.0, min(pause, deadline - time.time())))
            reading = time.time()
            try:
                cost, began = window.read(hook, reading), reading
            except AimlBillingUnavailable as error:  # the last figures are still good
                self.log.warning("Still waiting for the charges to settle: %s", error)
                pause = max(self.settle_seconds, error.retry_after or 0.0)
                continue
            settled = settling.update(cost.fingerprint, reading, time.time())
            pause = settling.next_reading(time.time(), deadline)
        return self._report(context, window, cost, estimate, began, settled=settled)

    def execute_complete(self, context: Context, event: object = None) -> dict[str, Any]:
        """
        Report the figures after the wait in the triggerer.

        :param event: what the trigger fired.
        :raises AimlBillingError: the error that the trigger reported.
        :raises AimlBillingContractError: this version of the trigger does not fire such an event.
        """
        from airflow_provider_aimlbilling.waiting.trigger_event import is_stale, read_settled_event

        if is_stale(event, try_number(context)):
            self.log.info("The trigger's event is from another try of the task. Reading the log again.")
            return self.execute(context)
        return self._read_and_report(context, read_settled_event(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral. If Airflow ended it, report the figures as they are."""
        if next_method == "__fail__":
            self.log.warning("The triggerer did not report back. Is one running? The figures may be incomplete.")
            return self._read_and_report(context, None)
        return super().resume_execution(next_method, next_kwargs, context)

    def _read_and_report(self, context: Context, fingerprint: str | None) -> dict[str, Any]:
        window, estimate, now = self._window(context), self._read_estimate(), time.time()
        cost = window.read(self._hook(), now)
        return self._report(context, window, cost, estimate, now, settled=cost.fingerprint == fingerprint)

    def _hook(self) -> Any:
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

        return AimlBillingHook(self.aimlbilling_conn_id)

    def _defer(self, context: Context, window: RunWindow, settling: Any, deadline: float) -> None:
        from airflow_provider_aimlbilling.triggers.run_cost import RunCostTrigger

        self.log.info("Deferring until two readings %g s apart show the same charges.", self.settle_seconds)
        trigger = RunCostTrigger(
            self.aimlbilling_conn_id,
            window.to_dict(),
            self.settle_seconds,
            deadline,
            settling.fingerprint,
            settling.since,
            try_number(context),
        )
        timeout = timedelta(seconds=self.settle_timeout) + _DEFERRAL_SLACK
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)

    def _window(self, context: Context) -> RunWindow:
        from airflow_provider_aimlbilling.waiting.run_window import RunWindow
        from airflow_provider_aimlbilling.windows import check_log_start, read_time

        ti: Any = context["ti"]
        dag_id, run_id = self._name("run_dag_id", ti.dag_id), self._name("run_id", ti.run_id)
        is_own, now = (dag_id, run_id) == (ti.dag_id, ti.run_id), datetime.now(timezone.utc)
        start = run_start(context) if is_own else None
        if start is not None:
            start = min(start, now - _SHORTEST)  # it comes from the scheduler, whose clock may be ahead
        if "start" in self._declared:
            start = read_time("start", self.start)
        if not is_own and not has_dag_run(context, dag_id, run_id):
            raise ValueError(
                f"The DAG {dag_id[:250]!r} has no run {run_id[:250]!r}. Check run_id and run_dag_id. Airflow may also "
                "have deleted the run."
            )
        if start is None:
            raise ValueError("Set start: a task cannot find out when another DAG run began.")
        check_log_start(start)
        end = read_time("end", self.end) if "end" in self._declared else None
        if start >= (end or now):
            raise ValueError(f"The window starts at {start.isoformat()}, which is not before its end.")
        return RunWindow(dag_id, run_id, start, end)

    def _name(self, name: str, default: str) -> str:
        if name not in self._declared:
            return default
        value = getattr(self, name)
        if not isinstance(value, str) or not value.strip() or value == "None":
            raise ValueError(f"{name} is {str(value)[:40]!r}: the template or XCom that should provide it was empty.")
        return value.strip()

    def _read_estimate(self) -> Amount | None:
        from airflow_provider_aimlbilling.money.run_cost import read_estimate

        return read_estimate(self.estimate) if "estimate" in self._declared else None

    def _report(
        self,
        context: Context,
        window: RunWindow,
        cost: RunCost,
        estimate: Amount | None,
        read_at: float,
        *,
        settled: bool,
    ) -> dict[str, Any]:
        from airflow_provider_aimlbilling.metrics import gauge_run_cost
        from airflow_provider_aimlbilling.money.cost_text import (
            NOTHING_FOUND,
            describe,
            lower_bound,
            not_attributed,
            table,
        )

        ti: Any = context["ti"]
        task_ids = getattr(context.get("dag"), "task_ids", ()) if window.dag_id == ti.dag_id else ()
        is_open = window.end is None or window.end.timestamp() > read_at
        settled = settled and not (is_open and _can_send_more(context, window, task_ids))
        report = cost.to_dict(
            end=window.end_at(read_at), may_be_incomplete=not settled, task_ids=task_ids, estimate=estimate
        )
        total = cost.cost
        self.log.info("%s", describe(cost, report))
        if cost.total.requests:
            self.log.info("\n%s", table(cost.lines(task_ids)))
        else:
            self.log.warning("%s", NOTHING_FOUND)
        if gap := lower_bound(cost.total):
            self.log.warning("%s", gap)
        if note := not_attributed(cost.unattributed):
            # A key may have other users. If the run has no request at all, they are probably the run's.
            self.log.log(logging.INFO if cost.total.requests else logging.WARNING, "%s", note)
        if total is not None and not cost.total.without_cost:
            gauge_run_cost(self.aimlbilling_conn_id, window.dag_id, total.credits)
        return report


def _can_send_more(context: Context, window: RunWindow, task_ids: Sequence[str]) -> bool:
    """Return whether the run of a window has not ended, or, if it is the task's own, has other active tasks."""
    ti: Any = context["ti"]
    if (window.dag_id, window.run_id) != (ti.dag_id, ti.run_id):
        return has_dag_run(context, window.dag_id, window.run_id, ["queued", "running"])
    others = [task_id for task_id in task_ids if task_id != ti.task_id]
    return bool(others) and count_task_instances(ti, ti.dag_id, others, _ACTIVE, ti.run_id) > 0
