"""
# Pause spending when the balance falls

An asset watcher asks for the balance once a minute and starts this DAG when it falls below 2 USD: once, not at each
look. It can start it again after the account has held 3 USD or more. Needs Airflow 3.

**What to expect:** nothing while the account holds 2 USD or more, nor if it holds less when the watcher first looks.
When the balance falls below, one run starts by itself: `pause` prints what the account holds and what is short, and
sets the Variable `aimlbilling_spending` to `paused`, for jobs that can do without. `aimlbilling_resume_after_top_up`
sets it back. A run that is started by hand sets the Variable, too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, Variable, task
from airflow.sdk import AssetWatcher

from airflow_provider_aimlbilling.triggers.crossing import BalanceEventTrigger

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
