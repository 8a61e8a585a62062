"""
# Alert before the money runs out

Checks the account every hour and notifies someone when the balance is low. No `threshold` is set, so the check uses
the account's own low-balance threshold, which you set in the vendor's billing settings.

**What to expect:** while the balance is at or above the account's threshold, `check` succeeds and nothing else happens.
Below it, `check` fails and the notifier receives the reason: the balance, the threshold, and the shortfall. This
example only writes to the log; replace `LogNotifier` with a notifier for Slack, e-mail, PagerDuty, and so on.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, BaseNotifier, Context

from airflow_provider_aimlbilling.operators.balance import BalanceCheckOperator


class LogNotifier(BaseNotifier):
    """Stands in for the notifier of your choice."""

    template_fields = ("message",)

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def notify(self, context: Context) -> None:
        # Airflow passes no exception if it ended the task itself, such as when its worker was killed.
        print(f"ALERT {self.message}: {context.get('exception') or 'the check was killed'}")


with DAG(
    dag_id="aimlbilling_low_balance_alert",
    schedule=timedelta(hours=1),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    doc_md=__doc__,
    tags=["aimlbilling", "example"],
) as dag:
    BalanceCheckOperator(
        task_id="check",
        on_failure_callback=LogNotifier(message="{{ dag.dag_id }}"),
    )
