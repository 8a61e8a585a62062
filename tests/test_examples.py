"""Each example DAG runs, and ends as its docstring says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from conftest import DAGS, Run

from airflow_provider_aimlbilling.sandbox import Sandbox

AIRFLOW = version("apache-airflow")
EXAMPLES = Path(__file__).parents[1] / "example_dags"


@pytest.fixture
def example(run_dag: Any) -> Callable[..., Run]:
    def run(name: str, **arguments: Any) -> Run:
        for old in DAGS.glob("*.py"):
            old.unlink()
        path = DAGS / f"{name}.py"
        path.write_text((EXAMPLES / f"{name}.py").read_text())
        return run_dag.file(path, **arguments)  # type: ignore[no-any-return]

    return run


def test_push_balance(example: Any, sandbox: Sandbox) -> None:
    run = example("aimlbilling_push_balance")
    assert run.xcom("balance")["balance"] == 5_000_000
    assert run.xcom("report") == "The account holds 5000000 credits, which is 2.50 USD."


def test_wait_then_run(example: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance("1 USD")
    threading.Timer(2, sandbox.top_up, ["4 USD"]).start()
    run = example("aimlbilling_wait_then_run")
    assert [run.state(task) for task in ("gate", "ai_job", "publish")] == ["success"] * 3
    assert run.xcom("ai_job") == "ran with 5.00 USD on the account"


@pytest.mark.parametrize("rich", [True, False])
def test_skip_branch_or_fail(example: Any, sandbox: Sandbox, rich: bool) -> None:
    sandbox.set_balance("1 USD" if rich else "0.99 USD")
    run = example("aimlbilling_skip_branch_or_fail")
    states = {name: run.state(name) for name in ("nightly_extras", "large_model", "small_model", "check", "must_run")}
    assert states == (
        dict.fromkeys(states, "success") | {"small_model": "skipped"}
        if rich
        else {
            "nightly_extras": "skipped",
            "large_model": "skipped",
            "small_model": "success",
            "check": "failed",
            "must_run": "upstream_failed",
        }
    )


def test_several_accounts(example: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox("6 USD", key="production-key") as production:
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_RESEARCH", sandbox.connection())
        monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_PRODUCTION", production.connection())
        run = example("aimlbilling_several_accounts")
    assert run.xcom("summary") == ["2.50 USD", "6.00 USD"]


@pytest.mark.parametrize("low", [True, False])
def test_low_balance_alert(example: Any, sandbox: Sandbox, low: bool) -> None:
    sandbox.set_balance(9_000 if low else 10_000)
    run = example("aimlbilling_low_balance_alert")
    assert run.state("check") == ("failed" if low else "success")
    if not AIRFLOW.startswith(("3.0", "3.1", "3.2")):  # there dag.test() runs no callbacks
        assert ("ALERT aimlbilling_low_balance_alert" in run.log) is low
    assert ("missing 1,000 credits (0.0005 USD)" in run.log) is low


def test_all_examples_are_tested_and_tell_what_to_expect() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {name.removeprefix("aimlbilling_") for name in names} <= tested
    for path in EXAMPLES.glob("*.py"):
        assert "**What to expect:**" in path.read_text(), path
