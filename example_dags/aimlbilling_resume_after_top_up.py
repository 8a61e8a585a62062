"""
# Resume after a top-up

The counterpart of `aimlbilling_pause_on_low_balance`: an asset watcher starts this DAG when the balance recovers to
5 USD, and can start it again only after the account has held less than 2 USD. Both watchers, and all deferred gates of
the connection with the same interval, share one poll. Needs Airflow 3.

**What to expect:** nothing while the account holds less than 5 USD, and nothing if it already holds 5 USD at the first
poll. When the balance reaches 5 USD, one run starts: `resume` prints the balance and sets the Variable
`aimlbilling_spending` to `allowed`. A run that you trigger manually sets the Variable, too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, Variable, task

from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger

recovered = Asset(
    "aimlbilling_balance_recovered",
    watchers=[AssetWatcher(name="to_5_usd", trigger=BalanceEventTrigger("5 USD", "above", hysteresis="3 USD"))],
)

with DAG(
    dag_id="aimlbilling_resume_after_top_up",
    schedule=[recovered],
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:

    @task
    def resume(triggering_asset_events: Any = None) -> None:
        for events in triggering_asset_events.values():
            for event in events:
                print(event.extra["payload"]["reason"])
        Variable.set("aimlbilling_spending", "allowed")

    resume()
