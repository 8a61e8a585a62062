"""What Airflow's provider manager reads. This is the only place that declares the connection form."""

from __future__ import annotations

from typing import Any

from airflow_provider_aimlbilling import __version__

PACKAGE = "airflow-provider-aimlbilling"
CONNECTION_TYPE = "aimlbilling"
DEFAULT_CONN_ID = "aimlbilling_default"
MIN_POKE_INTERVAL = 0.1  # seconds; of the sensor and the watcher
MAX_TOPUP_GRACE = 1e9  # seconds, about thirty years: the calendar has an end
INTEGRATION = "AI/ML API billing"


def connection_form() -> dict[str, Any]:
    """Return the connection's fields and labels, under the keys that Airflow 3.2 and later read."""
    return {
        "ui-field-behaviour": {
            "hidden-fields": ["login", "schema", "port", "extra"],
            "relabeling": {"password": "API Key", "host": "Base URL"},
            "placeholders": {
                "password": "your AI/ML API key",
                "host": "https://… (empty: the vendor's API)",
                "timeout": "10",
                "api_version": "v1",
            },
        },
        "conn-fields": {
            "timeout": {
                "label": "Timeout",
                "description": "Seconds that one request may take in total. Default: 10.",
                "schema": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 3600},
            },
            "api_version": {
                "label": "API version",
                "description": "v1 reads /v1/billing/balance (in credits). v2 reads its successor, /v2/billing "
                "(in USD). Default: v1.",
                "schema": {"type": ["string", "null"], "enum": ["v1", "v2"]},
            },
        },
    }


def get_provider_info() -> dict[str, Any]:
    """Return the description of this provider for Airflow."""
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
        "operators": modules(
            *("operators.balance", "operators.pricing", "operators.runway", "operators.usage"),
            *("operators.run_cost", "operators.cost_report"),
        ),
        "sensors": modules("sensors.balance"),
        "triggers": modules("triggers.balance", "triggers.balance_event", "triggers.run_cost"),
        "config": {
            "aimlbilling": {
                "description": "Settings of the provider airflow-provider-aimlbilling.",
                "options": {
                    "billing_page": {
                        "description": "Whether the UI of Airflow 3.1 and later has the page Browse > AI/ML API "
                        "billing. The API servers read this when they start.\n",
                        "version_added": "0.3.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    }
                },
            }
        },
        "extra-links": [f"{package}.links.billing.BillingPageLink"],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": f"{package}.hooks.aimlbilling.AimlBillingHook",
                "hook-name": INTEGRATION,
                **connection_form(),
            }
        ],
    }
