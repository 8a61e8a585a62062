"""The link from a task to the page where the account is topped up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

BILLING_PAGE = "https://aimlapi.com/app/billing"


class BillingPageLink(BaseOperatorLink):
    """A button on the task: the vendor's billing page."""

    name = "Billing page"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Give the page, which is the same for all accounts: whoever follows the link has to log in."""
        return BILLING_PAGE
