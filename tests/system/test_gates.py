"""Ten deferred gates on a real Airflow: one poll for all, and each opens with its balance as XCom."""

from __future__ import annotations

import time

from deployment import Deployment
from support import AIRFLOW_3

from airflow_provider_aimlbilling.links.billing import BILLING_PAGE
from airflow_provider_aimlbilling.sandbox import Sandbox


def test_ten_deferred_gates_share_a_poll_and_open_after_a_top_up(
    deployment: Deployment, accounts: dict[str, Sandbox], runs: dict[str, str]
) -> None:
    account, run = accounts["waiting"], runs["ten_gates"]

    def all_are(state: str) -> bool:
        states = deployment.states(run)
        return len(states) == 10 and set(states.values()) == {state}

    def polled(times: int) -> None:
        before = len(account.requests)
        deployment.wait_for(f"{times} polls", lambda: len(account.requests) >= before + times, seconds=60)

    def times(first: int) -> list[float]:
        received = [request.at for request in account.requests[first:]]
        return [round(at - received[0], 2) for at in received]

    deployment.wait_for("ten deferred gates", lambda: all_are("deferred"), seconds=240)
    polled(3)  # until the triggerer has all of them
    started, before = time.monotonic(), len(account.requests)
    polled(4)
    seconds, requests = time.monotonic() - started, len(account.requests) - before
    assert requests <= seconds / 1 + 1, f"one request per interval of one second, not one per gate: {times(before)}"
    assert all_are("deferred")

    account.top_up("100 USD")
    deployment.wait_for("ten open gates", lambda: all_are("success"), seconds=240)
    for number in range(10):
        assert deployment.xcom(run, f"gate_{number}")["balance"] == 201_000_000
        assert deployment.xcom(run, f"gate_{number}", "verdict")["threshold_credits"] == (number + 1) * 2_000_000
    if AIRFLOW_3:  # Airflow 2 computes the links when the page is shown
        links = "select value from xcom where run_id = ? and key = '_link_BillingPageLink'"
        found = deployment.query(links, run)
        assert len(found) == 10
        assert all(BILLING_PAGE in str(value) for (value,) in found)
