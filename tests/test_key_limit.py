"""What the key may still spend counts where it is less than the wallet, in each kind of gate; the verdict says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from conftest import RESCHEDULES

from airflow_provider_aimlbilling.balance import Amount, Balance, Gate, KeyLimit
from airflow_provider_aimlbilling.sandbox import Sandbox

GATES = {
    "poke": 'BalanceSensor(task_id="gate", poke_interval=1, timeout=1, soft_fail=True, {})',
    "reschedule": 'BalanceSensor(task_id="gate", mode="reschedule", poke_interval=1, timeout=0.5, soft_fail=True, {})',
    "deferrable": 'BalanceSensor(task_id="gate", deferrable=True, poke_interval=1, timeout=2, soft_fail=True, {})',
    "check": 'BalanceCheckOperator(task_id="gate", {})',
    "short circuit": 'BalanceShortCircuitOperator(task_id="gate", {})',
    "branch": """
        branch = BalanceBranchOperator(
            task_id="gate", follow_task_ids_if_sufficient="yes", follow_task_ids_if_insufficient="no", {}
        )

        @task
        def yes():
            pass

        @task
        def no():
            pass

        branch >> [yes(), no()]
    """,
    "guard": """
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def gate():
            require_balance({})

        gate()
    """,
}
if not RESCHEDULES:
    del GATES["reschedule"]
HELD = {"poke": "skipped", "reschedule": "skipped", "deferrable": "skipped", "check": "failed", "guard": "failed"}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("enough", [True, False])
def test_a_gate_compares_with_the_smaller_of_wallet_and_key(
    run_dag: Any, sandbox: Sandbox, gate: str, enough: bool
) -> None:
    sandbox.set_balance("50 USD")
    sandbox.set_key_limit("3 USD", "day")
    sandbox.spend("1 USD" if enough else "1.01 USD", "a")
    body = GATES[gate].format('threshold="2 USD", respect_key_limit=True')
    run = run_dag(body)
    assert run.state() == ("success" if enough else HELD.get(gate, "success"))
    if not enough:
        assert "what the key may still spend, 3,980,000 credits (1.99 USD) (limit 6,000,000" in run.log
        assert "missing 20,000 credits (0.01 USD)" in run.log
    if gate == "branch":
        assert (run.state("yes"), run.state("no")) == (("success", "skipped") if enough else ("skipped", "success"))
    verdict = run.xcom(key="verdict")
    if gate == "guard":
        assert verdict is None
    elif gate != "reschedule" or enough:
        assert (verdict["clears"], verdict["short_of"]) == (enough, None if enough else "key_limit")
        assert verdict["available_credits"] == (4_000_000 if enough else 3_980_000)
        assert verdict["balance"]["key_limit"]["period"] == "day"
    assert run_dag(body.replace(", respect_key_limit=True", "")).state() == "success", "the wallet has enough"


@pytest.mark.parametrize("gate", GATES)
def test_a_disabled_key_fails_a_gate_that_looks(run_dag: Any, sandbox: Sandbox, gate: str) -> None:
    sandbox.account.key_disabled = True
    run = run_dag(GATES[gate].format('threshold="2 USD", respect_key_limit=True'))
    assert run.state() == "failed"
    assert "switched off" in run.log


def test_another_key_s_limit_is_waited_out(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.account.latest_key = "0therKey-xyz"
    run = run_dag(GATES["deferrable"].format('threshold="2 USD", respect_key_limit=True'))
    assert run.state() == "skipped", "neither enough nor too little"
    assert "told of another key" in run.log


def test_the_verdict_says_which_was_short() -> None:
    wallet = Balance(balance=10)
    gate = Gate(Amount(8))
    limited = KeyLimit("week", 20, 13)
    assert gate.decide(wallet).short_of is None
    assert gate.decide(Balance(balance=7)).short_of == "balance"
    assert gate.decide(Balance(balance=10, key_limit=limited)).short_of == "key_limit"
    assert gate.decide(Balance(balance=5, key_limit=limited)).short_of == "both"
    assert gate.decide(Balance(balance=7, key_limit=KeyLimit("week", 20, 12))).short_of == "balance"
    assert gate.decide(Balance(balance=10, key_limit=KeyLimit("week", 20, 12))).clears


def test_without_a_threshold_the_key_s_limit_counts_too() -> None:
    wallet = Balance(balance=10, low_balance=False, low_balance_threshold=8)
    assert Gate().decide(wallet).clears
    assert not Gate().decide(replace(wallet, key_limit=KeyLimit("week", 20, 13))).clears


def test_a_balance_comes_back_whole_from_an_event() -> None:
    kept = Balance(balance=10, key_limit=KeyLimit("no_reset", 20, 13))
    assert Balance.from_dict(kept.to_dict()) == kept
    assert "key_limit" not in Balance(balance=10).to_dict(), "only where it was asked for"
