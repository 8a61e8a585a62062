"""
Turn the response of ``GET /v1/models?include=pricing`` into a :class:`Pricing`.

Two shapes mean the same: the documented one, in which ``measure`` tells input from output, and that of the live
catalogue, in which ``origin`` does. What could change a price and is not understood is refused; what cannot is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.money.pricing import (
    Pricing,
    Rate,
    join_first,
    pricing_error,
    split_words,
    variant_text,
)
from airflow_provider_aimlbilling.money.quantity import shorten

# What ``origin`` says is charged. All of these have the measure "output" in the live catalogue.
_ORIGINS = {
    "provided": ("input",),
    "generated": ("output",),
    "cached": ("cached", "input"),
    "cache_write": ("cache", "write"),
}
# Words that may be left out when a rate is named, because a plain rate has them.
_PLAIN = frozenset({"input", "output"})
# Fields of a rate that describe what it is for. Their values are its words.
_DESCRIPTIVE = ("content", "origin", "measure", "name", "unit")
# Fields that say how a rate is used, and the value that needs no word of its own.
_USUAL = {"type": "charge", "phase": "inference", "author": "user"}
# Fields that cannot change a price, of a rate and of a pricing.
_HARMLESS = frozenset(
    {"id", "title", "label", "description", "display_name", "note", "notes", "updated_at", "created_at"}
)
_KNOWN = {
    "rate": {*_DESCRIPTIVE, *_USUAL, "price", "per", "when", "currency"},
    "pricing": {"kind", "currency", "units", "dimensions", "variants"},
}


def find_pricing(models: list[Any], model: str, model_type: str | None, read_at: datetime) -> Pricing:
    """
    Find one model in the ``data`` of the catalogue's answer, by its id or an alias.

    :param models: the entries, with numbers as ``Decimal``.
    :param model: id or alias.
    :param model_type: the endpoint type, if a model has several.
    :param read_at: when the API confirmed the rates.
    :raises AimlBillingPricingError: if the catalogue does not have it, or has it at several prices.
    :raises AimlBillingContractError: if its pricing does not have the documented shape.
    """
    named = [entry for entry in models if isinstance(entry, Mapping) and _is_called(entry, model)]
    entries = [entry for entry in named if model_type is None or entry.get("type") == model_type]
    types = join_first(sorted(shorten(entry.get("type")) for entry in named))
    if not named:
        raise pricing_error(
            model, "the catalogue has no model with that id or alias. Use the name in the vendor's list of models"
        )
    if not entries:
        raise pricing_error(
            model, f"the catalogue does not have it with the type {shorten(model_type)}; its types: {types}"
        )
    priced = [entry for entry in entries if isinstance(entry.get("pricing"), Mapping)] or entries
    first, *others = [read_pricing(str(entry.get("id")), entry.get("pricing"), read_at) for entry in priced]
    if len(priced) < len(entries) or any(not _same_price(first, other) for other in others):
        raise pricing_error(
            model, f"its price depends on the endpoint type, so name the model_type; its types: {types}"
        )
    return first


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
    _refuse_unknown(model, pricing, "pricing")
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
    """Return whether a model has a name. Like the API, it ignores the case."""
    aliases = entry.get("aliases")
    names = [entry.get("id"), *(aliases if isinstance(aliases, list) else ())]
    return name.strip().lower() in [known.lower() for known in names if isinstance(known, str)]


def _same_price(one: Pricing, other: Pricing) -> bool:
    """Return whether two entries cost the same. The order of rates and dimensions makes no difference."""

    def content(pricing: Pricing) -> object:
        rates = frozenset((frozenset(r.words), r.price, r.per, frozenset(r.when)) for r in pricing.rates)
        return pricing.kind, len(pricing.rates), rates, frozenset(pricing.dimensions)

    return content(one) == content(other)


def _refuse_unknown(model: str, fields: Mapping[str, Any], what: str) -> None:
    """Refuse fields that may change the price in a way that this version does not know, such as tiers or a minimum."""
    unknown = sorted(
        name for name, value in fields.items() if value is not None and name not in _KNOWN[what] | _HARMLESS
    )
    if unknown:
        raise _shape_error(model, f"a {what} with the field {shorten(unknown[0])}")


def _read_rate(model: str, rate: object, dimensions: Sequence[str] | None = None) -> Rate:
    """Read a unit of a fixed price or, with dimensions, a variant."""
    if not isinstance(rate, Mapping):
        raise _shape_error(model, "a rate that is not an object")
    _refuse_unknown(model, rate, "rate")
    if (rate.get("currency") or "USD") != "USD":
        raise pricing_error(model, f"a rate is in {shorten(rate['currency'])}, not in USD")
    words, distinctive = _words(model, rate, "name" if dimensions is None else "unit")
    price, per = (_read_number(model, rate, field) for field in ("price", "per"))
    if per == 0:
        raise _shape_error(model, "a rate per 0 units")
    # The API documents one rate for each combination. Using a rate that leaves a dimension open would be a guess.
    when = {} if rate.get("when") is None else rate["when"]
    if not isinstance(when, Mapping) or set(when) != set(dimensions or ()) or None in when.values():
        raise _shape_error(model, "a rate that does not name a value for each dimension")
    variant = tuple((key, variant_text(value)) for key, value in when.items())
    return Rate(words, price, per, variant, distinctive)


def _words(model: str, rate: Mapping[str, Any], name: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """
    Return the words that say what a rate is for, with the unit last: ("text", "cached", "input", "token"). And those of
    them that must be named: what is unusual about the rate, or how it is charged other than as input or output.
    """
    described = {field: rate[field] for field in (*_DESCRIPTIVE, *_USUAL) if rate.get(field) is not None}
    if not described.get(name) or not all(isinstance(value, str) for value in described.values()):
        raise _shape_error(model, f"a rate without {name}, or with a field that is not text")
    words: list[str] = [word for field, usual in _USUAL.items() if (word := described.get(field, usual)) != usual]
    origin = described.get("origin", "")
    charged: list[str] = [*_ORIGINS.get(origin, split_words(origin))]
    measure = [] if origin in _ORIGINS else split_words(described.get("measure", ""))
    if _PLAIN.isdisjoint(measure):  # such as "second", which says nothing but the unit
        distinctive = frozenset([*words, *charged]) - _PLAIN
    else:  # such as "cached input"
        distinctive = frozenset([*words, *charged, *measure]) - _PLAIN
    words += [*split_words(described.get("content", "")), *charged, *measure]
    words += split_words(described.get("unit" if name == "name" else "name", ""))
    words += split_words(described[name])
    return tuple(dict.fromkeys(words)), distinctive


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
