"""
# Tell a Slack channel how the balance falls and recovers

An asset watcher polls the balance once a minute and starts this DAG once for each of three levels that the balance
falls below, and once when it has recovered. The message says what was crossed, what is left, for how many days it
lasts, and what waiting gates will do. Needs Airflow 3 and `apache-airflow-providers-slack`, with an incoming webhook in
the connection `aimlbilling_slack`.

**What to expect:** nothing while the balance stays between two levels. When it falls below 50, 20 or 5 USD, one run
starts, and `tell` posts one message; a fall through several levels at once is one message that names them all. When the
balance is back at a level plus 1 USD, a message says so. If there is too little history, the message says why there is
no estimate. If Slack cannot be reached, `tell` is retried and then fails. A run that you trigger manually posts the
estimate only.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger

levels = BalanceEventTrigger(["50 USD", "20 USD", "5 USD"], hysteresis="1 USD")
crossed = Asset("aimlbilling_levels_slack", watchers=[AssetWatcher(name="levels", trigger=levels)])

NEXT_STEP = {
    "below": "Gates that need more than this wait, and open by themselves after a top-up; nothing has to be cleared. "
    "Top up: https://aimlapi.com/app/billing",
    "above": "Waiting gates open by themselves at their next poll. Clear the tasks that failed in the meantime.",
}

with DAG(
    dag_id="aimlbilling_low_balance_slack",
    schedule=[crossed],
    start_date=datetime(2026, 1, 1),
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    # A task and not a callback, because Airflow only logs that a callback failed, and the alert would be lost.
    @task(retries=3, retry_delay=timedelta(minutes=1))
    def tell(triggering_asset_events: Any) -> str:
        from airflow_provider_aimlbilling.exceptions import AimlBillingError
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

        try:
            lasts = AimlBillingHook().get_runway().summary
        except AimlBillingError as reason:
            lasts = f"No estimate: {reason}"
        payloads = [event.extra["payload"] for events in triggering_asset_events.values() for event in events]
        lines = [payload["reason"] for payload in payloads] + [lasts]
        lines += [NEXT_STEP[payload["crossing"]] for payload in payloads[-1:]]
        text = "\n".join(lines)
        SlackWebhookNotifier(slack_webhook_conn_id="aimlbilling_slack", text=text).notify({})
        return text

    tell()
