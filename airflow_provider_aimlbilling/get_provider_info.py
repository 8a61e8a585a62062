"""What Airflow's provider manager reads. The one place that declares the connection form."""

from __future__ import annotations

from typing import Any

from airflow_provider_aimlbilling import __version__

PACKAGE = "airflow-provider-aimlbilling"
CONNECTION_TYPE = "aimlbilling"
DEFAULT_CONN_ID = "aimlbilling_default"
INTEGRATION = "AI/ML API billing"


def connection_form() -> dict[str, Any]:
    """Give the connection's fields and labels, in the keys that Airflow 3.2 and later read."""
    return {
        "ui-field-behaviour": {
            "hidden-fields": ["login", "schema", "port", "extra"],
            "relabeling": {"password": "API Key", "host": "Base URL"},
            "placeholders": {
                "password": "the key of your AI/ML API account",
                "host": "empty for the vendor's; https://…",
                "timeout": "10",
                "api_version": "v1",
            },
        },
        "conn-fields": {
            "timeout": {
                "label": "Timeout",
                "description": "Seconds to wait for a connection, and again for the answer. Empty means 10.",
                "schema": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 3600},
            },
            "api_version": {
                "label": "API version",
                "description": "v1 asks /v1/billing/balance (credits); v2 asks its successor /v2/billing (USD). "
                "Empty means v1.",
                "schema": {"type": ["string", "null"], "enum": ["v1", "v2"]},
            },
        },
    }


def get_provider_info() -> dict[str, Any]:
    """Describe this provider to Airflow."""
    package = "airflow_provider_aimlbilling"

    def modules(*names: str) -> list[dict[str, Any]]:
        return [{"integration-name": INTEGRATION, "python-modules": [f"{package}.{name}" for name in names]}]

    return {
        "package-name": PACKAGE,
        "name": INTEGRATION,
        "description": "Gate tasks on the balance of a prepaid AI/ML API account.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://docs.aimlapi.com",
                "tags": ["service"],
            }
        ],
        "hooks": modules("hooks.aimlbilling"),
        "operators": modules("operators.balance", "operators.pricing", "operators.usage"),
        "sensors": modules("sensors.balance"),
        "triggers": modules("triggers.balance", "triggers.crossing"),
        "extra-links": [f"{package}.links.BillingPageLink"],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": f"{package}.hooks.aimlbilling.AimlBillingHook",
                "hook-name": INTEGRATION,
                **connection_form(),
            }
        ],
    }
