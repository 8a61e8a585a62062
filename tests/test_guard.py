"""The guard checks the balance in the task that spends, so no other task can spend between check and spending."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from support import AIRFLOW_3_2

from airflow_provider_aimlbilling.guard import Guard, arequire_balance, require_balance
from airflow_provider_aimlbilling.sandbox import Sandbox


def test_loading_a_dag_file_sends_no_request(sandbox: Sandbox) -> None:
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
def test_a_guard_works_as_pre_execute_of_any_operator(
    run_dag: Any, sandbox: Sandbox, balance: str, options: str, state: str, threshold: str
) -> None:
    sandbox.set_balance(balance)
    run = run_dag(
        f"""
        from airflow.providers.standard.operators.python import PythonOperator
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


def test_a_dictionary_as_threshold_is_not_mistaken_for_a_context(run_dag: Any, sandbox: Sandbox) -> None:
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


@pytest.mark.parametrize(
    ("spent", "options", "state"),
    [
        ("3 USD", "", "success"),
        ("3.01 USD", "", "failed"),
        ("3.01 USD", ", skip_if_insufficient=True", "skipped"),
        ("3 USD", ", skip_if_insufficient=True", "success"),
        ("3 USD", ", count_running=True", "success"),
        ("3.01 USD", ", count_running=True", "failed"),
    ],
)
@pytest.mark.parametrize("budget", ['"5 USD per month"', '"{{ 5 }} USD per month"'])
def test_a_guard_keeps_to_a_budget(
    run_dag: Any, sandbox: Sandbox, spent: str, options: str, state: str, budget: str
) -> None:
    sandbox.set_balance("50 USD")
    sandbox.spend(spent)
    run = run_dag(
        f"""
        from airflow_provider_aimlbilling.guard import require_balance

        @task(pre_execute=require_balance("2 USD", budget={budget}{options}))
        def gate():
            print("SPENT" + " IT")

        gate()
        """
    )
    assert run.state() == state
    assert ("SPENT IT" in run.log) is (state == "success")
    assert ("raise the budget or wait for its next period" in run.log) is (state != "success")


