"""The link from a task to the page where the account is topped up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_aimlbilling.compat import BaseOperatorLink

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import BaseOperator, TaskInstanceKey

BILLING_PAGE = "https://aimlapi.com/app/billing"


class BillingPageLink(BaseOperatorLink):
    """A button on the task that opens the vendor's billing page."""

    name = "Billing page"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the page's address. It is the same for all accounts, because the page asks its visitors to log in.

        :param operator: not used.
        :param ti_key: not used.
        """
        return BILLING_PAGE
