"""A task's requests carry an id, and the request log leads from it back to the task."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
from support import AIRFLOW_3_2, KEY

from airflow_provider_aimlbilling.money.request_id import RequestId, parse_request_id
from airflow_provider_aimlbilling.request_headers import request_headers
from airflow_provider_aimlbilling.sandbox import Sandbox

SETUP = """
    import os
    import requests
    from airflow_provider_aimlbilling.request_headers import request_headers, request_id

    URL, KEY = os.environ["SANDBOX_URL"] + "/v1", os.environ["MODEL_KEY"]
    CHAT = {"model": "sandbox/chat", "messages": [{"role": "user", "content": "Hello"}]}
    AUTH = {"Authorization": f"Bearer {KEY}"}

    def ask(headers):
        requests.post(URL + "/chat/completions", json=CHAT, headers=AUTH | headers, timeout=5).raise_for_status()
"""


@pytest.fixture(autouse=True)
def model_api(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_URL", sandbox.url)
    monkeypatch.setenv("MODEL_KEY", KEY)


def tasks(sandbox: Sandbox, run: Any) -> list[tuple[str, int, int]]:
    """Return task, map index and try of each logged request, in their order. All must be of this run."""
    found = [parse_request_id(row.client_request_id) for row in sandbox.account.log]
    ids = [request for request in found if isinstance(request, RequestId)]
    assert len(ids) == len(found)
    assert all(request.matches(run.dag_run.dag_id, run.dag_run.run_id) for request in ids)
    return sorted((request.task_id, request.map_index, request.try_number) for request in ids)


def test_each_kind_of_task_is_found_in_the_log(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        SETUP
        + """
    from datetime import timedelta
    from airflow.sdk import TaskGroup

    @task
    def plain():
        ask(request_headers())
        ask(request_headers())

    @task
    def mapped(number):
        ask(request_headers())

    @task(retries=1, retry_delay=timedelta(0))
    def retried():
        ask(request_headers())
        if request_headers()["X-Client-Request-Id"].split(":")[4] == "1":
            raise ValueError("not yet")

    with TaskGroup("group"):
        plain()
        mapped.expand(number=[5, 6])
    retried()
        """
    )
    assert tasks(sandbox, run) == [
        *[("group.mapped", 0, 1), ("group.mapped", 1, 1), ("group.plain", -1, 1), ("group.plain", -1, 1)],
        *[("retried", -1, 1), ("retried", -1, 2)],
    ]


CLIENTS = {
    "openai": "OpenAI(base_url=URL, api_key=KEY).chat.completions.create(**CHAT, extra_headers=request_headers())",
    "httpx": "post(URL + '/chat/completions', json=CHAT, headers=AUTH | request_headers()).raise_for_status()",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_sends_the_header(run_dag: Any, sandbox: Sandbox, client: str) -> None:
    pytest.importorskip(client)
    run = run_dag(
        SETUP
        + f"""
    @task
    def job():
        from {client} import {CLIENTS[client].partition("(")[0]}

        {CLIENTS[client]}

    job()
        """
    )
    assert run.state("job") == "success"
    assert tasks(sandbox, run) == [("job", -1, 1)]


@pytest.mark.skipif(not AIRFLOW_3_2, reason="Airflow 3.2 added asynchronous tasks")
def test_an_asynchronous_task_and_its_threads_have_the_header(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        SETUP
        + """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    @task
    async def job():
        ask(request_headers())
        await asyncio.gather(*[asyncio.to_thread(lambda: ask(request_headers())) for _ in range(2)])
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: ask(request_headers())).result()

    job()
        """
    )
    assert run.state("job") == "success"
    assert tasks(sandbox, run) == [("job", -1, 1)] * 4


def test_a_template_has_the_id(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        SETUP
        + """
    from airflow.providers.standard.operators.python import PythonOperator

    dag.user_defined_macros = {"aimlbilling_request_id": request_id}
    headers = {"X-Client-Request-Id": "{{ aimlbilling_request_id(ti) }}"}
    PythonOperator(task_id="plain", python_callable=ask, op_args=[headers])
    PythonOperator.partial(task_id="mapped", python_callable=ask).expand(op_args=[[headers], [headers]])
        """
    )
    assert tasks(sandbox, run) == [("mapped", 0, 1), ("mapped", 1, 1), ("plain", -1, 1)]


@pytest.mark.skipif(not find_spec("airflow.providers.http"), reason="the HTTP provider is not installed")
def test_an_http_operator_sends_the_header(run_dag: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MODELS", sandbox.url.replace("http://", "http://:@"))
    run = run_dag(
        SETUP
        + """
    import json
    from airflow.providers.http.operators.http import HttpOperator

    dag.user_defined_macros = {"aimlbilling_request_id": request_id}
    headers = AUTH | {"X-Client-Request-Id": "{{ aimlbilling_request_id(ti) }}"}
    HttpOperator(
        task_id="job", http_conn_id="models", endpoint="v1/chat/completions", headers=headers, data=json.dumps(CHAT)
    )
        """
    )
    assert run.state("job") == "success"
    assert tasks(sandbox, run) == [("job", -1, 1)]


def test_long_and_unusual_names_are_found_in_the_log(run_dag: Any, sandbox: Sandbox) -> None:
    task_id = "täsk_" + "x" * 200
    run = run_dag(
        SETUP + f"\n    @task(task_id={task_id!r})\n    def job():\n        ask(request_headers())\n\n    job()\n"
    )
    (row,) = sandbox.account.log
    found = parse_request_id(row.client_request_id)
    assert found is not None
    assert found.matches(run.dag_run.dag_id, run.dag_run.run_id, task_id)


def test_outside_a_task_it_says_where_to_call_it() -> None:
    with pytest.raises(RuntimeError, match=r"Call it in the task's own function.*use the macro request_id"):
        request_headers()


def test_in_a_process_of_a_task_it_says_how_to_pass_the_id(sandbox: Sandbox) -> None:
    code = "from airflow_provider_aimlbilling.request_headers import request_headers; request_headers()"
    env = os.environ | {"AIRFLOW_CTX_TASK_ID": "job"}
    run = subprocess.run([sys.executable, "-c", code], env=env, check=False, capture_output=True, text=True)
    assert "pass the result to that process" in run.stderr
