"""Numbers that describe a job: quantities of units, and percentages. They come from DAG files, templates and XComs."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.exceptions import AimlBillingPricingError

_NUMBER = re.compile(r"\d{1,30}(?:\.\d{1,20})?", re.ASCII)
_MARGIN = re.compile(r"(\d{1,5}(?:\.\d{1,10})?)\s*%", re.ASCII)
# Nobody buys more, and arithmetic with more digits could take forever.
_MAX_QUANTITY = 10**30
_MAX_DECIMALS = 60


def plain_decimal(number: Decimal) -> str:
    """Format a number without an exponent and without trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def shorten(value: object) -> str:
    """Return a value's ``repr`` for an error message, cut to 80 characters."""
    text = repr(str(value) if isinstance(value, Decimal) else value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def whole_number(name: str, value: object, least: int = 0) -> int:
    """
    Read a whole number, or text of one from a template.

    :param name: what it is, for the error.
    :param value: the number.
    :param least: the smallest number that is accepted.
    :raises AimlBillingPricingError: if it is anything else.
    """
    number = parse_quantity(name, value)
    if number != number.to_integral_value() or number < least:
        raise AimlBillingPricingError(f"{shorten(value)} is not a whole number of {name} from {least} up.")
    return int(number)


def parse_quantity(unit: object, value: object) -> Decimal:
    """
    Read a quantity: a number of Python or numpy, or text of one. A ``float`` counts as Python prints it.

    :param unit: of what, for the error.
    :param value: the quantity.
    :raises AimlBillingPricingError: if it is anything else, negative or not finite.
    """
    number = _decimal(value)
    if number is None or not number.is_finite() or not 0 <= number < _MAX_QUANTITY:
        raise AimlBillingPricingError(
            f"{shorten(value)} is not a quantity of {shorten(unit)}: write a number from 0 up, as int, Decimal or text."
        )
    if number.as_tuple().exponent < -_MAX_DECIMALS:  # type: ignore[operator]
        raise AimlBillingPricingError(f"The quantity of {shorten(unit)} has implausibly many digits.")
    return number


def parse_percent(margin: object) -> Decimal:
    """
    Read a percentage, such as ``"20%"``.

    :param margin: the text.
    :raises AimlBillingPricingError: if it is anything else.
    """
    found = _MARGIN.fullmatch(margin.strip()) if isinstance(margin, str) else None
    if not found:
        raise AimlBillingPricingError(f"{shorten(margin)} is not a margin: write it like '20%'.")
    return Decimal(found[1])


def _decimal(value: Any) -> Decimal | None:
    if not isinstance(value, bool | str | int | float | Decimal) and hasattr(value, "item"):  # a number of numpy
        try:
            value = value.item()
        except Exception:  # noqa: BLE001 - an array of several elements, or anything else
            return None
    if isinstance(value, str):
        return Decimal(value.strip()) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return Decimal(repr(float(value))) if isinstance(value, float) else Decimal(value)