@pytest.mark.parametrize("threshold", ["", "'2 USD'"])
def test_a_guard_works_in_default_args_of_a_task_group(run_dag: Any, sandbox: Sandbox, threshold: str) -> None:
    """Airflow copies default_args. A threshold that was not set must still count as not set in the copy."""
    run = run_dag(
        f"""
        from airflow.sdk import TaskGroup
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


def test_a_guard_reads_the_account_of_its_own_connection(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_a_guard_works_as_a_call_inside_a_task(run_dag: Any, sandbox: Sandbox, balance: str, state: str) -> None:
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


def test_without_a_threshold_low_balance_decides(run_dag: Any, sandbox: Sandbox) -> None:
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
def test_an_unknown_balance_fails_the_task_and_never_skips_it(run_dag: Any, sandbox: Sandbox, fault: Any) -> None:
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
def test_an_invalid_threshold_fails_the_task_before_any_request(run_dag: Any, sandbox: Sandbox, threshold: str) -> None:
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


def test_an_empty_xcom_as_threshold_does_not_fall_back_to_low_balance(run_dag: Any, sandbox: Sandbox) -> None:
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
    assert "None is not an amount of money" in run.log


@pytest.mark.parametrize(
    ("misuse", "says"),
    [
        ("pre_execute=require_balance", "pre_execute=require_balance("),
        ("pre_execute=None, python_callable=require_balance(1)(print)", "is not a decorator"),
    ],
)
def test_a_misused_guard_says_how_to_use_it(run_dag: Any, sandbox: Sandbox, misuse: str, says: str) -> None:
    body = f"""
        from airflow.providers.standard.operators.python import PythonOperator
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


def test_a_task_that_spent_before_it_deferred_resumes_without_a_check(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow calls pre_execute again when the task resumes. The result that was paid for must not be lost."""
    sandbox.set_balance("2 USD")
    monkeypatch.setenv("SANDBOX_URL", sandbox.url)
    run = run_dag(
        """
        import os, urllib.request
        from datetime import timedelta
        from airflow.sdk import BaseOperator
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
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


def test_a_call_inside_a_task_also_checks_after_the_task_was_deferred(run_dag: Any, sandbox: Sandbox) -> None:
    """A task that waits first and spends after it resumes must not spend unchecked."""
    run = run_dag(
        """
        from datetime import timedelta
        from airflow.sdk import BaseOperator
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
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


ASYNCHRONOUS = """
    import asyncio
    from airflow_provider_aimlbilling.guard import arequire_balance, require_balance

    async def job():
        {call}
        print("SPENT" + " IT")

    @task
    def gate():
        asyncio.run(job())

    gate()
"""


@pytest.mark.parametrize(
    ("call", "state"),
    [
        ('await arequire_balance("2 USD")', "success"),
        ('await arequire_balance("{{ params.need }}")', "success"),
        ('await arequire_balance("3 USD")', "failed"),
        ('await arequire_balance("2 USD", budget="{{ params.need }} per day")', "success"),
        ('await arequire_balance("2 USD", budget="1 USD per day", skip_if_insufficient=True)', "skipped"),
        ('await arequire_balance("2 USD", budget=None, skip_if_insufficient=True)', "failed"),
        ('await arequire_balance("3 USD", skip_if_insufficient=True)', "skipped"),
        ('await arequire_balance("2 USD", aimlbilling_conn_id="missing", skip_if_insufficient=True)', "failed"),
        ('await asyncio.gather(*[arequire_balance("2 USD") for _ in range(40)])', "success"),
        ('require_balance("2 USD")', "failed"),
    ],
)
def test_an_asynchronous_guard(run_dag: Any, sandbox: Sandbox, call: str, state: str) -> None:
    run = run_dag(ASYNCHRONOUS.replace("{call}", call))
    assert run.state() == state
    assert ("SPENT IT" in run.log) is (state == "success")
    if not call.startswith("await"):
        assert "Write: await arequire_balance(" in run.log
        assert not sandbox.requests


@pytest.mark.skipif(not AIRFLOW_3_2, reason="Airflow 3.2 added asynchronous tasks")
def test_an_asynchronous_guard_leaves_the_event_loop_free(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.fail(delay=1, times=1)
    run = run_dag(
        """
        import asyncio
        from airflow_provider_aimlbilling.guard import arequire_balance

        @task
        async def gate():
            guard = asyncio.ensure_future(arequire_balance("2 USD"))
            ticks = 0
            while not guard.done():
                await asyncio.sleep(0.01)
                ticks += 1
            await guard
            return ticks

        gate()
        """
    )
    assert run.xcom() > 20


def test_an_asynchronous_guard_needs_a_running_task() -> None:
    """It must not become a coroutine that nobody awaits: then the task would spend without a check."""
    with pytest.raises(RuntimeError, match="as pre_execute of any task, use require_balance"):
        arequire_balance("2 USD")


@pytest.mark.parametrize("use", ["arequire_balance", "lambda context: arequire_balance('1 USD')"])
def test_an_asynchronous_guard_as_pre_execute_does_not_let_the_task_spend(
    run_dag: Any, sandbox: Sandbox, use: str
) -> None:
    run = run_dag(
        f"""
        from airflow.providers.standard.operators.python import PythonOperator
        from airflow_provider_aimlbilling.guard import arequire_balance

        PythonOperator(task_id="gate", python_callable=lambda: print("SPENT" + " IT"), pre_execute={use})
        """
    )
    assert run.state() == "failed"
    assert "SPENT IT" not in run.log


def test_a_guard_in_a_subprocess_of_a_task_fails_instead_of_passing_unchecked(sandbox: Sandbox) -> None:
    code = "from airflow_provider_aimlbilling.guard import require_balance; require_balance('1 USD'); print('SPENT IT')"
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CTX")}
    processes = {
        passes: subprocess.Popen(
            [sys.executable, "-c", code], env=env | mark, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for mark, passes in (({"AIRFLOW_CTX_TASK_ID": "job"}, False), ({}, True))
    }
    for passes, process in processes.items():
        out, err = process.communicate()
        assert ("SPENT IT" in out) is passes, err
        assert passes or "pass it to the task as pre_execute=" in err


def test_a_guard_on_a_mapped_task_skips_the_jobs_that_the_balance_does_not_cover(
    run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The balance covers four of ten jobs that spend 1 USD each as soon as they start: six are skipped."""
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
