"""The same gate, written in the way of each alternative, as the source of a DAG file."""

from __future__ import annotations

import json

from airflow_provider_aimlbilling.sandbox import Sandbox

THRESHOLD = 2_000_000  # credits

_HEAD = "from datetime import datetime\nfrom airflow.sdk import DAG, task\n"

_HTTP_SENSOR = """from airflow.providers.http.sensors.http import HttpSensor

def is_enough(response):
    return response.json()["balance"] >= {threshold}
"""

_TASK_SENSOR = """
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

_BALANCE_SENSOR = "from airflow_provider_aimlbilling.sensors.balance import BalanceSensor\n"

# Arguments that all sensors have, those of a sensor with a threshold, and those of HttpSensor.
_POLLING = "poke_interval={interval}, timeout=3600"
_GATE = f"task_id=name, threshold={{threshold}}, {_POLLING}"
_HTTP_GATE = (
    f'task_id=name, http_conn_id="billing_http", endpoint="v1/billing/balance", response_check=is_enough, {_POLLING}'
)

# name: (what the DAG file imports, how it creates the gate with the task id `name`)
PEERS = {
    "BalanceSensor, poke": (_BALANCE_SENSOR, f"BalanceSensor({_GATE})"),
    "BalanceSensor, deferrable": (_BALANCE_SENSOR, f"BalanceSensor({_GATE}, deferrable=True)"),
    "BalanceSensor, start_from_trigger": (
        _BALANCE_SENSOR,
        f"BalanceSensor({_GATE}, deferrable=True, start_from_trigger=True)",
    ),
    "HttpSensor, poke": (_HTTP_SENSOR, f"HttpSensor({_HTTP_GATE})"),
    "HttpSensor, reschedule": (_HTTP_SENSOR, f'HttpSensor({_HTTP_GATE}, mode="reschedule")'),
    "@task.sensor, poke": (_TASK_SENSOR, "gate.override(task_id=name)()"),
    "a typical deferrable sensor": ("from typical_sensor import TypicalSensor\n", f"TypicalSensor({_GATE})"),
    "baseline: one poll, no worker, no checks": ("from baseline import BaselineSensor\n", f"BaselineSensor({_GATE})"),
}


def dag_file(peer: str | None, gates: list[int], interval: float = 10) -> str:
    """
    Return the source of a DAG file.

    :param peer: a name in :data:`PEERS`; ``None`` for a file without gates.
    :param gates: numbers of gates; each number N becomes a DAG ``gates_N`` with that many.
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
    """
    Return the environment variables that give all peers the address and the key of one account.

    :param account: the sandbox that serves the account.
    :param url: base URL to use instead of the sandbox's own.
    """
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
