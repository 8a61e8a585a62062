"""Check the thresholds and durations that a DAG file spells out, so that a mistake appears when the DAG is parsed."""

from __future__ import annotations

import re
from numbers import Number
from typing import Any

from airflow_provider_aimlbilling.compat import is_created_from_mapped

# The usual forms. Only other values load the parser: Airflow parses DAG files again and again.
_USUAL = re.compile(r"\d{1,12}|\d{1,9}(?:\.\d{1,6})? USD|\$\d{1,9}(?:\.\d{1,6})?|\d{1,12} credits", re.ASCII)
# A DAG may have template delimiters of its own, so any of these characters may begin a template.
_TEMPLATE_CHARACTERS = re.compile(r"[{\[<%#]")


def check_threshold(threshold: object, operator: Any = None) -> None:
    """
    Refuse a threshold that can be known to be wrong before the task runs.

    Templates, XComs and other objects are checked when the task runs.

    :param threshold: as in the DAG file.
    :param operator: the operator it is for. If Airflow creates it for an index of a mapped task, the threshold may come
        from an XCom, and nothing is checked.
    :raises AimlBillingThresholdError: if it is a number or a text, and not an amount of money.
    """
    if is_created_from_mapped(operator):
        return
    if type(threshold) is int and 0 <= threshold < 10**12:
        return
    if isinstance(threshold, str):
        if _USUAL.fullmatch(threshold) or _TEMPLATE_CHARACTERS.search(threshold):
            return
    elif not isinstance(threshold, Number):
        return
    from airflow_provider_aimlbilling.money.amount import Amount

    Amount.parse(threshold)


def check_seconds(name: str, seconds: object) -> None:
    """
    Refuse a duration that is none.

    :param name: what it is, for the message.
    :param seconds: as in the DAG file.
    :raises ValueError: if it is not a finite number of seconds, zero or more.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} is a number of seconds, zero or more, not {seconds!r:.80}.")
