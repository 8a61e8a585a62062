"""The same gate as each of the peers writes it, as the source of a DAG file."""

from __future__ import annotations

import json

from airflow_provider_aimlbilling.sandbox import Sandbox

THRESHOLD = 2_000_000  # credits

_HEAD = "from datetime import datetime\nfrom airflow.sdk import DAG, task\n"

_HTTP = """from airflow.providers.http.sensors.http import HttpSensor

def enough(response):
    return response.json()["balance"] >= {threshold}
"""

_TASK = """
@task.sensor(poke_interval={interval}, timeout=3600, mode="poke")
def gate():
    import os
    import requests
    from airflow.sdk import PokeReturnValue

    headers = {{"Authorization": "Bearer " + os.environ["BILLING_KEY"]}}
    url = os.environ["BILLING_URL"] + "/v1/billing/balance"
    balance = requests.get(url, headers=headers, timeout=10).json()
    return PokeReturnValue(balance["balance"] >= {threshold}, balance)
"""

_OURS = "from airflow_provider_aimlbilling.sensors.balance import BalanceSensor\n"

_PACE = "poke_interval={interval}, timeout=3600"
_GATE = f"task_id=name, threshold={{threshold}}, {_PACE}"
_ASKS = f'task_id=name, http_conn_id="billing_http", endpoint="v1/billing/balance", response_check=enough, {_PACE}'

# name -> what a DAG file imports, and how it makes the gate called `name`.
PEERS = {
    "BalanceSensor, poke": (_OURS, f"BalanceSensor({_GATE})"),
    "BalanceSensor, deferrable": (_OURS, f"BalanceSensor({_GATE}, deferrable=True)"),
    "BalanceSensor, start_from_trigger": (
        _OURS,
        f"BalanceSensor({_GATE}, deferrable=True, start_from_trigger=True)",
    ),
    "HttpSensor, poke": (_HTTP, f"HttpSensor({_ASKS})"),
    "HttpSensor, reschedule": (_HTTP, f'HttpSensor({_ASKS}, mode="reschedule")'),
    "@task.sensor, poke": (_TASK, "gate.override(task_id=name)()"),
    "a usual deferrable sensor": ("from usual import UsualSensor\n", f"UsualSensor({_GATE})"),
    "bound: one poll, no worker, no checks": ("from bound import BoundSensor\n", f"BoundSensor({_GATE})"),
}


def dag_file(peer: str | None, gates: list[int], interval: float = 10) -> str:
    """
    Write a DAG file.

    :param peer: whose gates; ``None`` for a file without any.
    :param gates: how many; for each number a DAG ``gates_N``.
    :param interval: seconds between two polls.
    """
    imports, gate = PEERS[peer] if peer else ("", "None")
    values = {"interval": interval, "threshold": THRESHOLD}
    return (
        _HEAD
        + imports.format(**values)
        + f"for gates in {gates}:\n"
        + '    with DAG(f"gates_{gates}", start_date=datetime(2026, 1, 1), schedule=None) as dag:\n'
        + '        for name in [f"gate_{number}" for number in range(gates)]:\n'
        + f"            {gate.format(**values)}\n"
        + '    globals()[f"dag_{gates}"] = dag\n'
    )


def connections(account: Sandbox, url: str | None = None) -> dict[str, str]:
    """Give the environment variables by which all peers find and may ask the account."""
    ours = json.loads(account.connection()) | {"host": url or account.url}
    theirs = {"conn_type": "http", "host": ours["host"], "extra": {"Authorization": f"Bearer {account.key}"}}
    return {
        "AIRFLOW_CONN_AIMLBILLING_DEFAULT": json.dumps(ours),
        "AIRFLOW_CONN_BILLING_HTTP": json.dumps(theirs),
        "BILLING_URL": ours["host"],
        "BILLING_KEY": account.key,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
