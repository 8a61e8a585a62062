"""Airflow provider for the billing side of the AI/ML API: look at the account's balance before a job spends it."""

# Airflow loads this module in every process, so it imports nothing.
__version__ = "0.3.0"
