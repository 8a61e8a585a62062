"""A real Airflow with the example DAGs and a sandbox account, for people who want to click."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from pathlib import Path

from deployment import PASSWORD, USER, Deployment

from airflow_provider_aimlbilling.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[1]
ACCOUNTS = ("default", "research", "production")


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("Airflow starts: half a minute.", flush=True)
    with Sandbox("0.40 USD") as account:  # noqa: SIM117 - the long line would say less
        with Deployment(ROOT / ".build" / "ui", Path(sys.executable), ROOT / "example_dags", port=8080) as deployment:
            # In the database and not in the environment, so that they stand under Admin > Connections.
            for name in ACCOUNTS:
                deployment.run("connections", "add", f"aimlbilling_{name}", "--conn-json", account.connection())
            print(f"Airflow:  {deployment.url}   log in as {USER} with the password {PASSWORD}")
            print(f"Sandbox:  the account holds {account.balance}; to top it up by 5 USD:")
            print(f"          curl -X POST '{account.url}/sandbox/top-up?amount=5USD'")
            print("Ctrl-C stops both.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                stop.wait()


if __name__ == "__main__":
    main()
