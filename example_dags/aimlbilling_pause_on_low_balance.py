"""
# Pause spending when the balance falls

An asset watcher polls the balance once a minute and starts this DAG when the balance falls below 2 USD. It fires once
per fall, not once per poll, and can fire again only after the account has held 3 USD or more. Needs Airflow 3.

**What to expect:** nothing while the account holds 2 USD or more, and nothing if it already holds less at the first
poll. When the balance falls below 2 USD, one run starts: `pause` prints the balance and the shortfall and sets the
Variable `aimlbilling_spending` to `paused`, which jobs that can be postponed should check.
`aimlbilling_resume_after_top_up` sets it back. A run that you trigger manually sets the Variable, too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, Variable, task

from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger

fell = Asset(
    "aimlbilling_balance_fell",
    watchers=[AssetWatcher(name="below_2_usd", trigger=BalanceEventTrigger("2 USD", "below", hysteresis="1 USD"))],
)

with DAG(
    dag_id="aimlbilling_pause_on_low_balance",
    schedule=[fell],
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:

    @task
    def pause(triggering_asset_events: Any = None) -> None:
        for events in triggering_asset_events.values():
            for event in events:
                print(event.extra["payload"]["reason"])
        Variable.set("aimlbilling_spending", "paused")

    pause()
