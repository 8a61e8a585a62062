"""The sensor that waits until the account can pay."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseOperator,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_aimlbilling import exceptions
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingThresholdError,
)
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.left_out import LEFT_OUT
from airflow_provider_aimlbilling.links import BillingPageLink
from airflow_provider_aimlbilling.starting import OfInstance, literal, obstacle

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import StartTriggerArgs

    from airflow_provider_aimlbilling.balance import Balance
    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
    from airflow_provider_aimlbilling.waiting import Waiting

# What only a task needs is imported where it is needed, and not with the DAG file, which is loaded again and again.

_TRIGGER = "airflow_provider_aimlbilling.triggers.balance.BalanceTrigger"


class BalanceSensor(BaseSensorOperator):
    """
    Wait until the balance of an AI/ML API account clears a threshold.

    It waits through a low balance and through an API that cannot be reached, until ``timeout``; a refused key, a wrong
    connection or threshold, and an answer that breaks the API's contract fail it at once. The same holds in all three
    modes: ``mode="poke"``, ``mode="reschedule"`` and ``deferrable=True``.

    Its XCom is the balance that opened the gate, as :meth:`Balance.to_dict` gives it.

    All parameters of ``BaseSensorOperator`` work in all modes: ``soft_fail`` skips after a time-out, and only then;
    ``never_fail`` skips after every error; ``silent_fail`` logs errors and waits on; ``exponential_backoff`` and
    ``max_wait`` shape the pauses.

    :param threshold: what the account must hold; reaching it is enough. Credits as ``5_000_000`` or ``"5000000
        credits"``, dollars as ``"2.50 USD"`` or ``"$2.50"``; templated. Without it the account's own ``lowBalance``
        decides, which only ``api_version`` v1 reports.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param deferrable: wait in the triggerer, without a worker slot. Default: ``[operators] default_deferrable``.
    :param respect_key_limit: compare with what the key may still spend, where that is less than the balance.
    :param fail_if_topup_stuck: fail early where waiting is hopeless: auto top-up is on, the balance has been below its
        mark for ``topup_grace``, and the ledger shows no payment since.
    :param topup_grace: seconds that an auto top-up may take; an hour by default.
    :param start_from_trigger: with ``deferrable``, also start in the triggerer, and end there when the balance clears:
        no worker at all. Airflow 3.3 and later. Where it cannot be honoured (a mapped task, a threshold from an XCom
        or with macros, outlets, a callback on execution or success, …), the gate goes through a worker, and its log
        says why.
    :raises AirflowSensorTimeout: after ``timeout`` seconds, with the last balance, the shortfall and the last fault.
    :raises AimlBillingConnectionError: the connection is missing or wrong.
    :raises AimlBillingThresholdError: the threshold is no sum of money.
    :raises AimlBillingAuthError: the API refused the key.
    :raises AimlBillingTopUpStuckError: with ``fail_if_topup_stuck``.
    :raises AimlBillingContractError: the API's answer is not what it promises.
    """

    template_fields: Sequence[str] = ("threshold", "aimlbilling_conn_id")
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)
    _asked_to_start_from_trigger = False  # BaseOperator reads start_from_trigger before it is set

    def __init__(
        self,
        *,
        threshold: object = LEFT_OUT,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        respect_key_limit: bool = False,
        fail_if_topup_stuck: bool = False,
        topup_grace: float = 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.poke_interval <= 0:
            raise ValueError("poke_interval must be above 0 seconds: without a pause the API is asked without end.")
        if topup_grace <= 0:
            raise ValueError("topup_grace must be above 0 seconds: a payment takes its time.")
        self.threshold = None if threshold is LEFT_OUT else threshold
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.deferrable = deferrable
        self.respect_key_limit = respect_key_limit
        self.fail_if_topup_stuck = fail_if_topup_stuck
        self.topup_grace = topup_grace
        # A template that renders to None must not silently fall back to the account's own lowBalance.
        self._written = threshold
        self._conn_id_written = aimlbilling_conn_id
        self._asked_to_start_from_trigger = start_from_trigger
        self._waiting: Waiting | None = None
        self._not_before = 0.0  # time.monotonic() until which the API asked to be left in peace

    def _validate_start_from_trigger_kwargs(self) -> None:
        """
        Leave out Airflow's look for callables in the trigger's arguments, which has none to find.

        It would work them out each time a DAG file is loaded, and not only where a DAG is serialized.
        """

    def _starts_from_trigger(self) -> bool:
        return self._asked_to_start_from_trigger and not self._start_obstacle(self.threshold, self.aimlbilling_conn_id)

    def _start_obstacle(self, threshold: object, conn_id: object, map_index: int | None = None) -> str | None:
        if type(self) is not BalanceSensor:
            return "a subclass may do more on a worker"
        return obstacle(self, None if threshold is LEFT_OUT else threshold, conn_id, map_index)

    def _start_trigger_args(self) -> StartTriggerArgs | None:
        if not self._starts_from_trigger():
            return None
        from airflow.triggers.base import StartTriggerArgs

        from airflow_provider_aimlbilling.waiting import deferral_timeout

        return StartTriggerArgs(
            trigger_cls=_TRIGGER,
            trigger_kwargs={
                "threshold": literal(self.threshold),
                "aimlbilling_conn_id": self.aimlbilling_conn_id,
                "deadline": None,  # a triggerer of an older version asks for it
                "end_from_trigger": True,
                **self._pace(),
            },
            next_method="execute_complete",
            timeout=deferral_timeout(self.timeout, self.poke_interval),
        )

    def _pace(self) -> dict[str, Any]:
        """What the trigger must know of the flags, however it is started."""
        flags = {
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait.total_seconds() if self.max_wait else None,
            "silent_fail": self.silent_fail,
        }
        # Only what is set: Airflow hands the whole serialized DAG to the triggerer with each gate that starts there.
        return {
            "poke_interval": self.poke_interval,
            **{name: flag for name, flag in flags.items() if flag},
            **self._asked(),
        }

    def _asked(self) -> dict[str, Any]:
        """What is asked beside the balance."""
        limit = {"respect_key_limit": True} if self.respect_key_limit else {}
        return limit | ({"top_up_grace": self.topup_grace} if self.fail_if_topup_stuck else {})

    # What Airflow serializes.
    start_from_trigger = OfInstance(False, _starts_from_trigger)
    start_trigger_args = OfInstance(None, _start_trigger_args)

    @cached_property
    def _hook(self) -> AimlBillingHook:
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

        # The sensor's wait is the retry.
        return AimlBillingHook(self.aimlbilling_conn_id, retries=0)

    def _begin(self, context: Context) -> Waiting:
        from airflow_provider_aimlbilling.balance import Gate
        from airflow_provider_aimlbilling.waiting import Waiting

        map_index = getattr(context.get("ti"), "map_index", None)
        gate = Gate.for_threshold(self.threshold, written=self._written, map_index=map_index)
        return Waiting(gate, self.log, silent_fail=self.silent_fail)

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask once. Done when the balance clears; not done when it does not, or when nobody can say."""
        self._waiting = self._waiting or self._begin(context)
        if time.monotonic() < self._not_before:
            return PokeReturnValue(False)
        reading: Balance | AimlBillingError
        try:
            reading = self._hook.get_balance(with_top_up=True, **self._asked())
        except AimlBillingError as error:
            reading = error
            self._hook.close()  # so that the next poke looks the connection up again: somebody may have mended it
        self._not_before = time.monotonic() + (getattr(reading, "retry_after", None) or 0.0)
        verdict = self._waiting.look(reading)
        if verdict and verdict.clears and verdict.balance:
            return PokeReturnValue(True, verdict.balance.to_dict())
        return PokeReturnValue(False)

    def execute(self, context: Context) -> Any:
        """Wait on the worker, or look once and defer."""
        if self._asked_to_start_from_trigger:
            map_index = getattr(context.get("ti"), "map_index", None)
            if why := self._start_obstacle(self._written, self._conn_id_written, map_index):
                self.log.info("start_from_trigger has no effect here: %s.", why)
        try:
            self._waiting = self._begin(context)
        except AimlBillingThresholdError as error:  # before anything is asked: no wait mends the DAG
            self._end(error)
        if not self.deferrable:
            return self._wait_on_worker(context)
        deadline = time.time() + self.timeout
        poked = PokeReturnValue(False)
        try:
            poked = self.poke(context)  # most gates are open: those never need the triggerer
        except Exception as error:
            if not self.silent_fail:
                self._end(error)
            self.log.exception("The first poke failed; silent_fail waits on.")
        verdict = self._last_verdict()
        if poked:
            self._tell(context, verdict, clears=True)
            return poked.xcom_value
        now = time.time()
        if now >= deadline:
            self._tell(context, verdict, clears=False)
            self._end(self._timed_out(self._story()))
        from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger
        from airflow_provider_aimlbilling.waiting import deferral_timeout

        until = datetime.fromtimestamp(deadline, tz=timezone.utc).isoformat(timespec="seconds")
        every = f"every {self.poke_interval:g} s"
        pauses = "with growing pauses, on a poll of its own" if self.exponential_backoff else every
        self.log.info("The triggerer goes on asking, %s, until %s.", pauses, until)
        self._push_verdict(context, verdict)  # should the triggerer see no balance any more
        threshold = self._waiting.gate.threshold
        self.defer(
            trigger=BalanceTrigger(
                aimlbilling_conn_id=self.aimlbilling_conn_id,
                threshold=None if threshold is None else threshold.text,
                deadline=deadline,
                next_poll_at=now + max(self.poke_interval, self._not_before - time.monotonic()),
                last_seen=self._waiting.seen,
                last_fault=self._waiting.fault,
                **self._pace(),
            ),
            method_name="execute_complete",
            timeout=deferral_timeout(deadline - now, self.poke_interval),
        )

    def execute_complete(self, context: Context, event: object = None) -> dict[str, Any]:
        """
        Take up the trigger's event. "Not an error" is not success: what is not known here is refused.

        :raises AimlBillingContractError: if the event is none that this version of the trigger fires.
        """
        event = event if isinstance(event, dict) else {"status": event}
        status, message = event.get("status"), event.get("message")
        if status == "cleared":
            from airflow_provider_aimlbilling.balance import Balance

            balance = Balance.from_dict(event.get("balance")).to_dict()
            self._tell(context, event.get("verdict"), clears=True)
            return balance
        if status == "timeout" and isinstance(message, str):
            self._tell(context, event.get("verdict"), clears=False)
            raise self._timed_out(message)
        kind = getattr(exceptions, str(event.get("error")), None)
        if not (isinstance(kind, type) and issubclass(kind, AimlBillingError)):
            kind = None
        if status == "failed" and isinstance(message, str) and kind is not None:
            raise kind(message)
        raise AimlBillingContractError(
            f"The trigger sent an event that this sensor does not know (status {str(status)[:40]!r}). Install the same "
            "version of airflow-provider-aimlbilling for the workers and the triggerer, then clear this task."
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the deferral, with the flags meaning what they mean in the other modes."""
        # Past BaseSensorOperator on purpose: there soft_fail skips on faults of the triggerer too, and what never_fail
        # and a deferral time-out do differs between Airflow versions.
        try:
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
        except (AirflowSensorTimeout, AimlBillingError) as error:
            self._end(error)
        except Exception as error:
            if next_method != "__fail__":
                raise
            # Airflow itself ended the deferral. Its versions share the words of the reason, but no exception for it.
            if "timeout" in str(error).lower():
                self._tell(context, None, clears=False)
                self._end(self._timed_out("The triggerer did not report; is one running?"))
            self._end(error)

    def _wait_on_worker(self, context: Context) -> Any:
        try:
            opened = super().execute(context)
        except AirflowSensorTimeout:
            self._tell(context, self._last_verdict(), clears=False)
            self._end(self._timed_out(self._story()))
        except AirflowSkipException as skip:
            if not isinstance(skip.__cause__, AimlBillingError):
                self._tell(context, self._last_verdict(), clears=False)
            # Raised by BaseSensorOperator for one of the flags: without a cause it is soft_fail after a time-out.
            self._end(skip.__cause__ or self._timed_out(self._story()))
        self._tell(context, self._last_verdict(), clears=True)
        return opened

    def _tell(self, context: Context, verdict: object, *, clears: bool) -> None:
        """Let others see how the gate ended: by a verdict or by its time-out. Errors are neither."""
        from airflow_provider_aimlbilling.metrics import count_decision

        count_decision(self.aimlbilling_conn_id, clears=clears)
        self._push_verdict(context, verdict)

    def _last_verdict(self) -> dict[str, Any] | None:
        verdict = self._waiting.verdict if self._waiting else None
        return verdict.to_dict() if verdict else None

    def _push_verdict(self, context: Context, verdict: object) -> None:
        if self.do_xcom_push and isinstance(verdict, dict):
            context["ti"].xcom_push(key="verdict", value=verdict)

    def _get_next_poke_interval(self, started_at: Any, run_duration: Callable[[], float], poke_count: int) -> float:
        pause: float = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        return max(pause, min(self._not_before - time.monotonic(), self.timeout - run_duration()))

    def _story(self) -> str:
        return self._waiting.story() if self._waiting else ""

    def _timed_out(self, story: str) -> AirflowSensorTimeout:
        return AirflowSensorTimeout(f"The balance did not clear within {self.timeout:g} seconds. {story}")

    def _end(self, error: BaseException) -> NoReturn:
        """End without success, as the flags ask. One place for all modes."""
        if self.never_fail or (self.soft_fail and isinstance(error, AirflowSensorTimeout)):
            raise AirflowSkipException(str(error)) from None
        raise error from None
