"""The header that tells the API which task sends a request, so that its log says what the task cost."""

from __future__ import annotations

from typing import Any

from airflow_provider_aimlbilling.task_context import current_context, in_process_started_by_task

HEADER = "X-Client-Request-Id"


def request_headers() -> dict[str, str]:
    """
    Return the header that names the running task, for every request to a model that it sends::

        @task
        def score():
            client = OpenAI(default_headers=request_headers(), …)

    All requests of a try have the same id. It is not an idempotency key: each request is charged.

    :returns: ``X-Client-Request-Id`` and its value, which names DAG, run, task, map index and try.
    :raises RuntimeError: it was called outside a running task, or in a process that a task started with its own
        environment, where it cannot know the task.
    """
    if (context := current_context()) is not None:
        return {HEADER: request_id(context["ti"])}
    if in_process_started_by_task():
        raise RuntimeError(
            "request_headers was called in a process that a task started, where Airflow's context is not available. "
            "Call it in the task itself and pass the result to that process. For @task.external_python and similar, "
            "pass the macro request_id(ti) as an argument."
        )
    raise RuntimeError(
        "request_headers only works in a running task, because it names the task. Call it in the task's own function, "
        "not at the top of the DAG file. In a templated field of an operator, use the macro request_id(ti)."
    )


def request_id(ti: Any) -> str:
    """
    Return the value of the header, as a macro for templated fields::

        DAG(…, user_defined_macros={"aimlbilling_request_id": request_id})
        HttpOperator(…, headers={"X-Client-Request-Id": "{{ aimlbilling_request_id(ti) }}"})

    :param ti: the task instance, ``ti`` in a template.
    """
    from airflow_provider_aimlbilling.money.request_id import encode_request_id

    map_index = -1 if ti.map_index is None else ti.map_index
    return encode_request_id(ti.dag_id, ti.run_id, ti.task_id, map_index, ti.try_number)
