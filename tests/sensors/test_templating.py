"""Where a gate's threshold and account can come from: templates, XComs and mapped arguments."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_aimlbilling.sandbox import Sandbox

TEMPLATES = {
    "params": "threshold='{{ params.need }}'",
    "xcom": "threshold=\"{{ ti.xcom_pull(task_ids='price') }}\"",
    "xcom argument": "threshold=p",
    "connection id": "threshold=1, aimlbilling_conn_id='aimlbilling_{{ \"default\" }}'",
}
PRICED = "@task\ndef price():\n    return '2 USD'\np = price()\np >> BalanceSensor(task_id='gate', {}, {})"
MODES = {"poke": "timeout=0.2, poke_interval=0.1", "deferrable": "deferrable=True, timeout=0.2, poke_interval=0.1"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_rendered_threshold_decides(run_dag: Any, sandbox: Sandbox, template: str, mode: str) -> None:
    body = PRICED.format(TEMPLATES[template], MODES[mode])
    assert run_dag(body).state() == "success"
    sandbox.set_balance(0)
    assert run_dag(body).state() == "failed"


@pytest.mark.parametrize("mode", MODES)
def test_each_mapped_gate_uses_its_own_threshold(run_dag: Any, sandbox: Sandbox, mode: str) -> None:
    body = f"BalanceSensor.partial(task_id='gate', {MODES[mode]}).expand(threshold=['2 USD', '3 USD', 5_000_000])"
    run = run_dag(body)
    assert [run.state(map_index=index) for index in range(3)] == ["success", "failed", "success"]
    assert run.xcom(map_index=2)["balance"] == 5_000_000


def test_each_mapped_gate_reads_its_own_account(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox("9 USD", key="another-key") as second:
        monkeypatch.setenv("AIRFLOW_CONN_SECOND", second.connection())
        run = run_dag(
            "BalanceSensor.partial(task_id='gate', deferrable=True, timeout=0.5, poke_interval=0.2)"
            ".expand_kwargs([{'aimlbilling_conn_id': 'aimlbilling_default', 'threshold': '5 USD'}, "
            "{'aimlbilling_conn_id': 'second', 'threshold': '5 USD'}])"
        )
    assert [run.state(map_index=index) for index in range(2)] == ["failed", "success"]


@pytest.mark.parametrize("gate", ["BalanceSensor", "BalanceCheckOperator"])
def test_an_empty_mapped_threshold_opens_no_gate(run_dag: Any, sandbox: Sandbox, gate: str) -> None:
    """The account's own lowBalance would open it, but a mapped task was given a threshold: the XCom's None."""
    run = run_dag(
        f"@task\ndef prices():\n    return [None, 1]\n{gate}.partial(task_id='gate').expand(threshold=prices())"
    )
    assert [run.state(map_index=index) for index in range(2)] == ["failed", "success"]
    assert "The template or XCom that should provide it was empty." in run.log


def test_a_mapped_gate_without_a_threshold_uses_low_balance(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag("BalanceSensor.partial(task_id='gate').expand(aimlbilling_conn_id=['aimlbilling_default'])")
    assert run.state(map_index=0) == "success"


def test_an_empty_threshold_from_an_xcom_opens_no_gate(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        "@task\ndef price():\n    return None\nBalanceSensor(task_id='gate', threshold=price(), timeout=1)",
    )
    assert run.state() == "failed"
