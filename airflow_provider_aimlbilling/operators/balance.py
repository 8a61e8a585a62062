"""Operators that read the balance, and gates that act on it without waiting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_aimlbilling.compat import NOTSET, AirflowException, BaseOperator, SkipMixin
from airflow_provider_aimlbilling.exceptions import InsufficientBalanceError
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.links.billing import BillingPageLink
from airflow_provider_aimlbilling.thresholds import check_budget, check_threshold, resolve_budget, resolve_gate

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context
    from airflow_provider_aimlbilling.money.gate import Verdict

# What only a running task needs is imported where it is used: Airflow parses DAG files again and again.


class GetBalanceOperator(BaseOperator):
    """
    Read the balance and return it as XCom: credits, USD and all documented fields, see :meth:`Balance.to_dict`.

    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :raises InsufficientBalanceError: the account is overdrawn, or the API only says that it is out of credits.
    :raises AimlBillingUnavailable: no believable answer after a few tries. Airflow's retries follow.
    :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.get_balance`.
    """

    template_fields: Sequence[str] = ("aimlbilling_conn_id",)
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)

    def __init__(self, *, aimlbilling_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.aimlbilling_conn_id = aimlbilling_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the balance."""
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

        balance = AimlBillingHook(self.aimlbilling_conn_id).get_balance()
        self.log.info("Balance of %s: %s.", self.aimlbilling_conn_id, balance.amount)
        return balance.to_dict()


class _GateOperator(BaseOperator):
    """What the three gates share: they read once, decide, and log and push the verdict before they act on it."""

    template_fields: Sequence[str] = ("threshold", "aimlbilling_conn_id", "budget")
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)

    def __init__(
        self,
        *,
        threshold: object = NOTSET,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        respect_key_limit: bool = False,
        budget: object = NOTSET,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_threshold(threshold, self)
        check_budget(budget, self)
        self.threshold = None if threshold is NOTSET else threshold
        self.aimlbilling_conn_id = aimlbilling_conn_id
        self.respect_key_limit = respect_key_limit
        self.budget = None if budget is NOTSET else budget
        # A template that renders to None must not silently fall back to the account's own lowBalance, or to no budget.
        self._declared = {"threshold": threshold, "budget": budget}

    def _decide(self, context: Context) -> Verdict:
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

        gate = resolve_gate(self, self._declared, context)
        budget = resolve_budget(self, self._declared, context)
        hook = AimlBillingHook(self.aimlbilling_conn_id)
        verdict = hook.decide(gate, respect_key_limit=self.respect_key_limit, budget=budget)
        if self.do_xcom_push:
            context["ti"].xcom_push(key="verdict", value=verdict.to_dict())
        return verdict


class BalanceCheckOperator(_GateOperator):
    """
    Fail unless the balance reaches a threshold.

    Returns the balance as XCom if it does. Pushes the XCom ``verdict`` (:meth:`Verdict.to_dict`) before it fails.

    :param threshold: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`; templated.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param respect_key_limit: compare the threshold with what the key may still spend, if that is less than the balance.
    :param budget: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`; templated.
    :raises InsufficientBalanceError: less than the threshold is available, or the API says that the account is out of
        credits.
    :raises AimlBillingThresholdError: the threshold is not an amount, or the budget is not one; raised when Airflow
        parses the DAG, unless it is a template or an XCom.
    :raises AimlBillingUnavailable: no believable answer after a few tries: neither sufficient nor insufficient.
    :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.get_balance`.
    """

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Read the balance, decide, and fail or succeed."""
        verdict = self._decide(context)
        if not verdict.clears:
            raise InsufficientBalanceError(verdict.refusal(self.aimlbilling_conn_id))
        return verdict.balance.to_dict() if verdict.balance else None


class _SkippingGateOperator(_GateOperator, SkipMixin):
    """What the two gates share that skip other tasks: they accept only DAGs in which their skips hold."""

    inherits_from_skipmixin = True
    ignore_downstream_trigger_rules = False

    @classmethod
    def partial(cls, **_: Any) -> NoReturn:
        """
        Refuse to be mapped.

        :raises AirflowException: always.
        """
        raise AirflowException(
            f"{cls.__name__} cannot be mapped: Airflow does not apply the skips of a mapped task to the tasks behind "
            "it. Put the gate and its job into a mapped task group, or check in the job itself with require_balance."
        )

    def resolve_template_files(self) -> None:
        """
        Check that skips hold. Airflow calls this for each task of a DAG that it has parsed completely.

        :raises AirflowException: this DAG has a task behind the gate that Airflow would run although the gate said no.
        """
        super().resolve_template_files()
        self._check_that_skips_hold()

    def _check_that_skips_hold(self) -> None:
        from airflow_provider_aimlbilling.skipping import check_that_skips_hold

        check_that_skips_hold(self, direct_only=not self.ignore_downstream_trigger_rules)


