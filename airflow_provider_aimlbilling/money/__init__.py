"""Amounts, balances, prices and the rules on them. Pure: no Airflow, no network, no clock."""
