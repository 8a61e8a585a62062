"""Operators that read the balance, and gates that act on it without waiting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, SkipMixin
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_aimlbilling.exceptions import InsufficientBalanceError
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.left_out import LEFT_OUT
from airflow_provider_aimlbilling.links import BillingPageLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aimlbilling.balance import Verdict

# What only a task needs is imported where it is needed, and not with the DAG file, which is loaded again and again.


class GetBalanceOperator(BaseOperator):
    """
    Read the balance and give it as XCom: credits, USD, and all documented fields, see :meth:`Balance.to_dict`.

    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :raises InsufficientBalanceError: the API says only that the account is out of credits, and no balance.
    :raises AimlBillingUnavailable: no believable answer after a few tries; Airflow's retries follow.
    :raises AimlBillingError: its other children, as :meth:`AimlBillingHook.get_balance` says.
    """

    template_fields: Sequence[str] = ("aimlbilling_conn_id",)
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)

    def __init__(self, *, aimlbilling_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.aimlbilling_conn_id = aimlbilling_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask the API."""
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

        balance = AimlBillingHook(self.aimlbilling_conn_id).get_balance()
        self.log.info("The account of %s holds %s.", self.aimlbilling_conn_id, balance.amount)
        return balance.to_dict()


class _GateOperator(BaseOperator):
    """What the three gates share: one reading, one verdict, told and pushed before anything is done about it."""

    template_fields: Sequence[str] = ("threshold", "aimlbilling_conn_id")
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)

    def __init__(
        self,
        *,
        threshold: object = LEFT_OUT,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        respect_key_limit: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.threshold = None if threshold is LEFT_OUT else threshold
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.respect_key_limit = respect_key_limit
        # A template that renders to None must not silently fall back to the account's own lowBalance.
        self._written = threshold

    def _decide(self, context: Context) -> Verdict:
        from airflow_provider_aimlbilling.balance import Gate
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

        gate = Gate.for_threshold(self.threshold, written=self._written, map_index=context["ti"].map_index)
        verdict = AimlBillingHook(self.aimlbilling_conn_id).decide(gate, respect_key_limit=self.respect_key_limit)
        if self.do_xcom_push:
            context["ti"].xcom_push(key="verdict", value=verdict.to_dict())
        return verdict


class BalanceCheckOperator(_GateOperator):
    """
    Fail unless the balance clears a threshold.

    Pushes the XCom ``verdict`` (:meth:`Verdict.to_dict`) before it fails; returns the balance when it clears.

    :param threshold: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`; templated.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param respect_key_limit: compare with what the key may still spend, where that is less than the balance.
    :raises InsufficientBalanceError: the balance is below the threshold, or the API says that credits are used up.
    :raises AimlBillingUnavailable: no believable answer after a few tries: neither sufficient nor insufficient.
    :raises AimlBillingError: its other children, as :meth:`AimlBillingHook.get_balance` says.
    """

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Ask the API, decide, and fail or go on."""
        verdict = self._decide(context)
        if not verdict.clears:
            raise InsufficientBalanceError(f"The account of {self.aimlbilling_conn_id!r} cannot pay: {verdict.reason}.")
        return verdict.balance.to_dict() if verdict.balance else None


class BalanceShortCircuitOperator(_GateOperator, SkipMixin):
    """
    Skip what follows unless the balance clears a threshold.

    Pushes the XCom ``verdict`` (:meth:`Verdict.to_dict`) before it skips; returns the balance when it clears.

    :param threshold: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`; templated.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param respect_key_limit: compare with what the key may still spend, where that is less than the balance.
    :param ignore_downstream_trigger_rules: skip all tasks downstream, whatever their trigger rules say. With ``False``
        only the tasks directly downstream are skipped, and the rules of those after them decide.
    :raises AimlBillingUnavailable: no believable answer after a few tries: neither sufficient nor insufficient.
    :raises AimlBillingError: its other children, as :meth:`AimlBillingHook.get_balance` says.
    """

    inherits_from_skipmixin = True

    def __init__(self, *, ignore_downstream_trigger_rules: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Ask the API, decide, and skip or go on."""
        verdict = self._decide(context)
        if verdict.clears:
            return verdict.balance.to_dict() if verdict.balance else None
        task, ti = context["task"], context["ti"]
        relatives = task.get_flat_relatives if self.ignore_downstream_trigger_rules else task.get_direct_relatives
        # Teardowns clean up what setups made, also when the work between them was skipped.
        to_skip = [node for node in relatives(upstream=False) if not node.is_teardown]
        where: dict[str, Any] = {"ti": ti}
        if not AIRFLOW_V_3_0_PLUS:
            dag_run: Any = context["dag_run"]
            where = {"dag_run": dag_run, "execution_date": dag_run.execution_date, "map_index": ti.map_index}
        self.skip(tasks=to_skip, **where)
        return None


class BalanceBranchOperator(_GateOperator, SkipMixin):
    """
    Follow one branch if the balance clears a threshold, and another if it does not.

    Pushes the XCom ``verdict`` (:meth:`Verdict.to_dict`) before it branches. Tasks directly downstream that are on
    neither chosen path are skipped.

    :param threshold: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`; templated.
    :param follow_task_ids_if_sufficient: task id, or list of task ids, to follow when the balance clears.
    :param follow_task_ids_if_insufficient: task id, or list of task ids, to follow when it does not.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param respect_key_limit: compare with what the key may still spend, where that is less than the balance.
    :raises AimlBillingUnavailable: no believable answer after a few tries: neither branch is followed.
    :raises AimlBillingError: its other children, as :meth:`AimlBillingHook.get_balance` says.
    """

    inherits_from_skipmixin = True

    def __init__(
        self,
        *,
        follow_task_ids_if_sufficient: str | Sequence[str],
        follow_task_ids_if_insufficient: str | Sequence[str],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.follow_task_ids_if_sufficient = follow_task_ids_if_sufficient
        self.follow_task_ids_if_insufficient = follow_task_ids_if_insufficient

    def execute(self, context: Context) -> None:
        """Ask the API, decide, and branch."""
        if self._decide(context).clears:
            follow = self.follow_task_ids_if_sufficient
        else:
            follow = self.follow_task_ids_if_insufficient
        self.skip_all_except(context["ti"], follow)
