"""A real Airflow with the example DAGs and sandbox accounts, to explore in the browser."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from deployment import PASSWORD, USER, Deployment

from airflow_provider_aimlbilling.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[1]
ACCOUNTS = {"default": "0.40 USD", "research": "3 USD", "production": "1 USD"}

# Runs that show something on the billing page: gates that wait, jobs that were held, and a run with its cost.
STARTED = (
    "aimlbilling_wait_then_run",
    "aimlbilling_several_accounts",
    "aimlbilling_guard_mapped_jobs",
    "aimlbilling_skip_branch_or_fail",
    "aimlbilling_run_cost",
)

# What is spent on each model, in tenths of a cent, on each day of the week.
WEEK = {
    "sandbox/gpt": (140, 155, 150, 170, 165, 30, 20),
    "sandbox/chat": (60, 45, 70, 65, 80, 10, 15),
    "sandbox/mini": (12, 10, 14, 9, 16, 3, 2),
}
CREDITS = 2_000  # a tenth of a cent


def make_history(account: Sandbox, days: int = 92) -> None:
    """Let an account look as if it had been in use for some months; keep its balance."""
    balance, now = account.balance, datetime.now(timezone.utc)
    account.set_balance("1000 USD")
    for ago in range(days, -1, -1):
        at = now - timedelta(days=ago)
        for model, spent in WEEK.items():
            doubling = 2 * days - ago  # spending doubles over that time
            account.spend(spent[at.weekday()] * CREDITS * doubling // days, model, at)
    account.set_balance(balance)


@contextmanager
def ui(port: int = 8080) -> Iterator[tuple[Deployment, dict[str, Sandbox]]]:
    """
    Start an Airflow that has something to show. A test and the screenshots use it as well.

    :param port: port of the API server; 0 chooses a free one.
    """
    dags = ROOT / ".build" / "ui-dags"
    shutil.rmtree(dags, ignore_errors=True)
    dags.mkdir(parents=True)
    with ExitStack() as stack:
        accounts = {name: stack.enter_context(Sandbox(balance)) for name, balance in ACCOUNTS.items()}
        for account in accounts.values():
            account.low_balance_threshold = "2 USD"
            make_history(account)
        deployment = stack.enter_context(Deployment(ROOT / ".build" / "ui", Path(sys.executable), dags, port=port))
        # In the database, because Admin > Connections does not show those of the environment.
        for name, account in accounts.items():
            deployment.add_connection(f"aimlbilling_{name}", account.connection())
        for example in sorted((ROOT / "example_dags").glob("*.py")):  # the hourly one runs as soon as it is here
            (dags / example.name).symlink_to(example)
        # The sandbox charges at once, so the cost of a run need not settle for minutes.
        cost = dags / "aimlbilling_run_cost.py"
        source = cost.read_text()
        cost.unlink()
        cost.write_text(source.replace("settle_seconds=120", "settle_seconds=5"))
        for dag_id in STARTED:
            deployment.trigger(dag_id)
        yield deployment, accounts


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("Starting Airflow. This takes about half a minute.", flush=True)
    with ui() as (deployment, accounts):
        print(f"Airflow:  {deployment.url}   user {USER}, password {PASSWORD}")
        print(f"Billing:  {deployment.url}/plugin/aimlbilling   (Browse > AI/ML API billing)")
        for name, account in accounts.items():
            print(f"Sandbox:  aimlbilling_{name} holds {account.balance}. To top it up by 5 USD, run:")
            print(f"          curl -X POST '{account.url}/sandbox/top-up?amount=5USD'")
        print("Press Ctrl-C to stop.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            stop.wait()


if __name__ == "__main__":
    main()
