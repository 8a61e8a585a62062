"""Metrics, sent through Airflow's own ``Stats``. Nothing is sent if Airflow has no metrics configured."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from airflow_provider_aimlbilling.compat import Stats

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.money.amount import Number

_log = logging.getLogger(__name__)


def gauge_balance(conn_id: str, credits: Number) -> None:
    """
    Set the gauge ``aimlbilling.balance_credits.<conn_id>``.

    :param conn_id: id of the Airflow connection.
    :param credits: the balance in credits; negative if the account is overdrawn.
    """
    # A float is good enough for a chart. No amount is ever calculated from it.
    _send("gauge", f"balance_credits.{_metric_name(conn_id)}", credits if isinstance(credits, int) else float(credits))


def count_decision(conn_id: str, *, clears: bool) -> None:
    """
    Count ``aimlbilling.gate.opened.<conn_id>`` or ``aimlbilling.gate.held.<conn_id>``, once when a gate ends.

    :param conn_id: id of the Airflow connection.
    :param clears: whether the gate opened.
    """
    _send("incr", f"gate.{'opened' if clears else 'held'}.{_metric_name(conn_id)}", 1)


def gauge_run_cost(conn_id: str, dag_id: str, credits: Number) -> None:
    """
    Set the gauge ``aimlbilling.run_cost_credits.<conn_id>.<dag_id>``.

    :param conn_id: id of the Airflow connection.
    :param dag_id: the DAG whose run it was.
    :param credits: what the run cost, in credits.
    """
    _send("gauge", f"run_cost_credits.{_metric_name(conn_id)}.{_metric_name(dag_id)}", float(credits))


def _metric_name(id: str) -> str:
    """Replace the characters of an id that metric names cannot contain."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", id)


def _send(kind: str, name: str, value: float) -> None:
    try:
        getattr(Stats, kind)(f"aimlbilling.{name}", value)
    except Exception as fault:  # noqa: BLE001 - a metric must not fail a gate
        _log.debug("The metric %s was not sent (%s).", name, type(fault).__name__)
