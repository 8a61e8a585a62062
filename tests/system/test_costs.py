"""The triggerer waits for charges to settle, and for a budget."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from deployment import Deployment
from support import AIRFLOW_3_1

from airflow_provider_aimlbilling.money.request_id import encode_request_id, parse_request_id
from airflow_provider_aimlbilling.sandbox import Sandbox


def test_a_deferred_cost_report_has_the_charges_that_arrive_while_it_waits(
    deployment: Deployment, accounts: dict[str, Sandbox], has_noticed: Callable[..., bool]
) -> None:
    account = accounts["costs"]
    run = deployment.trigger("costs")
    late_request = encode_request_id("costs", run, "job", 0, 1)

    def log_readings() -> int:
        return sum(request.path.startswith("/v2/logs") for request in account.requests)

    def deferred() -> bool:
        return (
            "deferred"
            in deployment.query("select state from task_instance where run_id = ? and task_id = 'cost'", run)[0]
        )

    deployment.wait_for("the report to be deferred", deferred, seconds=240)
    before = log_readings()

    def read_in_the_triggerer() -> bool:
        # As long as new charges arrive, no two readings agree, so the wait goes on.
        account.spend("0.0001 USD", "sandbox/chat", client_request_id=late_request)
        return log_readings() >= before + 2 and has_noticed("costs", "cost")

    deployment.wait_for("two readings in the triggerer", read_in_the_triggerer, seconds=60)
    deployment.wait_for("the report", lambda: deployment.states(run).get("cost") == "success", seconds=60)
    report = deployment.xcom(run, "cost")
    rows = [row for row in account.account.log if parse_request_id(row.client_request_id)]
    assert report["requests"] == len(rows) > 2
    assert report["may_be_incomplete"] is False
    assert Decimal(report["cost_credits"]) == sum(row.credits for row in rows)
    assert Decimal(report["unattributed"]["cost_credits"]) == 0
    if AIRFLOW_3_1:
        runs = deployment.get("/aimlbilling/api/runs", deployment.token())["runs"]
        (shown,) = [shown for shown in runs if shown["run_id"] == run]
        assert (shown["cost"]["credits"], shown["requests"]) == (report["cost_credits"], report["requests"])


def test_a_deferred_gate_waits_for_its_budget(
    deployment: Deployment, accounts: dict[str, Sandbox], has_noticed: Callable[..., bool]
) -> None:
    account = accounts["budgeted"]
    account.spend("0.80 USD", "sandbox/chat")
    run = deployment.trigger("budgeted")
    deployment.wait_for("a deferred gate", lambda: deployment.states(run).get("gate") == "deferred", seconds=240)
    verdict = deployment.xcom(run, "gate", "verdict")
    assert (verdict["short_of"], verdict["shortfall_usd"]) == ("budget", "0.30")

    if AIRFLOW_3_1:
        gates = deployment.get("/aimlbilling/api/gates", deployment.token())["gates"]
        (shown,) = [shown for shown in gates if shown["run_id"] == run]
        assert (shown["state"], shown["asks"]) == ("deferred", "0.50 USD")
        assert shown["limits"] == ["1.00 USD per month"]

    before = len(account.requests)
    account.top_up("100 USD")  # money does not help
    deployment.wait_for("readings in the triggerer", lambda: len(account.requests) >= before + 6, seconds=60)
    assert deployment.states(run) == {"gate": "deferred"}

    deployment.wait_for("the scheduler to notice", lambda: has_noticed("budgeted", "gate"), 60)
    # What the API reports after the period has turned: nothing spent.
    account.account.ledger[:] = [entry for entry in account.account.ledger if entry.type != "MODEL_USAGE"]
    deployment.wait_for("the gate", lambda: deployment.states(run) == {"gate": "success"}, seconds=60)
    budget = deployment.xcom(run, "gate")["budget"]
    assert (budget["spent_usd"], budget["left_usd"], budget["period"]) == ("0.00", "1.00", "month")
