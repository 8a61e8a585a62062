"""
A client for the billing side of the AI/ML API that needs no Airflow: for hooks, pages, scripts and notebooks.

::

    client = AimlBillingClient(Settings(key="…"))
    print(client.get_balance().amount)
"""

from airflow_provider_aimlbilling.client.client import AimlBillingClient
from airflow_provider_aimlbilling.client.settings import Settings

__all__ = ["AimlBillingClient", "Settings"]
