"""A real Airflow with the example DAGs and a sandbox account, to explore in the browser."""

from __future__ import annotations

import contextlib
import shutil
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
    print("Starting Airflow. This takes about half a minute.", flush=True)
    dags = ROOT / ".build" / "ui-dags"
    shutil.rmtree(dags, ignore_errors=True)
    dags.mkdir(parents=True)
    with Sandbox("0.40 USD") as account:  # noqa: SIM117 - one line would be too long
        with Deployment(ROOT / ".build" / "ui", Path(sys.executable), dags, port=8080) as deployment:
            # In the database, because Admin > Connections does not show those of the environment.
            for name in ACCOUNTS:
                deployment.add_connection(f"aimlbilling_{name}", account.connection())
            for example in sorted((ROOT / "example_dags").glob("*.py")):  # the hourly one runs as soon as it is here
                (dags / example.name).symlink_to(example)
            print(f"Airflow:  {deployment.url}   user {USER}, password {PASSWORD}")
            print(f"Sandbox:  the account holds {account.balance}. To top it up by 5 USD, run:")
            print(f"          curl -X POST '{account.url}/sandbox/top-up?amount=5USD'")
            print("Press Ctrl-C to stop both.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                stop.wait()


if __name__ == "__main__":
    main()
