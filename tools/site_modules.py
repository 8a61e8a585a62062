"""The modules whose docstrings the documentation site shows, by page."""

PACKAGE = "airflow_provider_aimlbilling"

API = {
    "Sensor": ["sensors.balance"],
    "Operators": [
        "operators.balance",
        "operators.pricing",
        "operators.run_cost",
        "operators.cost_report",
        "operators.runway",
        "operators.usage",
    ],
    "Guard": ["guard"],
    "Trigger": ["triggers.balance_event"],
    "Request headers": ["request_headers", "money.request_id"],
    "Retry policy": ["retry_policy"],
    "Hook": ["hooks.aimlbilling"],
    "Client": ["client.client", "client.settings"],
    "Values": [
        "money.amount",
        "money.balance",
        "money.gate",
        "money.budget",
        "money.pricing",
        "money.usage",
        "money.run_cost",
        "money.cost_report",
        "money.runway",
    ],
    "Errors": ["exceptions"],
    "Sandbox": ["sandbox.server", "sandbox.faults"],
}
