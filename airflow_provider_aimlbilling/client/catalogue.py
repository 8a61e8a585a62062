"""
Turn the response of ``GET /v1/models?include=pricing`` into a :class:`Pricing`.

The accepted shapes are those that the vendor documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.money.pricing import Pricing, Rate, join_first, pricing_error, shorten, variant_text

# Every other field of a rate describes what it is for: the live catalogue also has "content" and "origin".
_NOT_DESCRIPTIVE = ("price", "per", "when", "currency")


def find_pricing(models: list[Any], model: str, model_type: str | None, read_at: datetime) -> Pricing:
    """
    Find one model in the ``data`` of the catalogue's answer, by its id or an alias.

    :param models: the entries, with numbers as ``Decimal``.
    :param model: id or alias.
    :param model_type: the endpoint type, if a model has several.
    :param read_at: when the API confirmed the rates.
    :raises AimlBillingPricingError: if the catalogue does not have it, or has it several times.
    :raises AimlBillingContractError: if its pricing does not have the documented shape.
    """
    named = [entry for entry in models if isinstance(entry, Mapping) and _is_called(entry, model)]
    entries = [entry for entry in named if model_type is None or entry.get("type") == model_type]
    types = join_first(sorted(shorten(entry.get("type")) for entry in named))
    if not named:
        raise pricing_error(
            model, "the catalogue has no model with that id or alias. Use the name in the vendor's list of models"
        )
    if len(entries) != 1:
        raise pricing_error(model, f"the catalogue has {len(entries)} models of that name and type; its types: {types}")
    return read_pricing(str(entries[0].get("id")), entries[0].get("pricing"), read_at)


def read_pricing(model: str, pricing: object, read_at: datetime) -> Pricing:
    """
    Read the ``pricing`` of one model.

    :param model: id of the model.
    :param pricing: the object, with numbers as ``Decimal``.
    :param read_at: when the API confirmed the rates.
    :raises AimlBillingPricingError: if there is no pricing, or its kind is unknown.
    :raises AimlBillingContractError: if it does not have the documented shape.
    """
    if not isinstance(pricing, Mapping):
        raise pricing_error(model, "the catalogue has no pricing for it")
    kind = pricing.get("kind")
    if kind == "variable":
        return Pricing(model, "variable", (), (), read_at)
    if kind not in ("fixed", "variants"):
        raise pricing_error(model, f"its kind of pricing is {shorten(kind)}, which this version does not know")
    if (currency := pricing.get("currency", "USD")) != "USD":
        raise pricing_error(model, f"its prices are in {shorten(currency)}, not in USD")
    if kind == "fixed":
        rates = tuple(_read_rate(model, unit) for unit in _non_empty_list(model, pricing, "units"))
        return Pricing(model, kind, rates, (), read_at)
    dimensions = tuple(_non_empty_list(model, pricing, "dimensions"))
    if not all(isinstance(name, str) for name in dimensions):
        raise _shape_error(model, "a dimension that is not text")
    rates = tuple(_read_rate(model, variant, dimensions) for variant in _non_empty_list(model, pricing, "variants"))
    return Pricing(model, kind, rates, dimensions, read_at)


def _is_called(entry: Mapping[str, Any], name: str) -> bool:
    aliases = entry.get("aliases")
    return name == entry.get("id") or (isinstance(aliases, list) and name in aliases)


def _read_rate(model: str, rate: object, dimensions: Sequence[str] | None = None) -> Rate:
    """Read a unit of a fixed price or, with dimensions, a variant."""
    if not isinstance(rate, Mapping):
        raise _shape_error(model, "a rate that is not an object")
    name = "name" if dimensions is None else "unit"
    if rate.get("currency", "USD") != "USD":
        raise pricing_error(model, f"a rate is in {shorten(rate['currency'])}, not in USD")
    words = {key: value for key, value in rate.items() if key not in _NOT_DESCRIPTIVE and value is not None}
    if not words.get(name) or not all(isinstance(word, str) for word in words.values()):
        raise _shape_error(model, f"a rate without {name}, or with a field that is not text")
    words[name] = words.pop(name)  # put the unit last: "output token"
    price, per = (_read_number(model, rate, field) for field in ("price", "per"))
    if per == 0:
        raise _shape_error(model, "a rate per 0 units")
    # The API documents one rate for each combination. Using a rate that leaves a dimension open would be a guess.
    when = {} if rate.get("when") is None else rate["when"]
    if not isinstance(when, Mapping) or set(when) != set(dimensions or ()) or None in when.values():
        raise _shape_error(model, "a rate that does not name a value for each dimension")
    split = dict.fromkeys(part for value in words.values() for part in value.split())
    return Rate(tuple(split), price, per, tuple((key, variant_text(value)) for key, value in when.items()))


def _read_number(model: str, rate: Mapping[str, Any], field: str) -> Decimal:
    number = rate.get(field)
    if not isinstance(number, Decimal) or not number.is_finite() or not 0 <= number < 10**30:
        raise _shape_error(model, f"a rate whose {field} is {shorten(number)}")
    if number.as_tuple().exponent < -30:  # type: ignore[operator]
        raise _shape_error(model, f"a rate whose {field} has implausibly many digits")
    return number


def _non_empty_list(model: str, pricing: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(found := pricing.get(name), list) or not found:
        raise _shape_error(model, f"no {name}")
    return found


def _shape_error(model: str, what: str) -> AimlBillingContractError:
    return AimlBillingContractError(
        f"The pricing of the model {shorten(model)} has {what}, which the API does not document. Set the threshold by "
        "hand, or look for a newer version of this provider."
    )
