"""
A gate that says no holds the job behind it, however the DAG is built, or Airflow refuses the DAG when it parses it.

The table in docs/guides/gate-a-job.md has the same rows. The matrix runs this on each version of Airflow.
"""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from support import AIRFLOW_3_2, DAGS, for_this_airflow

from airflow_provider_aimlbilling.sandbox import Sandbox

NO = "threshold='9 USD'"  # the account holds 2.50 USD
BRANCH = (
    f"BalanceBranchOperator(task_id='gate', {NO}, follow_task_ids_if_sufficient='JOB', "
    "follow_task_ids_if_insufficient='OTHER')"
)
GATES = {
    "skip": f"BalanceShortCircuitOperator(task_id='gate', {NO})",
    "skip directly": f"BalanceShortCircuitOperator(task_id='gate', {NO}, ignore_downstream_trigger_rules=False)",
    "branch": BRANCH,
    "fail": f"BalanceCheckOperator(task_id='gate', {NO})",
    "wait": f"BalanceSensor(task_id='gate', {NO}, timeout=0, poke_interval=0.1)",
    "wait, then skip": f"BalanceSensor(task_id='gate', {NO}, timeout=0, poke_interval=0.1, soft_fail=True)",
}
HEAD = """
from airflow.sdk import TaskGroup, task_group

@task
def job(n=0): ...
@task
def other(n=0): ...
@task
def numbers():
    return [1, 2]
@task
def step(n=0): ...
@task
def unrelated(): ...
"""
GROUP = "@task_group\ndef g(n):\n    {gate} >> [job(n), other(n)]\n"
NESTED = "@task_group\ndef g(n):\n    with TaskGroup('a'):\n        j = job(n)\n    {gate} >> [j, other(n)]\n"
DEEP = "@task_group\ndef g(n):\n    gate = {gate}\n    gate >> step(n) >> job(n)\n    gate >> other(n)\n"
# How the DAG is built: its source, the id of the job, and the prefix of the other ids.
CONSTRUCTS = {
    "one after the other": ("{gate} >> [job(), other()]", "job", ""),
    "in nested task groups": (
        "with TaskGroup('a'):\n    with TaskGroup('b'):\n        {gate} >> [job(), other()]",
        "a.b.job",
        "a.b.",
    ),
    "a job mapped over a list": ("{gate} >> [job.expand(n=[1, 2]), other()]", "job", ""),
    "a job mapped over an XCom": ("{gate} >> [job.expand(n=numbers()), other()]", "job", ""),
    "a task group mapped over a list": (
        "@task_group\ndef g(n):\n    job(n)\n{gate} >> [g.expand(n=[1, 2]), other()]",
        "g.job",
        "",
    ),
    "in a task group mapped over a list": (GROUP + "g.expand(n=[1, 2])", "g.job", "g."),
    "in a task group mapped over an XCom": (GROUP + "g.expand(n=numbers())", "g.job", "g."),
    "in a mapped task group, a nested job": (NESTED + "g.expand(n=[1, 2])", "g.a.job", "g."),
    "in a group mapped over an XCom, a nested job": (NESTED + "g.expand(n=numbers())", "g.a.job", "g."),
    "in a mapped task group, two steps": (DEEP + "g.expand(n=numbers())", "g.job", "g."),
    "between setup and teardown": (
        "up, j, down = step().as_setup(), job(), unrelated().as_teardown()\nup >> {gate} >> [j, other()] >> down\n"
        "up >> down",
        "job",
        "",
    ),
    "before a setup": (
        "gate = {gate}\nup, j, down = step().as_setup(), job(), unrelated().as_teardown()\n"
        "gate >> up >> j >> down\nup >> down\ngate >> other()",
        "job",
        "",
    ),
}
JOB_STATES = ("skipped", "upstream_failed", "None")


def with_gate(gate: str, construct: str) -> tuple[str, str]:
    source, job, prefix = CONSTRUCTS[construct]
    first = prefix + "step" if "step(n) >> job" in source else job
    first = "step" if construct == "before a setup" else first
    operator = GATES[gate].replace("JOB", first).replace("OTHER", prefix + "other")
    return HEAD + source.replace("{gate}", operator), job


@pytest.mark.parametrize("construct", CONSTRUCTS)
@pytest.mark.parametrize("gate", GATES)
def test_no_job_runs_behind_a_gate_that_says_no(run_dag: Any, sandbox: Sandbox, gate: str, construct: str) -> None:
    source, job = with_gate(gate, construct)
    run = run_dag(source)
    states = {str(ti.state) for ti in run.dag_run.get_task_instances() if ti.task_id == job}
    assert states
    assert states <= set(JOB_STATES), run.log
    if gate == "branch":
        followed = {str(ti.state) for ti in run.dag_run.get_task_instances() if ti.task_id.endswith("other")}
        assert followed == {"success"}, "the other branch runs"


