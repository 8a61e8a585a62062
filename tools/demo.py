"""The main job on a real Airflow: a gate waits in the triggerer for a top-up, opens, and the AI job runs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from deployment import Deployment

from airflow_provider_aimlbilling.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".build" / "demo"
DAG = "aimlbilling_wait_then_run"
BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:5.0f} s  {text}", flush=True)


def airflow(connection: str) -> Deployment:
    say("A real Airflow starts: scheduler, DAG processor, API server and triggerer.")
    env = {"AIRFLOW_CONN_AIMLBILLING_DEFAULT": connection}
    return Deployment(HOME, Path(sys.executable), ROOT / "example_dags", env)


def finish(deployment: Deployment, run: str) -> None:
    """See the job run, and read the balance back through Airflow's REST API."""
    ends = {"success", "failed", "upstream_failed", "skipped"}

    def ended() -> bool:
        return deployment.states(run).get("publish") in ends

    deployment.wait_for("the run to end", ended, seconds=60)
    states = deployment.states(run)
    if set(states.values()) != {"success"}:
        raise RuntimeError(f"The run ended with {states}; see {HOME}/logs")
    path = f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances"
    token = deployment.token()
    gate = deployment.get(f"{path}/gate/xcomEntries/return_value", token)["value"]
    job = deployment.get(f"{path}/ai_job/xcomEntries/return_value", token)["value"]
    say(f"The gate opened on {gate['balance']:,} credits ({gate['balance_usd']} USD): that is its XCom.")
    say(f"The AI job {job}.")


def on_the_sandbox() -> None:
    with Sandbox("0.40 USD") as account:
        say(f"No AIMLAPI_KEY is set, so a local sandbox plays the API. Its account holds {account.balance}.")
        with airflow(account.connection()) as deployment:
            say(f"The DAG {DAG} starts. Its job may cost 2.50 USD.")
            run = deployment.trigger(DAG)

            def waits() -> bool:
                return deployment.states(run).get("gate") == "deferred"

            deployment.wait_for("the gate to be deferred", waits, seconds=60)
            say("The gate waits in the triggerer. No worker is held, and nothing has been spent.")
            asked = len(account.requests)

            def polled() -> bool:
                return len(account.requests) > asked

            deployment.wait_for("the triggerer to ask for the balance", polled, seconds=60)
            say("It has asked again, and waits on. Somebody tops the account up by 5 USD.")
            account.top_up("5 USD")
            finish(deployment, run)


def on_the_real_api(key: str) -> None:
    say("AIMLAPI_KEY is set: this asks the vendor's API for your balance, and spends nothing.")
    connection = json.dumps({"conn_type": "aimlbilling", "password": key})
    with airflow(connection) as deployment:
        say(f"The DAG {DAG} starts, with a threshold of nothing: its gate opens on any balance.")
        finish(deployment, deployment.trigger(DAG, {"threshold": "0"}))


def last_words() -> str:
    """What the gate said last, for a demo that did not get through."""
    for log in sorted(HOME.glob("logs/**/task_id=gate/*.log*"), reverse=True):
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        told = [str(line.get("event")) for line in lines if line.get("level") in ("warning", "error")]
        told += [str(detail.get("exc_value")) for line in lines for detail in line.get("error_detail") or []]
        if told:
            return f"\nThe gate said: {told[-1]}"
    return ""


def stop(number: int, _: object) -> None:
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> None:
    key = os.environ.pop("AIMLAPI_KEY", "")
    # Stopped from outside, it still stops what it has started.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        on_the_real_api(key) if key else on_the_sandbox()
    except (RuntimeError, TimeoutError) as error:
        sys.exit(f"The demo did not get through: {error}{last_words()}")
    say("Done. Next: make ui, to see the same in the browser.")


if __name__ == "__main__":
    main()
