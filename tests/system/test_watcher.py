"""A watcher on a real Airflow: it starts a DAG run once for each crossing."""

from __future__ import annotations

import pytest
from deployment import Deployment
from support import AIRFLOW_3

from airflow_provider_aimlbilling.sandbox import Sandbox


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers")
def test_each_fall_starts_one_run_that_receives_the_event(
    deployment: Deployment, accounts: dict[str, Sandbox], runs: dict[str, str]
) -> None:
    account = accounts["watched"]

    def started() -> list[str]:
        return [run for (run,) in deployment.query("select run_id from dag_run where dag_id = 'pause'")]

    def polled() -> None:
        """Wait until the current balance has been read, and the state that follows has been saved."""
        before = len(account.requests)
        deployment.wait_for("the watcher to poll", lambda: len(account.requests) >= before + 6, seconds=120)

    polled()
    assert started() == []
    account.set_balance("0.99 USD")
    (first,) = deployment.wait_for("a run", started, seconds=120)
    deployment.wait_for("its XCom", lambda: deployment.xcom(first, "pause"), seconds=120)
    assert "Balance fell below 1.00 USD" in deployment.xcom(first, "pause")["reason"]
    for balance in ("1.20 USD", "0.80 USD"):  # too little of a recovery for a second event
        account.set_balance(balance)
        polled()
    assert started() == [first]
    account.set_balance("2 USD")
    polled()
    account.set_balance("0.50 USD")
    deployment.wait_for("a second run", lambda: len(started()) == 2, seconds=120)
