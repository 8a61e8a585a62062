"""A threshold that a DAG file spells out is checked when the DAG is parsed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support import airflow_sdk, modules_loaded_by

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.guard import require_balance
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.budget import Budget
from airflow_provider_aimlbilling.operators.balance import (
    BalanceBranchOperator,
    BalanceCheckOperator,
    BalanceShortCircuitOperator,
)
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor
from airflow_provider_aimlbilling.thresholds import _USUAL, _USUAL_BUDGET, check_budget, check_threshold

BRANCHES = {"follow_task_ids_if_sufficient": "a", "follow_task_ids_if_insufficient": "b"}
GATES: dict[str, Any] = {
    "sensor": lambda threshold: BalanceSensor(task_id="gate", threshold=threshold),
    "check": lambda threshold: BalanceCheckOperator(task_id="gate", threshold=threshold),
    "short circuit": lambda threshold: BalanceShortCircuitOperator(task_id="gate", threshold=threshold),
    "branch": lambda threshold: BalanceBranchOperator(task_id="gate", threshold=threshold, **BRANCHES),
    "guard": require_balance,
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("threshold", ["2.50", "3 EUR", "", -1, 2.5, float("nan"), True, Decimal(-1), "1,000", 10**16])
def test_a_literal_that_is_no_amount_is_refused(gate: str, threshold: object) -> None:
    with pytest.raises(AimlBillingThresholdError, match="Write credits as 5000000"):
        GATES[gate](threshold)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    "threshold",
    ["2.50 USD", "$2.50", 5_000_000, "5000000", "5_000_000 credits", "5.25e-05 USD", 3.0, Decimal(1), None],
)
def test_a_literal_amount_is_accepted(gate: str, threshold: object) -> None:
    assert GATES[gate](threshold)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    "threshold", ["{{ params.need }}", "{% if true %}1{% endif %}", "[[ need ]]", "<< need >>", "# for x", ["x"], {}]
)
def test_what_may_be_rendered_is_checked_when_the_task_runs(gate: str, threshold: object) -> None:
    assert GATES[gate](threshold)


@pytest.mark.parametrize(
    "text", ["0", "999999999999", "999999999 USD", "0.000001 USD", "$999999999.999999", "7 credits"]
)
def test_the_usual_forms_that_are_not_parsed_in_a_dag_file_are_amounts(text: str) -> None:
    assert _USUAL.fullmatch(text)
    assert Amount.parse(text)
    check_threshold(text)


@pytest.mark.parametrize("text", ["1 USD per day", "200 USD per month", "999999999.999999 USD per week"])
def test_the_usual_budgets_that_are_not_parsed_in_a_dag_file_are_budgets(text: str) -> None:
    assert _USUAL_BUDGET.fullmatch(text)
    assert Budget.parse(text)
    check_budget(text)


@pytest.mark.parametrize(
    "budget", ["{{ params.budget }}", "[[ amount ]] per day", None, [], "$1 per day in Asia/Tokyo"]
)
def test_a_budget_that_may_be_rendered_is_checked_when_the_task_runs(budget: object) -> None:
    check_budget(budget)


def test_a_usual_budget_loads_no_parser() -> None:
    gate = f"{BalanceCheckOperator.__module__}.BalanceCheckOperator(task_id='gate', budget='200 USD per month')"
    (loaded,) = modules_loaded_by(gate, base=f"import {BalanceCheckOperator.__module__}")
    assert not [name for name in loaded if name.startswith("airflow_provider_aimlbilling.money")]


def test_an_index_of_a_mapped_gate_is_checked_when_it_runs(run_dag: Any, sandbox: Sandbox) -> None:
    """Its threshold may come from an XCom, and never_fail must apply to it as in any other task."""
    run = run_dag('BalanceSensor.partial(task_id="gate", never_fail=True).expand(threshold=["2 USD", "2.50"])')
    assert (run.state(map_index=0), run.state(map_index=1)) == ("success", "skipped")


def test_a_wrong_literal_is_an_import_error_of_the_dag_file() -> None:
    with airflow_sdk().DAG("wrong"), pytest.raises(AimlBillingThresholdError, match="Did you mean"):
        BalanceSensor(task_id="gate", threshold="2.50")
