"""Read and gate without waiting: what each operator does with each answer, on a real DAG run."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_aimlbilling.sandbox import Sandbox

GATES = {
    "check": "gate = BalanceCheckOperator(task_id='gate', threshold='2 USD')",
    "short circuit": "gate = BalanceShortCircuitOperator(task_id='gate', threshold='2 USD')",
    "branch": (
        "gate = BalanceBranchOperator(task_id='gate', threshold='2 USD', "
        "follow_task_ids_if_sufficient='rich', follow_task_ids_if_insufficient=['poor'])"
    ),
}
FOLLOWERS = """
@task
def rich(): ...
@task
def poor(): ...
@task(trigger_rule="none_failed_min_one_success")
def join(): ...
gate >> [rich(), poor()] >> join()
"""
BELOW = {"below": {}, "out of credits": {"status": 403}}
ENDS = {  # gate, rich, poor, join
    ("check", True): ("success", "success", "success", "success"),
    ("check", False): ("failed", "upstream_failed", "upstream_failed", "upstream_failed"),
    ("short circuit", True): ("success", "success", "success", "success"),
    ("short circuit", False): ("success", "skipped", "skipped", "skipped"),
    ("branch", True): ("success", "success", "skipped", "success"),
    ("branch", False): ("success", "skipped", "success", "success"),
}


def ends(run: Any) -> tuple[str, ...]:
    return tuple(run.state(name) for name in ("gate", "rich", "poor", "join"))


@pytest.mark.parametrize("gate", GATES)
def test_enough(run_dag: Any, sandbox: Sandbox, gate: str) -> None:
    run = run_dag(GATES[gate] + FOLLOWERS)
    assert ends(run) == ENDS[gate, True]
    assert run.xcom(key="verdict")["clears"] is True
    assert run.xcom(key="verdict")["balance"]["balance"] == 5_000_000
    assert run.xcom() == (None if gate == "branch" else run.xcom(key="verdict")["balance"])


@pytest.mark.parametrize("back", BELOW)
@pytest.mark.parametrize("gate", GATES)
def test_too_little(run_dag: Any, sandbox: Sandbox, gate: str, back: str) -> None:
    sandbox.set_balance("1.50 USD")
    if BELOW[back]:
        sandbox.fail(**BELOW[back])
    run = run_dag(GATES[gate] + FOLLOWERS)
    assert ends(run) == ENDS[gate, False]
    verdict = run.xcom(key="verdict")
    assert verdict["clears"] is False
    assert verdict["threshold_credits"] == 4_000_000
    if back == "below":
        assert verdict["shortfall_credits"] == 1_000_000
        assert verdict["balance"]["balance"] == 3_000_000
    else:
        assert verdict["shortfall_credits"] is None
        assert verdict["balance"] is None
        assert "run out of credits" in verdict["reason"]
    if gate == "check":
        assert "InsufficientBalanceError" in run.log


@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 429, "retry_after": 99}, {"body": b"[]"}])
@pytest.mark.parametrize("gate", GATES)
def test_unknown_is_neither_enough_nor_too_little(
    run_dag: Any, sandbox: Sandbox, gate: str, fault: dict[str, Any]
) -> None:
    sandbox.fail(**fault)
    run = run_dag(GATES[gate] + FOLLOWERS)
    assert ends(run) == ("failed", "upstream_failed", "upstream_failed", "upstream_failed")
    assert run.xcom(key="verdict") is None


def test_unavailable_once_is_tried_again(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=503, times=2)
    assert run_dag(GATES["check"]).state() == "success"
    assert len(sandbox.requests) == 3


def test_short_circuit_can_leave_later_tasks_to_their_trigger_rules(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance(0)
    gate = GATES["short circuit"].replace("threshold", "ignore_downstream_trigger_rules=False, threshold")
    run = run_dag(gate + FOLLOWERS.replace("none_failed_min_one_success", "none_failed"))
    assert ends(run) == ("success", "skipped", "skipped", "success")


def test_short_circuit_leaves_teardowns_alone(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance(0)
    run = run_dag(
        GATES["short circuit"]
        + """
