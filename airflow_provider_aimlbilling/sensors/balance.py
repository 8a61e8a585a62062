"""The sensor that waits until the account can pay."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_aimlbilling import thresholds
from airflow_provider_aimlbilling.compat import (
    NOTSET,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseOperator,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
    seconds_since_first_poke,
    timeout_per_try,
    try_number,
)
from airflow_provider_aimlbilling.exceptions import AimlBillingError, AimlBillingThresholdError
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID, MAX_TOPUP_GRACE, MIN_POKE_INTERVAL
from airflow_provider_aimlbilling.links.billing import BillingPageLink

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context
    from airflow_provider_aimlbilling.money.budget import Budget
    from airflow_provider_aimlbilling.waiting.wait_state import WaitState
    from airflow_provider_aimlbilling.waiting.worker_poll import WorkerPoll

# What only a running task needs is imported where it is used: Airflow parses DAG files again and again.


class _FromTrigger:
    """
    An attribute that ``waiting.start_from_trigger`` computes for each instance. On the class it is the default.

    Airflow uses what it finds on the class for all indexes of a mapped task, and cluster policies may change a task
    until it is serialized.
    """

    def __init__(self, function: str, default: object) -> None:
        self._function = function
        self._default = default

    def __get__(self, sensor: BalanceSensor | None, owner: type) -> Any:
        if sensor is None or not sensor._start_from_trigger_requested:  # noqa: SLF001 - of this module
            return self._default
        from airflow_provider_aimlbilling.waiting import start_from_trigger

        return getattr(start_from_trigger, self._function)(sensor)


class BalanceSensor(BaseSensorOperator):
    """
    Wait until the balance of an AI/ML API account reaches a threshold.

    The sensor waits while the balance is low or the API cannot be reached, until ``timeout``. A refused key and an
    invalid connection or threshold fail it at once, an answer that is not as documented only after it has lasted. It
    behaves the same in all three modes: ``mode="poke"``, ``mode="reschedule"`` and ``deferrable=True``.

    Its XCom is the balance that opened the gate, as :meth:`Balance.to_dict` returns it. The XCom ``verdict`` holds the
    last verdict, as :meth:`Verdict.to_dict` returns it.

    All parameters of ``BaseSensorOperator`` work in all modes: ``soft_fail`` skips the task after a timeout, and only
    then; ``never_fail`` skips it after any error; ``silent_fail`` logs errors and keeps waiting;
    ``exponential_backoff`` and ``max_wait`` control the time between polls.

    :param threshold: what the account must hold; reaching it is enough. Credits as ``5_000_000`` or ``"5000000
        credits"``, dollars as ``"2.50 USD"`` or ``"$2.50"``; templated. If it is not set, the account's own
        ``lowBalance`` decides, which only ``api_version`` v1 reports.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param deferrable: wait in the triggerer, without a worker slot. Needs a running triggerer. Default: ``[operators]
        default_deferrable``.
    :param respect_key_limit: compare the threshold with what the key may still spend, if that is less than the balance.
    :param budget: spending per calendar period, ``"200 USD per month"`` or ``"5 USD per day in Asia/Tokyo"``. What is
        left of it must reach the threshold, too, or be above zero if there is no threshold; templated.
    :param fail_if_topup_stuck: fail early if waiting cannot succeed: auto top-up is on, the balance has been below its
        threshold for ``topup_grace`` seconds, and the ledger shows no payment since.
    :param topup_grace: seconds that an auto top-up may take. Default: one hour.
    :param start_from_trigger: with ``deferrable``, also start in the triggerer and, when the balance reaches the
        threshold, end there, without any worker. Needs Airflow 3.3 or later. If that is not possible (a mapped task, a
        threshold from an XCom or with macros, outlets, a callback on execution or success, …), the task goes through a
        worker, and its log says why.
    :raises AirflowSensorTimeout: after ``timeout`` seconds, with the last balance, the shortfall and the last error.
    :raises AimlBillingConnectionError: the connection is missing or invalid.
    :raises AimlBillingThresholdError: the threshold is not an amount of money, or the budget is not one.
    :raises AimlBillingAuthError: the API refused the key.
    :raises AimlBillingTopUpStuckError: no payment arrived, with ``fail_if_topup_stuck``.
    :raises AimlBillingContractError: the API's answer is not as documented.
    """

    template_fields: Sequence[str] = ("threshold", "aimlbilling_conn_id", "budget")
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)
    start_from_trigger = _FromTrigger("starts_from_trigger", False)
    start_trigger_args = _FromTrigger("start_trigger_args", None)
    _start_from_trigger_requested = False  # BaseOperator reads start_from_trigger before it is set below

    def __init__(
        self,
        *,
        threshold: object = NOTSET,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        respect_key_limit: bool = False,
        budget: object = NOTSET,
        fail_if_topup_stuck: bool = False,
        topup_grace: float = 3600,
        **kwargs: Any,
    ) -> None:
        thresholds.check_sensor_seconds(kwargs)
        super().__init__(**kwargs)
        if self.poke_interval < MIN_POKE_INTERVAL:
            raise ValueError(f"poke_interval must be at least {MIN_POKE_INTERVAL} seconds, not {self.poke_interval!r}.")
        if isinstance(topup_grace, bool) or not 0 < topup_grace < MAX_TOPUP_GRACE:
            raise ValueError(f"topup_grace must be above 0 seconds, because a payment takes time, not {topup_grace!r}.")
        thresholds.check_threshold(threshold, self)
        thresholds.check_budget(budget, self)
        self.threshold = None if threshold is NOTSET else threshold
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.deferrable = deferrable
        self.respect_key_limit = respect_key_limit
        self.budget = None if budget is NOTSET else budget
        self.fail_if_topup_stuck = fail_if_topup_stuck
        self.topup_grace = topup_grace
        # A template that renders to None must not silently fall back to the account's own lowBalance, or to no budget.
        self._declared = {"threshold": threshold, "aimlbilling_conn_id": aimlbilling_conn_id, "budget": budget}
        self._budget: Budget | None = None  # set when the task runs
        self._start_from_trigger_requested = start_from_trigger
        self._wait_state: WaitState | None = None
        self._poll: WorkerPoll | None = None

    def _validate_start_from_trigger_kwargs(self) -> None:
        """Skip Airflow's search for callables among the trigger's arguments: there are none, and it is slow."""

    def query_options(self) -> dict[str, Any]:
        """Return what is read besides the balance, as arguments of :meth:`AimlBillingHook.get_balance`."""
        top_up_grace = self.topup_grace if self.fail_if_topup_stuck else None
        options = {"respect_key_limit": self.respect_key_limit, "budget": self._budget, "top_up_grace": top_up_grace}
        return {name: value for name, value in options.items() if value}

    def _new_poll(self, context: Context) -> WorkerPoll:
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
        from airflow_provider_aimlbilling.waiting.worker_poll import WorkerPoll

        hook = AimlBillingHook(self.aimlbilling_conn_id, retries=0)
        return WorkerPoll(hook, self.timeout, seconds_since_first_poke(self, context))

    def _new_wait_state(self, context: Context) -> WaitState:
        from airflow_provider_aimlbilling.waiting.wait_state import WaitState

        gate = thresholds.resolve_gate(self, self._declared, context)
        self._budget = thresholds.resolve_budget(self, self._declared, context)
        return WaitState(gate, self.log, silent_fail=self.silent_fail)

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Read the balance once.

        :returns: done, with the balance, if it reaches the threshold; not done if it does not, or if it is unknown.
        """
        self._wait_state = self._wait_state or self._new_wait_state(context)
        self._poll = self._poll or self._new_poll(context)
        reading = self._poll.read(self.query_options())
        verdict = None if reading is None else self._wait_state.update(reading)
        if verdict and verdict.clears and verdict.balance:
            return PokeReturnValue(True, verdict.balance.to_dict())
        return PokeReturnValue(False)

    def execute(self, context: Context) -> Any:
        """Wait on the worker; or, if ``deferrable``, read the balance once and then defer."""
        if self._start_from_trigger_requested:
            from airflow_provider_aimlbilling.waiting.start_from_trigger import log_why_on_worker

            log_why_on_worker(self, self._declared, context)
        self._poll = self._new_poll(context)
        try:
            self._wait_state = self._new_wait_state(context)
        except AimlBillingThresholdError as error:  # before any request, because waiting does not fix the DAG
            self._fail_or_skip(error)
        wait = self._poke_then_defer if self.deferrable else self._wait_on_worker
        return wait(context, self._wait_state)

    def _wait_on_worker(self, context: Context, wait_state: WaitState) -> Any:
        try:
            with timeout_per_try(self, context):
                result = super().execute(context)
        except AirflowSensorTimeout:
            self._count(clears=False)
            self._fail_or_skip(self._timeout_error(wait_state.summary()))
        except AirflowSkipException as skip:
            if not isinstance(skip.__cause__, AimlBillingError):
                self._count(clears=False)
            # BaseSensorOperator raised it because of one of the flags: without a cause, of soft_fail after a timeout.
            self._fail_or_skip(skip.__cause__ or self._timeout_error(wait_state.summary()))
        finally:
            self._push_verdict(context, wait_state.verdict_dict())
        self._count(clears=True)
        return result

    def _poke_then_defer(self, context: Context, wait_state: WaitState) -> Any:
        deadline = time.time() + self.timeout
        poked = PokeReturnValue(False)
        try:
            poked = self.poke(context)  # most gates are open and never need the triggerer
        except Exception as error:
            if not self.silent_fail:
                self._fail_or_skip(error)
            self.log.exception("The first poke failed. Still waiting, because silent_fail is set.")
        finally:
            self._push_verdict(context, wait_state.verdict_dict())  # in case the triggerer never reads a balance
        if poked:
            self._count(clears=True)
            return poked.xcom_value
        if time.time() >= deadline:
            self._count(clears=False)
            self._fail_or_skip(self._timeout_error(wait_state.summary()))
        from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger
        from airflow_provider_aimlbilling.waiting import deferral

        self.log.info("Deferring: %s.", deferral.describe_polling(self, deadline))
        arguments = deferral.trigger_arguments(self, wait_state, deadline, self._retry_after(), try_number(context))
        self.defer(
            trigger=BalanceTrigger(**arguments),
            method_name="execute_complete",
            timeout=deferral.deferral_timeout(deadline - time.time(), self.poke_interval),
        )

    def execute_complete(self, context: Context, event: object = None) -> dict[str, Any]:
        """
        Handle the trigger's event. Only an event that says so is a success.

        :param event: what the trigger fired.
        :returns: the balance, as :meth:`Balance.to_dict` returns it.
        :raises AirflowSensorTimeout: the deadline passed.
        :raises AimlBillingError: the error that the trigger reported.
        :raises AimlBillingContractError: this version of the trigger does not fire such an event.
        """
        from airflow_provider_aimlbilling.waiting.trigger_event import TimeoutEvent, is_stale, read_event

        if is_stale(event, try_number(context)):
            self.log.info("The trigger's event is from another try of the task. Reading the balance again.")
            return self.execute(context)  # type: ignore[no-any-return]
        if isinstance(event, dict):
            self._push_verdict(context, event.get("verdict"))
        outcome = read_event(event)
        self._count(clears=not isinstance(outcome, TimeoutEvent))
        if isinstance(outcome, TimeoutEvent):
            raise self._timeout_error(outcome.message)
        return outcome.balance

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral. The flags mean the same as in the other modes."""
        # Deliberately bypasses BaseSensorOperator: its soft_fail also skips on faults of the triggerer, and it handles
        # never_fail and the deferral timeout differently in different Airflow versions.
        try:
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
        except (AirflowSensorTimeout, AimlBillingError) as error:
            self._fail_or_skip(error)
        except Exception as error:
            if next_method != "__fail__":
                raise
            # Airflow itself ended the deferral. The reason reads the same in all versions; the exception differs.
            if "timeout" in str(error).lower():
                self._count(clears=False)
                self._fail_or_skip(self._timeout_error("The triggerer did not report back. Is one running?"))
            self._fail_or_skip(error)

    def _count(self, *, clears: bool) -> None:
        """Count how the gate ended, by a verdict or a timeout. An error is neither."""
        from airflow_provider_aimlbilling.metrics import count_decision

        count_decision(self.aimlbilling_conn_id, clears=clears)

    def _push_verdict(self, context: Context, verdict: object) -> None:
        """Push the last verdict, however the wait goes on or ends."""
        if self.do_xcom_push and isinstance(verdict, dict):
            context["ti"].xcom_push(key="verdict", value=verdict)

    def _get_next_poke_interval(self, started_at: Any, run_duration: Callable[[], float], poke_count: int) -> float:
        pause: float = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        return max(pause, min(self._retry_after(), self.timeout - run_duration()))

    def _retry_after(self) -> float:
        return self._poll.retry_after() if self._poll else 0.0

    def _timeout_error(self, summary: str) -> AirflowSensorTimeout:
        return AirflowSensorTimeout(f"Timed out after {self.timeout:g} seconds. {summary}")

    def _fail_or_skip(self, error: BaseException) -> NoReturn:
        """End without success, as the flags require. All modes end here."""
        if self.never_fail or (self.soft_fail and isinstance(error, AirflowSensorTimeout)):
            raise AirflowSkipException(str(error)) from None
        raise error from None
