"""budget in every kind of gate: what is left of it counts if it is less than the balance and the key's limit."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from clock import Clock
from gate_kinds import CLOSED, GATES
from raw_server import BALANCE, RawServer, answer
from support import MODES, wait_until

from airflow_provider_aimlbilling.exceptions import AimlBillingBudgetError
from airflow_provider_aimlbilling.guard import require_balance
from airflow_provider_aimlbilling.operators.balance import BalanceCheckOperator
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

NOW = datetime(2026, 11, 26, 13, 30, tzinfo=timezone.utc)
MONTH_BEGAN = datetime(2026, 11, 1, tzinfo=timezone.utc)
NEXT_MONTH = datetime(2026, 12, 1, tzinfo=timezone.utc)


def usage_requests(sandbox: Sandbox) -> int:
    return sum(request.path.startswith("/v2/usage") for request in sandbox.requests)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("enough", [True, False])
def test_a_gate_compares_with_what_is_left_of_its_budget(
    run_dag: Any, sandbox: Sandbox, gate: str, enough: bool
) -> None:
    sandbox.set_balance("50 USD")
    sandbox.spend("3 USD" if enough else "3.01 USD", "a")
    body = GATES[gate].format('threshold="2 USD", budget="5 USD per month"')
    run = run_dag(body)
    assert run.state() == ("success" if enough else CLOSED.get(gate, "success"))
    if not enough:
        assert "0.01 USD missing: 1.99 USD left of the budget of 5.00 USD per month, balance 46.99 USD" in run.log
    if gate in ("check", "guard") and not enough:
        assert "raise the budget or wait for its next period, which begins at" in run.log
    if gate == "branch":
        assert (run.state("yes"), run.state("no")) == (("success", "skipped") if enough else ("skipped", "success"))
    verdict = run.xcom(key="verdict")
    if gate == "guard":
        assert verdict is None
    elif gate != "reschedule" or enough:
        assert (verdict["clears"], verdict["short_of"]) == (enough, None if enough else "budget")
        assert verdict["available_credits"] == (4_000_000 if enough else 3_980_000)
        use = verdict["balance"]["budget"]
        assert (use["period"], use["time_zone"], use["amount_usd"]) == ("month", "UTC", "5.00")
        assert (use["spent_usd"], use["left_credits"]) == (("3.00", 4_000_000) if enough else ("3.01", 3_980_000))
    assert usage_requests(sandbox)
    sandbox.requests.clear()
    without = run_dag(body.replace(', budget="5 USD per month"', ""))
    assert without.state() == "success", "the balance is enough"
    assert usage_requests(sandbox) == 0, "a gate without a budget asks for no usage"
    assert gate == "guard" or "budget" not in without.xcom(key="verdict")["balance"]


@pytest.mark.parametrize("gate", GATES)
def test_without_a_threshold_something_of_the_budget_must_be_left(run_dag: Any, sandbox: Sandbox, gate: str) -> None:
    sandbox.set_balance("50 USD")
    sandbox.low_balance_threshold = "10 USD"
    sandbox.spend("4.99 USD", "a")
    body = GATES[gate].format('budget="5 USD per month"')
    assert run_dag(body).state() == "success", "one cent is left, and the account's own threshold is not about it"
    sandbox.spend("0.01 USD", "a")
    run = run_dag(body)
    assert run.state() == CLOSED.get(gate, "success")
    assert "0.00 USD left of the budget of 5.00 USD per month" in run.log


@pytest.mark.parametrize("mode", MODES)
def test_a_waiting_gate_opens_when_the_next_period_begins(
    monkeypatch: pytest.MonkeyPatch, run_dag: Any, sandbox: Sandbox, mode: str
) -> None:
    clock = Clock(monkeypatch, NOW)
    sandbox.set_balance("50 USD")
    sandbox.spend("5 USD", "a", at=MONTH_BEGAN)

    def turn() -> None:
        wait_until(lambda: usage_requests(sandbox) >= 2, 60)
        clock.now = NEXT_MONTH

    turning = threading.Thread(target=turn, daemon=True)
    turning.start()
    run = run_dag(
        f'BalanceSensor(task_id="gate", {MODES[mode]}, poke_interval=0.3, timeout=60, threshold="2 USD", '
        'budget="5 USD per month")'
    )
    turning.join(60)
    assert run.state() == "success"
    assert run.xcom()["budget"]["since"] == "2026-12-01T00:00:00+00:00"
    assert run.xcom()["budget"]["spent_usd"] == "0.00"
    assert "0.00 USD left of the budget of 5.00 USD per month" in run.log
    assert "Gate open: 5.00 USD left of the budget of 5.00 USD per month" in run.log


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_never_takes_unknown_usage_for_none(monkeypatch: pytest.MonkeyPatch, run_dag: Any, gate: str) -> None:
    """A sensor waits, and the others fail after a few tries."""
    served = iter([answer(BALANCE), answer({}, status="503 Down")] * 100)
    with RawServer(lambda: [next(served)]) as server:
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", server.connection(timeout=2))
        run = run_dag(GATES[gate].format('threshold="1 USD", budget="5 USD per month"'))
        assert run.state() == ("skipped" if CLOSED.get(gate) == "skipped" else "failed")
        assert "503" in run.log
        assert server.connections >= (2 if CLOSED.get(gate) == "skipped" else 8)


ARGUMENTS = {
    "params": "budget='{{ params.budget }}', params={'budget': '5 USD per month'}",
    "a part": "budget='{{ params.need }} per month'",
    "xcom": "budget=\"{{ ti.xcom_pull(task_ids='team') }}\"",
    "xcom argument": "budget=team",
}
TEAM = "@task\ndef team():\n    return {}\nteam = team()\nteam >> {}"
BUDGETED = {
    **{mode: f"BalanceSensor(task_id='gate', {MODES[mode]}, poke_interval=0.5, timeout=0.4, {{}})" for mode in MODES},
    "check": "BalanceCheckOperator(task_id='gate', {})",
    "guard": "task(pre_execute=require_balance({}))(gate)()",
}
GUARD = "from airflow_provider_aimlbilling.guard import require_balance\ndef gate(): ...\n"


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("gate", ["poke", "deferrable", "check"])
def test_the_rendered_budget_decides(run_dag: Any, sandbox: Sandbox, gate: str, arguments: str) -> None:
    sandbox.set_balance("50 USD")
    body = TEAM.format("'5 USD per month'", BUDGETED[gate].format("threshold='2 USD', " + ARGUMENTS[arguments]))
    assert run_dag(body).state() == "success"
    sandbox.spend("4 USD", "a")
    run = run_dag(body)
    assert run.state() == "failed"
    assert "of the budget of" in run.log


@pytest.mark.parametrize("budget", ["None", "''", "'None'", "'200 USD'", "'200 USD per month in Nowhere'", "200"])
@pytest.mark.parametrize("gate", BUDGETED)
def test_a_budget_that_is_none_when_the_task_runs_opens_no_gate(
    run_dag: Any, sandbox: Sandbox, gate: str, budget: str
) -> None:
    """An empty XCom must not count as "no budget"."""
    sandbox.set_balance("50 USD")
    run = run_dag(GUARD + TEAM.format(budget, BUDGETED[gate].format("threshold=1, budget=team")))
    assert run.state() == "failed"
    assert "AimlBillingBudgetError" in run.log
    assert "Write" in run.log
    assert not sandbox.requests


@pytest.mark.parametrize("gate", ["BalanceSensor", "BalanceCheckOperator"])
def test_an_empty_mapped_budget_opens_no_gate(run_dag: Any, sandbox: Sandbox, gate: str) -> None:
    sandbox.set_balance("50 USD")
    run = run_dag(
        "@task\ndef teams():\n    return [None, '5 USD per month']\n"
        f"{gate}.partial(task_id='gate', threshold=1).expand(budget=teams())"
    )
    assert [run.state(map_index=index) for index in range(2)] == ["failed", "success"]
    assert "The template or XCom that should provide it was empty." in run.log


def test_each_mapped_gate_has_its_own_budget(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("50 USD")
    sandbox.spend("3 USD", "a")
    run = run_dag(
        "BalanceSensor.partial(task_id='gate', threshold='1 USD', deferrable=True, poke_interval=0.2, timeout=0.5)"
        ".expand(budget=['5 USD per month', '3 USD per month', '4 USD per month in Asia/Tokyo'])"
    )
    assert [run.state(map_index=index) for index in range(2)] == ["success", "failed"]
    assert run.state(map_index=2) == "success" or datetime.now(timezone.utc).day in (1, 28, 29, 30, 31)


@pytest.mark.parametrize("budget", ["200 USD", "5 USD per year", "5 EUR per day", "5 USD per day in Nowhere", "", 200])
def test_a_literal_that_is_no_budget_is_an_import_error(budget: object) -> None:
    for gate in (
        lambda: BalanceSensor(task_id="gate", threshold=1, budget=budget),
        lambda: BalanceCheckOperator(task_id="gate", threshold=1, budget=budget),
        lambda: require_balance(1, budget=budget),
    ):
        with pytest.raises(AimlBillingBudgetError):
            gate()


def test_the_author_s_none_is_no_budget(run_dag: Any, sandbox: Sandbox) -> None:
    """As with the threshold: a function that creates gates may pass None on."""
    run = run_dag("BalanceSensor(task_id='gate', threshold=1, budget=None)")
    assert run.state() == "success"
    assert usage_requests(sandbox) == 0


@pytest.mark.parametrize(
    ("threshold", "state", "short_of"), [("1 USD", "skipped", "budget"), ("9 USD", "failed", None)]
)
def test_a_stuck_top_up_ends_the_wait_only_if_the_balance_is_too_low(
    run_dag: Any, sandbox: Sandbox, threshold: str, state: str, short_of: str | None
) -> None:
    """A payment raises no budget."""
    long_ago = datetime.now(timezone.utc) - timedelta(hours=2)
    ledger = sandbox.account.ledger
    ledger[-1] = replace(ledger[-1], at=long_ago - timedelta(hours=1))
    sandbox.set_auto_top_up("5 USD", "20 USD", payments_work=False)
    sandbox.spend("0.50 USD", "a", at=long_ago)
    sandbox.spend("0.10 USD", "a")
    options = "budget='0.05 USD per month', fail_if_topup_stuck=True, timeout=0.5, poke_interval=0.2, soft_fail=True"
    run = run_dag(f"BalanceSensor(task_id='gate', threshold='{threshold}', {options})")
    assert run.state() == state
    assert run.xcom(key="verdict")["short_of"] == (short_of or "balance and budget")
    assert ("AimlBillingTopUpStuckError" in run.log) is (state == "failed")