@task
def work(): ...
@task
def up(): ...
@task
def down(): ...
setup, job = up().as_setup(), work()
clean = down().as_teardown(setups=setup)
setup >> gate >> job >> clean
"""
    )
    assert (run.state("work"), run.state("down")) == ("skipped", "success")


def test_branch_to_a_task_that_is_not_there_fails(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(GATES["branch"].replace("'rich'", "'nobody'") + FOLLOWERS)
    assert run.state() == "failed"
    assert "nobody" in run.log


def test_get_balance_gives_plain_json(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag("GetBalanceOperator(task_id='gate')")
    seen = run.xcom()
    assert seen["balance"] == 5_000_000
    assert seen["balance_usd"] == "2.50"
    assert seen["low_balance"] is False
    assert seen["low_balance_threshold"] == 10_000
    assert seen["auto_debit_status"] == "disabled"
    assert "2.50 USD" in run.log


@pytest.mark.parametrize(("fault", "error"), [(403, "InsufficientBalanceError"), (401, "AimlBillingAuthError")])
def test_get_balance_fails_where_there_is_no_balance(run_dag: Any, sandbox: Sandbox, fault: int, error: str) -> None:
    sandbox.fail(status=fault)
    run = run_dag("GetBalanceOperator(task_id='gate')")
    assert run.state() == "failed"
    assert error in run.log


TEMPLATES = {
    "params": "threshold='{{ params.need }}'",
    "xcom": "threshold=\"{{ ti.xcom_pull(task_ids='price') }}\"",
    "xcom argument": "threshold=p",
    "connection id": "threshold=1, aimlbilling_conn_id='aimlbilling_{{ \"default\" }}'",
}
PRICED = "@task\ndef price():\n    return '2 USD'\np = price()\np >> BalanceSensor(task_id='gate', {}, {})"
DEFERS = {"poke": "timeout=0.2, poke_interval=0.1", "deferrable": "deferrable=True, timeout=0.2, poke_interval=0.1"}


@pytest.mark.parametrize("mode", DEFERS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_templates(run_dag: Any, sandbox: Sandbox, template: str, mode: str) -> None:
    body = PRICED.format(TEMPLATES[template], DEFERS[mode])
    assert run_dag(body).state() == "success"
    sandbox.set_balance(0)
    assert run_dag(body).state() == "failed", "the threshold that was rendered counts"


@pytest.mark.parametrize("mode", DEFERS)
def test_mapped_gates_use_each_its_own_threshold(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    body = f"BalanceSensor.partial(task_id='gate', {DEFERS[mode]}).expand(threshold=['2 USD', '3 USD', 5_000_000])"
    run = run_dag(body)
    assert [run.state(map_index=index) for index in range(3)] == ["success", "failed", "success"]
    assert run.xcom(map_index=2)["balance"] == 5_000_000


def test_mapped_over_accounts(run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox("9 USD", key="another-key") as second:
        monkeypatch.setenv("AIRFLOW_CONN_SECOND", second.connection())
        run = run_dag(
            "BalanceSensor.partial(task_id='gate', deferrable=True, timeout=0.5, poke_interval=0.2)"
            ".expand_kwargs([{'aimlbilling_conn_id': 'aimlbilling_default', 'threshold': '5 USD'}, "
            "{'aimlbilling_conn_id': 'second', 'threshold': '5 USD'}])"
        )
    assert [run.state(map_index=index) for index in range(2)] == ["failed", "success"]


@pytest.mark.parametrize("gate", ["BalanceSensor", "BalanceCheckOperator"])
def test_a_mapped_threshold_of_nothing_opens_no_gate(run_dag: Any, sandbox: Sandbox, gate: str) -> None:
    """The account's own lowBalance would open it: a mapped task is made with what the XCom gave."""
    run = run_dag(
        f"@task\ndef prices():\n    return [None, 1]\n{gate}.partial(task_id='gate').expand(threshold=prices())"
    )
    assert [run.state(map_index=index) for index in range(2)] == ["failed", "success"]
    assert "gave nothing" in run.log


def test_mapped_accounts_without_thresholds_use_each_its_own_low_balance(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag("BalanceSensor.partial(task_id='gate').expand(aimlbilling_conn_id=['aimlbilling_default'])")
    assert run.state(map_index=0) == "success"


def test_a_threshold_from_an_xcom_of_nothing_opens_no_gate(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        "@task\ndef price():\n    return None\nBalanceSensor(task_id='gate', threshold=price(), timeout=1)",
    )
    assert run.state() == "failed"


def test_no_xcom_where_none_is_wanted(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag("BalanceCheckOperator(task_id='gate', threshold=1, do_xcom_push=False)")
    assert run.state() == "success"
    assert run.xcom(key="verdict") is None
