"""The guard stands in the same task as the spending: nothing is spent without money, and nothing lies between."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from airflow_provider_aimlbilling.guard import Guard, require_balance
from airflow_provider_aimlbilling.sandbox import Sandbox


def test_in_a_dag_file_it_asks_nothing(sandbox: Sandbox) -> None:
    assert isinstance(require_balance("1 USD"), Guard)
    assert not sandbox.requests


@pytest.mark.parametrize(
    ("balance", "options", "state"),
    [
        ("2 USD", "", "success"),
        ("1.99 USD", "", "failed"),
        ("1.99 USD", ", skip_if_insufficient=True", "skipped"),
        ("2 USD", ", skip_if_insufficient=True", "success"),
    ],
)
@pytest.mark.parametrize("threshold", ['"2 USD"', "4_000_000", '"{{ params.need }}"'])
def test_as_pre_execute_of_any_operator(
    run_dag: Any, sandbox: Sandbox, balance: str, options: str, state: str, threshold: str
) -> None:
    sandbox.set_balance(balance)
    run = run_dag(
        f"""
        from airflow.providers.common.compat.standard.operators import PythonOperator
        from airflow_provider_aimlbilling.guard import require_balance

        PythonOperator(
            task_id="gate", python_callable=lambda: print("SPENT" + " IT"),
            pre_execute=require_balance({threshold}{options}),
        )
        """
    )
    assert run.state() == state
    assert ("SPENT IT" in run.log) is (state == "success")
    assert len(sandbox.requests) == 1


def test_a_whole_result_is_no_context(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def gate():
            require_balance({"amount_credits": "5"})

        gate()
        """
    )
    assert run.state() == "failed"
    assert "It is a whole result." in run.log


@pytest.mark.parametrize("threshold", ["", "'2 USD'"])
def test_in_the_default_arguments_of_a_group(run_dag: Any, sandbox: Sandbox, threshold: str) -> None:
    """Which Airflow copies: a threshold that was left out must still be one after that."""
    run = run_dag(
        f"""
        from airflow.providers.common.compat.sdk import TaskGroup
        from airflow_provider_aimlbilling.guard import require_balance

        with TaskGroup("group", prefix_group_id=False, default_args={{"pre_execute": require_balance({threshold})}}):
            @task
            def gate():
                pass

            gate()
        """
    )
    assert run.state() == "success"
    assert len(sandbox.requests) == 1


def test_it_asks_the_account_that_it_was_told(run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox("9 USD", key="another-key-0123") as another:
        monkeypatch.setenv("AIRFLOW_CONN_ANOTHER", another.connection())
        run = run_dag(
            """
            from airflow_provider_aimlbilling.guard import require_balance

            @task(pre_execute=require_balance("9 USD", aimlbilling_conn_id="{{ params.account }}"))
            def gate():
                require_balance("8 USD", aimlbilling_conn_id="another")

            gate()
            """.replace("params.account", "'anot' + 'her'")
        )
        assert run.state() == "success"
        assert (len(another.requests), len(sandbox.requests)) == (2, 0)


@pytest.mark.parametrize(("balance", "state"), [("2 USD", "success"), ("1 USD", "failed")])
def test_as_a_plain_call_in_a_task(run_dag: Any, sandbox: Sandbox, balance: str, state: str) -> None:
    sandbox.set_balance(balance)
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def gate():
            require_balance("2 USD")
            print("SPENT" + " IT")

        gate()
        """
    )
    assert run.state() == state
    assert ("SPENT IT" in run.log) is (state == "success")


def test_without_a_threshold_the_account_decides(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.set_balance(9_999)
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def gate():
            require_balance(skip_if_insufficient=True)

        gate()
        """
    )
    assert run.state() == "skipped"
    assert "the account's own low-balance threshold" in run.log


@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 500}, {"body": b"{}"}])
def test_an_unknown_balance_lets_nothing_through_and_skips_nothing(run_dag: Any, sandbox: Sandbox, fault: Any) -> None:
    sandbox.fail(**fault)
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def gate():
            require_balance("1 USD", skip_if_insufficient=True)
            print("SPENT" + " IT")

        gate()
        """
    )
    assert run.state() == "failed"
    assert "SPENT IT" not in run.log


@pytest.mark.parametrize("threshold", ['"3 EUR"', '"{{ params.missing }}"', "\"{{ ti.xcom_pull(task_ids='x') }}\""])
def test_a_threshold_that_is_no_sum_lets_nothing_through(run_dag: Any, sandbox: Sandbox, threshold: str) -> None:
    run = run_dag(
        f"""
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def gate():
            require_balance({threshold})

        gate()
        """
    )
    assert run.state() == "failed"
    assert not sandbox.requests


def test_an_xcom_that_gave_nothing_is_not_the_account_s_own_mark(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.guard import require_balance

        @task
        def price():
            return None

        @task
        def gate(need):
            require_balance(need)

        gate(price())
        """
    )
    assert run.state() == "failed"
    assert "None is no amount of money" in run.log


