"""Hostile text from the API, as a user sees it: in task logs and in XComs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hostile import MARK, TEXTS, encode, is_clean, texts_in
from raw_server import BALANCE
from support import MODES

from airflow_provider_aimlbilling.sandbox import Sandbox

ALL = "".join(text[:200] for text in TEXTS.values())
TEXT_FIELDS = [name for name, value in BALANCE.items() if isinstance(value, str)]
TASKS = {
    "GetBalanceOperator": "GetBalanceOperator(task_id='gate')",
    "BalanceCheckOperator": "BalanceCheckOperator(task_id='gate', threshold=1)",
    **{mode: f"BalanceSensor(task_id='gate', threshold=1, {arguments})" for mode, arguments in MODES.items()},
    "a gate that times out": "BalanceSensor(task_id='gate', threshold='9 USD', poke_interval=0.2, timeout=0.3)",
}


def assert_clean_log(log: str) -> None:
    assert not [char for char in log if not char.isprintable()], log
    for forged in ("<script", "ERROR - forged [", "[link=", "\x1b", "\u202e"):
        assert forged not in log


@pytest.mark.parametrize("task", TASKS)
def test_logs_and_xcoms_are_clean(run_dag: Any, sandbox: Sandbox, task: str) -> None:
    sandbox.fail(body=encode(BALANCE | dict.fromkeys(TEXT_FIELDS, ALL)))
    run = run_dag(TASKS[task])
    assert run.state() == ("failed" if "times out" in task else "success")
    assert_clean_log(run.log)
    xcoms = {key: run.xcom(key=key) for key in ("return_value", "verdict")}
    assert MARK in json.dumps(xcoms)
    quoted = [text for text in texts_in(xcoms) if MARK in text]
    assert quoted
    assert all(is_clean(text) and len(text) <= 500 for text in quoted)


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_errors_in_logs_are_clean(run_dag: Any, sandbox: Sandbox, status: int) -> None:
    sandbox.fail(status=status, body=encode({"message": ALL, "requestId": ALL}))
    run = run_dag("BalanceSensor(task_id='gate', threshold='9 USD', poke_interval=0.2, timeout=0.3)")
    assert run.state() == "failed"
    assert f"answered {status}" in run.log
    assert_clean_log(run.log)


def test_a_pricing_error_of_a_large_catalogue_is_short(run_dag: Any, sandbox: Sandbox) -> None:
    rate = {"name": "token", "price": 1, "per": 1_000_000}
    units = [rate | {"measure": f"kind{number}{'x' * 400}"} for number in range(1000)]
    pricing = {"kind": "fixed", "currency": "USD", "units": units}
    sandbox.account.catalogue.append(dict(sandbox.account.catalogue[0]) | {"id": "big", "pricing": pricing})
    run = run_dag(
        "from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator\n"
        "EstimateCostOperator(task_id='gate', model='big', work={'token': 1})"
    )
    assert run.state() == "failed"
    error = run.log.partition("The job cannot be priced with the model")[2].partition("more")[0]
    assert error
    assert len(error) < 12_000
