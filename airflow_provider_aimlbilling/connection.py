"""Look up the connection of a hook, and test it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_aimlbilling.client.settings import (
    EXTRA_FIELDS,
    Settings,
    connection_error,
    missing_connection_error,
    parse_extra,
    shown_value,
)
from airflow_provider_aimlbilling.compat import AirflowNotFoundException
from airflow_provider_aimlbilling.exceptions import AimlBillingError

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook


def read_settings(hook: AimlBillingHook) -> Settings:
    """
    Look up the connection.

    :param hook: the hook.
    :raises AimlBillingConnectionError: the connection is missing or invalid.
    """
    try:
        connection = hook.get_connection(hook.aimlbilling_conn_id)
    except AirflowNotFoundException:
        raise missing_connection_error(hook.aimlbilling_conn_id) from None
    except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything, with any text
        raise missing_connection_error(hook.aimlbilling_conn_id, type(error).__name__) from None
    return Settings.from_connection(connection)


def test_connection(hook: AimlBillingHook) -> tuple[bool, str]:
    """
    Read the balance, and return whether that worked, with the outcome in words. The hook is closed.

    :param hook: the hook.
    """
    conn_id = hook.aimlbilling_conn_id
    try:
        connection = hook.get_connection(conn_id)
        if unknown := sorted(set(parse_extra(connection)) - set(EXTRA_FIELDS)):
            names = ", ".join(shown_value(name) for name in unknown[:5])
            raise connection_error(
                conn_id,
                f"its extra has {names}, but only {' and '.join(EXTRA_FIELDS)} are known: remove it, or correct its "
                "spelling",
            )
        return True, f"The key works. The account holds {hook.get_balance().amount}."
    except AirflowNotFoundException:
        return False, str(missing_connection_error(conn_id))
    except AimlBillingError as error:
        return False, str(error)
    except Exception as error:  # noqa: BLE001
        # Airflow shows this message unmasked, so it must not contain any text but ours.
        return False, f"The test failed unexpectedly with {type(error).__name__}: look for a newer version."
    finally:
        hook.close()
