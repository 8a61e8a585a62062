"""What monitoring sees, through Airflow's own ``Stats``: nothing where an Airflow has no metrics set up."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Stats

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.balance import Number

_log = logging.getLogger(__name__)


def gauge_balance(conn_id: str, credits: Number) -> None:
    """Set ``aimlbilling.balance_credits.<conn_id>``, in credits; below zero where the account is overdrawn."""
    # A gauge is a number for a diagram. It is no sum that anything is reckoned from.
    _stat("gauge", f"balance_credits.{_name(conn_id)}", credits if isinstance(credits, int) else float(credits))


def count_decision(conn_id: str, *, clears: bool) -> None:
    """Count ``aimlbilling.gate.opened.<conn_id>`` or ``aimlbilling.gate.held.<conn_id>``: once for each gate's end."""
    _stat("incr", f"gate.{'opened' if clears else 'held'}.{_name(conn_id)}", 1)


def _name(conn_id: str) -> str:
    """Connection ids may hold what names of metrics may not."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", conn_id)


def _stat(kind: str, name: str, value: float) -> None:
    try:
        getattr(Stats, kind)(f"aimlbilling.{name}", value)
    except Exception as fault:  # noqa: BLE001 - no gate fails for want of a metric
        _log.debug("The metric %s was not sent (%s).", name, type(fault).__name__)
