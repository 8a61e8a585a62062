"""
# Send an e-mail when the balance falls and recovers

An asset watcher polls the balance once a minute and starts this DAG once for each of three levels that the balance
falls below, and once when it has recovered. The e-mail says what was crossed, what is left, for how many days it lasts,
and what waiting gates will do. Needs Airflow 3 and a connection `aimlbilling_smtp` to a mail server.

**What to expect:** nothing while the balance stays between two levels. When it falls below 50, 20 or 5 USD, one run
starts, and `tell` sends one e-mail; a fall through several levels at once is one e-mail that names them all. When the
balance is back at a level plus 1 USD, an e-mail says so. If there is too little history, the e-mail says why there is
no estimate. If the mail server cannot be reached, `tell` is retried and then fails. A run that you trigger manually
sends the estimate only.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from html import escape
from typing import Any

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger

SENDER, RECIPIENT = "airflow@example.com", "on-call@example.com"

levels = BalanceEventTrigger(["50 USD", "20 USD", "5 USD"], hysteresis="1 USD")
crossed = Asset("aimlbilling_levels_email", watchers=[AssetWatcher(name="levels", trigger=levels)])

NEXT_STEP = {
    "below": "Gates that need more than this wait, and open by themselves after a top-up; nothing has to be cleared. "
    "Top up: https://aimlapi.com/app/billing",
    "above": "Waiting gates open by themselves at their next poll. Clear the tasks that failed in the meantime.",
}

with DAG(
    dag_id="aimlbilling_low_balance_email",
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
        SmtpNotifier(
            smtp_conn_id="aimlbilling_smtp",
            from_email=SENDER,
            to=RECIPIENT,
            subject=f"AI/ML API account: {lines[0]}",
            html_content="".join(f"<p>{escape(line)}</p>" for line in lines),
        ).notify({})
        return "\n".join(lines)

    tell()
