"""What a waiting gate asks for: from the arguments of its trigger, or from the rendered template fields of its task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.models.crypto import get_fernet

from airflow_provider_aimlbilling.client.text import clean_text
from airflow_provider_aimlbilling.exceptions import AimlBillingError
from airflow_provider_aimlbilling.money.budget import Budget
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.waiting.deferral import deferral_timeout

UNKNOWN = "not known"
LOW_MARK = "the account's own low-balance threshold"
_MAX_ID = 250  # characters of a connection id


@dataclass(frozen=True)
class GateFacts:
    """
    What is known about a waiting gate.

    :param connection_id: its connection; ``None`` if that is not known.
    :param asks: its threshold in words.
    :param gate: its rule; ``None`` if its threshold is not known.
    :param respects_key_limit: whether the key's limit counts; ``None`` if that is not known.
    :param budget_text: its budget in words; ``None`` if it has none.
    :param budget: its budget; ``None`` if it has none, or if it cannot be read.
    :param poke_interval: seconds between two polls; ``None`` if it is not known.
    :param last_seen: the last reading before the task deferred, in words.
    """

    connection_id: str | None = None
    asks: str = UNKNOWN
    gate: Gate | None = None
    respects_key_limit: bool | None = None
    budget_text: str | None = None
    budget: Budget | None = None
    poke_interval: float | None = None
    last_seen: str = ""


def facts_of_trigger(encrypted: object) -> GateFacts:
    """
    Return what a trigger's arguments say.

    :param encrypted: the arguments as Airflow stores them.
    """
    arguments = _decrypt(encrypted)
    if arguments is None:
        return GateFacts()
    poke_interval, last_seen = arguments.get("poke_interval"), arguments.get("last_seen")
    is_number = isinstance(poke_interval, int | float) and not isinstance(poke_interval, bool)
    return _facts(
        arguments,
        respects_key_limit=bool(arguments.get("respect_key_limit")),
        poke_interval=poke_interval if is_number else None,
        last_seen=clean_text(last_seen) if isinstance(last_seen, str) else "",
    )


def facts_of_fields(fields: object) -> GateFacts:
    """
    Return what a task's rendered template fields say.

    :param fields: the fields by name, as Airflow stores them.
    """
    return _facts(fields) if isinstance(fields, Mapping) and "threshold" in fields else GateFacts()


def deadline(timeout_at: datetime | None, facts: GateFacts) -> datetime | None:
    """
    Return when a deferred gate stops waiting, as its trigger derives it; ``None`` if that is not known.

    :param timeout_at: when Airflow's own deferral timeout steps in.
    :param facts: of the gate.
    """
    if timeout_at is None or facts.poke_interval is None:
        return None
    try:
        return timeout_at - deferral_timeout(0, facts.poke_interval)
    except (OverflowError, ValueError):
        return None


def _decrypt(encrypted: object) -> Mapping[str, Any] | None:
    try:
        text = str(encrypted)
        if not text.startswith("{"):  # Airflow stores plain JSON in some migrations
            text = get_fernet().decrypt(text.encode()).decode()
        arguments = json.loads(text)
    except Exception:  # noqa: BLE001 - one trigger of another key must not hide the other gates
        return None
    # Ours are texts, numbers and flags, which both of Airflow's formats store as they are. So nothing is deserialized
    # here: a DAG's author decides what is in there.
    if isinstance(arguments, Mapping) and isinstance(arguments.get("__var"), Mapping):  # Airflow 3.1
        arguments = arguments["__var"]
    return arguments if isinstance(arguments, Mapping) else None


def _facts(values: Mapping[str, Any], **known: Any) -> GateFacts:
    connection_id, threshold, budget = (values.get(name) for name in ("aimlbilling_conn_id", "threshold", "budget"))
    if (
        not isinstance(connection_id, str)
        or len(connection_id) > _MAX_ID
        or "{{" in connection_id
        or not connection_id.isprintable()
    ):
        connection_id = None
    gate = None
    asks = clean_text(threshold, 100) if isinstance(threshold, str) else UNKNOWN
    try:
        gate = Gate.for_threshold(threshold, optional=True)
        asks = gate.threshold.usd_text if gate.threshold else LOW_MARK
    except AimlBillingError:  # such as a template that only the triggerer renders
        pass
    parsed = None
    try:
        parsed = None if budget is None else Budget.parse(budget)
    except AimlBillingError:
        pass
    return GateFacts(
        connection_id=connection_id,
        asks=asks or UNKNOWN,
        gate=gate,
        budget_text=None if budget is None else clean_text(str(parsed or budget), 100) or UNKNOWN,
        budget=parsed,
        **known,
    )
