"""The link from a task to the vendor's billing page."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_aimlbilling.links.billing import BILLING_PAGE, BillingPageLink
from airflow_provider_aimlbilling.operators.balance import (
    BalanceBranchOperator,
    BalanceCheckOperator,
    BalanceShortCircuitOperator,
    GetBalanceOperator,
)
from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator
from airflow_provider_aimlbilling.operators.usage import GetUsageOperator
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor


@pytest.mark.parametrize(
    "operator",
    [
        BalanceSensor(task_id="a"),
        GetBalanceOperator(task_id="b"),
        GetUsageOperator(task_id="c"),
        EstimateCostOperator(task_id="g", model="m", work={"x": 1}),
        BalanceCheckOperator(task_id="d"),
        BalanceShortCircuitOperator(task_id="e"),
        BalanceBranchOperator(task_id="f", follow_task_ids_if_sufficient="x", follow_task_ids_if_insufficient="y"),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_every_operator_and_sensor_links_to_the_billing_page(operator: Any) -> None:
    (link,) = operator.operator_extra_links
    assert isinstance(link, BillingPageLink)
    assert (link.name, link.get_link(operator, ti_key=None)) == ("Billing page", BILLING_PAGE)  # type: ignore[arg-type]
