"""
The XComs of a gate that starts and ends in the triggerer, where no worker writes or deletes them.

These functions raise whatever Airflow raises. A trigger must catch it.
"""

from __future__ import annotations

import asyncio
from typing import Any


async def push_return_value(ti: Any, value: dict[str, Any]) -> None:
    """
    Push a task's return value.

    :param ti: the task instance.
    :param value: a plain JSON dictionary.
    """
    from airflow_provider_aimlbilling.compat import XCom

    # Not as TaskSuccessEvent(xcoms=…), which stores the JSON as text.
    await XCom.aset(value=value, **_key_of("return_value", ti))


async def delete_xcoms_of_earlier_tries(ti: Any) -> None:
    """
    Delete the XComs that earlier tries of a task may have left, as Airflow does when a worker starts a task.

    :param ti: the task instance.
    """
    from airflow_provider_aimlbilling.compat import XCom

    # "verdict" comes from a worker that handled the failed end of an earlier try.
    for key in ("return_value", "verdict"):
        await asyncio.to_thread(XCom.delete, **_key_of(key, ti))


def _key_of(key: str, ti: Any) -> dict[str, Any]:
    names = ("dag_id", "task_id", "run_id", "map_index")
    return {"key": key, **{name: getattr(ti, name) for name in names}}
