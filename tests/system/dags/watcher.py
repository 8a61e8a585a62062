"""A watcher that starts a DAG when the balance falls."""

from datetime import datetime

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger

below = BalanceEventTrigger("1 USD", "below", "0.50 USD", aimlbilling_conn_id="watched", poke_interval=0.3)
fell = Asset("balance_fell", watchers=[AssetWatcher(name="below", trigger=below)])

with DAG("pause", start_date=datetime(2026, 1, 1), schedule=[fell]):

    @task
    def pause(triggering_asset_events=None):
        (event,) = [event for events in triggering_asset_events.values() for event in events]
        return {"reason": event.extra["payload"]["reason"]}

    pause()
