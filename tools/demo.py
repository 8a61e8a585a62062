"""The main use case on a real Airflow: a gate waits in the triggerer for a top-up, opens, and the AI job runs."""

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
STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:5.0f} s  {text}", flush=True)


def airflow(connection: str) -> Deployment:
    say("Starting a real Airflow: scheduler, DAG processor, API server and triggerer.")
    env = {"AIRFLOW_CONN_AIMLBILLING_DEFAULT": connection}
    return Deployment(HOME, Path(sys.executable), ROOT / "example_dags", env)


def finish(deployment: Deployment, run: str) -> None:
    """Wait for the job to end, and read the balance through Airflow's REST API."""
    end_states = {"success", "failed", "upstream_failed", "skipped"}

    def ended() -> bool:
        return deployment.states(run).get("publish") in end_states

    deployment.wait_for("the run to end", ended, seconds=60)
    states = deployment.states(run)
    if set(states.values()) != {"success"}:
        raise RuntimeError(f"The tasks ended as {states}; see {HOME}/logs")
    path = f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances"
    token = deployment.token()
    gate = deployment.get(f"{path}/gate/xcomEntries/return_value", token)["value"]
    job = deployment.get(f"{path}/ai_job/xcomEntries/return_value", token)["value"]
    say(f"The gate opened with {gate['balance']:,} credits ({gate['balance_usd']} USD). This balance is its XCom.")
    say(f"The AI job {job}.")


def on_the_sandbox() -> None:
    with Sandbox("0.40 USD") as account:
        say(f"AIMLAPI_KEY is not set, so a local sandbox serves as the API. Its account holds {account.balance}.")
        with airflow(account.connection()) as deployment:
            say(f"Starting the DAG {DAG}. Its job may cost 2.50 USD.")
            run = deployment.trigger(DAG)

            def deferred() -> bool:
                return deployment.states(run).get("gate") == "deferred"

            deployment.wait_for("the gate to be deferred", deferred, seconds=60)
            say("The gate is waiting in the triggerer. It holds no worker, and nothing has been spent.")
            seen = len(account.requests)

            def polled() -> bool:
                return len(account.requests) > seen

            deployment.wait_for("the triggerer to read the balance", polled, seconds=60)
            say("The triggerer read the balance again, and the gate keeps waiting. Topping up the account by 5 USD.")
            account.top_up("5 USD")
            finish(deployment, run)


def on_the_real_api(key: str) -> None:
    say("AIMLAPI_KEY is set: the demo reads your balance from the vendor's API, and spends nothing.")
    connection = json.dumps({"conn_type": "aimlbilling", "password": key})
    with airflow(connection) as deployment:
        say(f"Starting the DAG {DAG} with a threshold of 0: its gate opens with any balance.")
        finish(deployment, deployment.trigger(DAG, {"threshold": "0"}))


def last_gate_message() -> str:
    """Return the last warning or error in the gate's log, to explain why the demo failed."""
    for log in sorted(HOME.glob("logs/**/task_id=gate/*.log*"), reverse=True):
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        messages = [str(line.get("event")) for line in lines if line.get("level") in ("warning", "error")]
        messages += [str(detail.get("exc_value")) for line in lines for detail in line.get("error_detail") or []]
        if messages:
            return f"\nLast message of the gate: {messages[-1]}"
    return ""


def stop(number: int, _: object) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):  # a second one must not interrupt the clean-up
        signal.signal(signum, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> None:
    key = os.environ.pop("AIMLAPI_KEY", "")
    # Stop the services even when the demo itself is stopped.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        on_the_real_api(key) if key else on_the_sandbox()
    except (RuntimeError, TimeoutError) as error:
        sys.exit(f"The demo failed: {error}{last_gate_message()}")
    say("Done. Next, run 'make ui' to see the same in the browser.")


if __name__ == "__main__":
    main()