@pytest.mark.parametrize(
    ("misuse", "says"),
    [
        ("pre_execute=require_balance", "pre_execute=require_balance("),
        ("pre_execute=None, python_callable=require_balance(1)(print)", "decorates nothing"),
    ],
)
def test_a_guard_that_is_written_wrong_says_how_to_write_it(
    run_dag: Any, sandbox: Sandbox, misuse: str, says: str
) -> None:
    body = f"""
        from airflow.providers.common.compat.standard.operators import PythonOperator
        from airflow_provider_aimlbilling.guard import require_balance

        PythonOperator(task_id="gate", **dict({{"python_callable": print}}, {misuse}))
        """
    if "python_callable" in misuse:
        with pytest.raises(TypeError, match=says):
            run_dag(body)
    else:
        run = run_dag(body)
        assert run.state() == "failed"
        assert says in run.log
    assert sandbox.requests == []


def test_a_task_that_spent_and_was_deferred_is_let_go_on(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow calls pre_execute once more when it goes on; the result of what was paid for must not be lost."""
    sandbox.set_balance("2 USD")
    monkeypatch.setenv("SANDBOX_URL", sandbox.url)
    run = run_dag(
        """
        import os, urllib.request
        from datetime import timedelta
        from airflow.providers.common.compat.sdk import BaseOperator
        from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger
        from airflow_provider_aimlbilling.guard import require_balance

        class Job(BaseOperator):
            def execute(self, context):
                url = os.environ["SANDBOX_URL"] + "/sandbox/spend?amount=2USD"
                urllib.request.urlopen(urllib.request.Request(url, method="POST")).read()
                self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="collect")

            def collect(self, context, event=None):
                return "collected"

        Job(task_id="gate", pre_execute=require_balance("2 USD"))
        """
    )
    assert run.state() == "success"
    assert run.xcom() == "collected"
    assert len([request for request in sandbox.requests if request.method == "GET"]) == 1


def test_a_plain_call_checks_also_in_a_task_that_was_deferred(run_dag: Any, sandbox: Sandbox) -> None:
    """One that waits first and spends when it goes on must not spend unchecked."""
    run = run_dag(
        """
        from datetime import timedelta
        from airflow.providers.common.compat.sdk import BaseOperator
        from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger
        from airflow_provider_aimlbilling.guard import require_balance

        class Job(BaseOperator):
            def execute(self, context):
                self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="spend")

            def spend(self, context, event=None):
                require_balance("3 USD")
                print("SPENT" + " IT")

        Job(task_id="gate")
        """
    )
    assert run.state() == "failed"
    assert "SPENT IT" not in run.log


def test_in_a_process_of_the_task_s_own_making_it_does_not_pass_unseen(sandbox: Sandbox) -> None:
    code = "from airflow_provider_aimlbilling.guard import require_balance; require_balance('1 USD'); print('SPENT IT')"
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CTX")}
    for mark, passes in (({"AIRFLOW_CTX_TASK_ID": "job"}, False), ({}, True)):
        run = subprocess.run([sys.executable, "-c", code], check=False, env=env | mark, capture_output=True, text=True)
        assert ("SPENT IT" in run.stdout) is passes, run.stderr
        assert passes or "give it to the task as pre_execute=" in run.stderr


def test_on_a_mapped_task_it_is_a_circuit_breaker(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money for four of ten, each of which spends 1 USD at once: the other six are held."""
    sandbox.set_balance("4.50 USD")
    monkeypatch.setenv("SANDBOX_URL", sandbox.url)
    run = run_dag(
        """
        import os, urllib.request
        from airflow_provider_aimlbilling.guard import require_balance

        @task(pre_execute=require_balance("1 USD", skip_if_insufficient=True))
        def gate(number):
            url = os.environ["SANDBOX_URL"] + "/sandbox/spend?amount=1USD"
            urllib.request.urlopen(urllib.request.Request(url, method="POST")).read()

        gate.expand(number=list(range(10)))
        """
    )
    states = [run.state(map_index=index) for index in range(10)]
    assert sorted(states) == ["skipped"] * 6 + ["success"] * 4
    assert sandbox.balance.usd * 2 == 1