class BalanceShortCircuitOperator(_SkippingGateOperator):
    """
    Skip the tasks downstream unless the balance reaches a threshold.

    Returns the balance as XCom if it does. Pushes the XCom ``verdict`` (:meth:`Verdict.to_dict`) before it skips.

    :param threshold: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`; templated.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param respect_key_limit: compare the threshold with what the key may still spend, if that is less than the balance.
    :param budget: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`; templated.
    :param ignore_downstream_trigger_rules: skip all tasks downstream, whatever their trigger rules. With ``False``,
        only the tasks directly downstream are skipped, and the trigger rules of the tasks after them apply.
    :raises AirflowException: it is mapped, or Airflow would not apply its skips in this DAG. Raised when Airflow parses
        the DAG.
    :raises AimlBillingThresholdError: the threshold is not an amount, or the budget is not one; raised when Airflow
        parses the DAG, unless it is a template or an XCom.
    :raises AimlBillingUnavailable: no believable answer after a few tries: neither sufficient nor insufficient.
    :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.get_balance`.
    """

    def __init__(self, *, ignore_downstream_trigger_rules: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Read the balance, decide, and skip or continue."""
        from airflow_provider_aimlbilling.skipping import skip, skippable, wait_for_expansion

        self._check_that_skips_hold()
        wait_for_expansion(self, context)
        verdict = self._decide(context)
        if verdict.clears:
            return verdict.balance.to_dict() if verdict.balance else None
        skip(self, skippable(self, direct_only=not self.ignore_downstream_trigger_rules), context)
        return None


class BalanceBranchOperator(_SkippingGateOperator):
    """
    Follow one branch if the balance reaches a threshold, and another if it does not.

    Pushes the XCom ``verdict`` (:meth:`Verdict.to_dict`) before it branches. Tasks directly downstream that are not on
    the chosen path are skipped.

    :param threshold: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`; templated.
    :param follow_task_ids_if_sufficient: id of a task or a task group, or a list of them, to follow if the balance
        reaches the threshold.
    :param follow_task_ids_if_insufficient: the same, to follow if it does not.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :param respect_key_limit: compare the threshold with what the key may still spend, if that is less than the balance.
    :param budget: as in :class:`~airflow_provider_aimlbilling.sensors.balance.BalanceSensor`; templated.
    :raises AirflowException: one of the ids is neither a task nor a task group. Both lists are checked on every run.
        When Airflow parses the DAG: it is mapped, or Airflow would not apply its skips in this DAG.
    :raises AimlBillingThresholdError: the threshold is not an amount, or the budget is not one; raised when Airflow
        parses the DAG, unless it is a template or an XCom.
    :raises AimlBillingUnavailable: no believable answer after a few tries: neither branch is followed.
    :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.get_balance`.
    """

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
        """Read the balance, decide, and branch."""
        from airflow_provider_aimlbilling.skipping import not_on_path, skip, wait_for_expansion

        self._check_that_skips_hold()
        wait_for_expansion(self, context)
        # Both lists are checked on every run, so that a misspelt one is not found only when the money is gone.
        if_sufficient = self._root_task_ids(self.follow_task_ids_if_sufficient)
        if_insufficient = self._root_task_ids(self.follow_task_ids_if_insufficient)
        follow = if_sufficient if self._decide(context).clears else if_insufficient
        self.log.info("Following %s.", ", ".join(follow) or "no branch")
        skip(self, not_on_path(self, follow), context)

    def _root_task_ids(self, names: str | Sequence[str]) -> list[str]:
        """Return the task ids, with the first tasks of a task group in place of the group, as Airflow's branches do."""
        dag: Any = self.dag
        found: list[str] = []
        for name in [names] if isinstance(names, str) else names:
            if name in dag.task_dict:
                found.append(name)
            elif name in dag.task_group_dict:
                found += [task.task_id for task in dag.task_group_dict[name].get_roots()]
            else:
                raise AirflowException(f"{name!r} is neither a task nor a task group of the DAG {dag.dag_id!r}.")
        return found
