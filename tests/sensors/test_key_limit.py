"""respect_key_limit in every kind of gate: what the key may still spend counts if it is less than the balance."""

from __future__ import annotations

from typing import Any

import pytest
from gate_kinds import CLOSED, GATES

from airflow_provider_aimlbilling.sandbox import Sandbox


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("enough", [True, False])
def test_a_gate_compares_with_the_smaller_of_balance_and_key_limit(
    run_dag: Any, sandbox: Sandbox, gate: str, enough: bool
) -> None:
    sandbox.set_balance("50 USD")
    sandbox.set_key_limit("3 USD", "day")
    sandbox.spend("1 USD" if enough else "1.01 USD", "a")
    body = GATES[gate].format('threshold="2 USD", respect_key_limit=True')
    run = run_dag(body)
    assert run.state() == ("success" if enough else CLOSED.get(gate, "success"))
    if not enough:
        assert "the key may still spend 1.99 USD (limit 3.00 USD" in run.log
        assert "0.01 USD missing" in run.log
    if gate == "branch":
        assert (run.state("yes"), run.state("no")) == (("success", "skipped") if enough else ("skipped", "success"))
    verdict = run.xcom(key="verdict")
    if gate == "guard":
        assert verdict is None
    elif gate != "reschedule" or enough:
        assert (verdict["clears"], verdict["short_of"]) == (enough, None if enough else "key_limit")
        assert verdict["available_credits"] == (4_000_000 if enough else 3_980_000)
        assert verdict["balance"]["key_limit"]["period"] == "day"
    assert run_dag(body.replace(", respect_key_limit=True", "")).state() == "success", "the balance is enough"


@pytest.mark.parametrize("gate", GATES)
def test_a_disabled_key_fails_a_gate_that_checks_the_key(run_dag: Any, sandbox: Sandbox, gate: str) -> None:
    sandbox.account.key_disabled = True
    run = run_dag(GATES[gate].format('threshold="2 USD", respect_key_limit=True'))
    assert run.state() == "failed"
    assert "disabled" in run.log


def test_the_limit_of_another_key_keeps_a_gate_waiting(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.account.latest_key = "0therKey-xyz"
    run = run_dag(GATES["deferrable"].format('threshold="2 USD", respect_key_limit=True'))
    assert run.state() == "skipped", "the balance is unknown, which is neither enough nor too little"
    assert "described another key" in run.log
