"""
# Tell somebody before the money is gone

Checks the account every hour and calls Airflow's notifier machinery when it is low: without a `threshold` the
account's own low-balance mark decides, which is set in the vendor's billing settings.

**What to expect:** while the account is above its mark, `check` succeeds and nothing else happens. Below it, `check`
fails, and the notifier gets the verdict: what the account has, its mark, and what is missing. Put the notifier of
your choice (Slack, e-mail, PagerDuty…) where this example writes into the log.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import DAG, BaseNotifier

from airflow_provider_aimlbilling.operators.balance import BalanceCheckOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class LogNotifier(BaseNotifier):
    """Stands in for the notifier of your choice."""

    template_fields = ("message",)

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def notify(self, context: Context) -> None:
        print(f"ALERT {self.message}: {context['exception']}")


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