@pytest.mark.parametrize("gate", ["skip", "skip directly", "branch"])
@pytest.mark.parametrize("over", ["[1, 2]", "numbers()"])
def test_each_index_of_a_mapped_task_group_decides_for_itself(
    run_dag: Any, sandbox: Sandbox, gate: str, over: str
) -> None:
    operator = GATES[gate].replace("JOB", "g.job").replace("OTHER", "g.other").replace(NO, "threshold=n")
    source = GROUP.replace("{gate}", operator) + f"g.expand(n={over})"
    run = run_dag(HEAD.replace("[1, 2]", "['1 USD', '9 USD']") + source.replace("[1, 2]", "['1 USD', '9 USD']"))
    assert [run.state("g.job", index) for index in range(2)] == ["success", "skipped"]


RULES = ("all_done", "none_failed", "none_failed_min_one_success", "all_skipped", "one_success")
IN_MAPPED_GROUP = "in a task group mapped over an XCom"


@pytest.mark.parametrize(
    ("construct", "rule"),
    [
        *(("one after the other", rule) for rule in RULES),
        *((IN_MAPPED_GROUP, rule) for rule in ("all_done", "none_failed", "all_skipped")),  # the others are refused
    ],
)
@pytest.mark.parametrize("gate", ["skip", "skip directly", "branch"])
def test_a_trigger_rule_does_not_let_a_job_run(
    run_dag: Any, sandbox: Sandbox, construct: str, gate: str, rule: str
) -> None:
    source, job = with_gate(gate, construct)
    run = run_dag(source.replace("@task\ndef job", f"@task(trigger_rule={rule!r})\ndef job"))
    states = {str(ti.state) for ti in run.dag_run.get_task_instances() if ti.task_id == job}
    assert states <= {"skipped"}
    assert states


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("over", ["", ".expand(n=[1, 2])"])
def test_all_tasks_downstream_are_skipped_whatever_their_rules(
    run_dag: Any, sandbox: Sandbox, rule: str, over: str
) -> None:
    call = "step{0} >> last{0}".format(over or "()")
    run = run_dag(
        HEAD + f"@task(trigger_rule={rule!r})\ndef last(n=0): ...\n{GATES['skip']} >> {call}",
    )
    assert {str(ti.state) for ti in run.dag_run.get_task_instances() if ti.task_id == "last"} == {"skipped"}


REFUSED = {
    "a rule that waits for nothing": (
        "{gate} >> task(trigger_rule='always', task_id='last')(lambda: 1)()",
        "'always'",
    ),
    "a rule that waits for one task": (
        "[{gate}, unrelated()] >> task(trigger_rule='one_success', task_id='last')(lambda: 1)()",
        "start before the gate has decided",
    ),
    "a rule that Airflow expands late": (
        "@task_group\ndef g(n):\n"
        "    {gate} >> task(trigger_rule='none_failed_min_one_success', task_id='last')(lambda: 1)()\n"
        "g.expand(n=[1, 2])",
        "does not apply skips to a task with trigger_rule 'none_failed_min_one_success'",
    ),
    "behind the group": (
        "@task_group\ndef g(n):\n    {gate}\ng.expand(n=[1, 2]) >> job()",
        "outside of the gate's mapped task group 'g'",
    ),
    "deep in the group": (
        "@task_group\ndef g(n):\n    {gate} >> step(n) >> task(trigger_rule='all_done', task_id='last')(lambda: 1)()\n"
        "g.expand(n=[1, 2])",
        "'all_done' lets it run although the task before it was skipped",
    ),
}


def import_error(source: str) -> str:
    """Return what Airflow says when it parses a DAG file."""
    if AIRFLOW_3_2:
        from airflow.dag_processing.dagbag import DagBag
    else:
        from airflow.models.dagbag import DagBag
    for old in DAGS.glob("*.py"):
        old.unlink()
    head = """
        from datetime import datetime
        from airflow.sdk import DAG, task
        from airflow_provider_aimlbilling.operators.balance import *

        with DAG("refused", start_date=datetime(2026, 1, 1), schedule=None) as dag:
    """
    path = DAGS / "refused.py"
    path.write_text(for_this_airflow(textwrap.dedent(head) + textwrap.indent(source, "    ")))
    return "".join(DagBag(path).import_errors.values())


@pytest.mark.parametrize(
    ("gate", "case"),
    [*(("skip", case) for case in REFUSED), *(("branch", case) for case in REFUSED if "deep" not in case)],
)
def test_a_dag_in_which_airflow_cannot_hold_the_job_is_refused(database: None, gate: str, case: str) -> None:
    source, problem = REFUSED[case]
    error = import_error(HEAD + source.replace("{gate}", GATES[gate]))
    assert problem in error
    assert "Check in the job itself with require_balance" in error


@pytest.mark.parametrize("gate", ["BalanceShortCircuitOperator", "BalanceBranchOperator"])
def test_a_gate_that_skips_cannot_be_mapped(database: None, gate: str) -> None:
    error = import_error(f"{gate}.partial(task_id='gate').expand(threshold=['1 USD', '9 USD'])")
    assert f"{gate} cannot be mapped" in error
    assert "mapped task group" in error


def test_an_alert_behind_jobs_of_one_gate_is_accepted(database: None) -> None:
    """It can only start after a job, so after the gate."""
    alert = "{gate} >> [job(), step()] >> task(trigger_rule='one_failed', task_id='last')(lambda: 1)()"
    assert not import_error(HEAD + alert.replace("{gate}", GATES["skip"]))
