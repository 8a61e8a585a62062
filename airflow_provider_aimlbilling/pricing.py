"""
What a job will cost, by the catalogue's own rates. Pure: no Airflow, no network, no clock.

An estimate is exact, or it is refused with what is known: it is never zero for want of a rate, and never a guess. The
shapes are those that the vendor documents for ``GET /v1/models?include=pricing``. Prices are in USD, and mean nothing
without ``per``, the number of units that they are for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from airflow_provider_aimlbilling.balance import CREDITS_PER_USD, EXACT, Amount
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingPricingError,
    AimlBillingThresholdError,
)

_NUMBER = re.compile(r"\d{1,30}(?:\.\d{1,20})?", re.ASCII)
_MARGIN = re.compile(r"(\d{1,5}(?:\.\d{1,10})?)\s*%", re.ASCII)


@dataclass(frozen=True)
class Rate:
    """
    One rate of the catalogue.

    :param words: what it is for, in the catalogue's own words, such as ``("output", "token")`` or ``("second",)``.
    :param price: USD for ``per`` units.
    :param per: number of units that ``price`` is for.
    :param when: the variant that it holds for, empty where there are none.
    """

    words: tuple[str, ...]
    price: Decimal
    per: Decimal
    when: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """The words in a row, as they are written in a description of the work."""
        return " ".join(self.words)

    def __str__(self) -> str:
        when = f" when {dict(self.when)}" if self.when else ""
        return f"{self.label!r} at {_plain(self.price)} USD for {_plain(self.per)}{when}"


@dataclass(frozen=True)
class Estimate:
    """
    What a job will cost.

    :param model: id of the model in the catalogue.
    :param amount: the whole cost, margin included.
    :param margin: what was added, in per cent.
    :param lines: each rate that was used, with the number of units.
    :param read_at: when the API last said that the rates are so.
    """

    model: str
    amount: Amount
    margin: Decimal
    lines: tuple[tuple[Rate, Decimal], ...]
    read_at: datetime

    @property
    def threshold(self) -> str:
        """The amount as text that every ``threshold`` takes."""
        return self.amount.text

    def to_dict(self) -> dict[str, Any]:
        """Give a plain JSON dictionary. Numbers are decimal text, since a JSON number may lose a part of them."""
        return {
            "model": self.model,
            "amount_credits": _plain(Decimal(self.amount.credits)),
            "amount_usd": _plain(self.amount.usd),
            "margin_percent": _plain(self.margin),
            "rates": [
                {
                    "unit": rate.label,
                    "quantity": _plain(quantity),
                    "price_usd": _plain(rate.price),
                    "per": _plain(rate.per),
                    "when": dict(rate.when),
                }
                for rate, quantity in self.lines
            ],
            "read_at": self.read_at.isoformat(timespec="seconds"),
        }


@dataclass(frozen=True)
class Pricing:
    """
    What the catalogue says of one model.

    :param model: id of the model.
    :param kind: ``fixed``, ``variants`` or ``variable``.
    :param rates: all of them; none where ``kind`` is ``variable``.
    :param dimensions: the parameters that a variant is told by.
    :param read_at: when the API last said so.
    """

    model: str
    kind: str
    rates: tuple[Rate, ...]
    dimensions: tuple[str, ...]
    read_at: datetime

    @classmethod
    def from_models(cls, found: list[Any], model: str, model_type: str | None, read_at: datetime) -> Pricing:
        """
        Find one model in the ``data`` of the catalogue's answer, by its id or an alias.

        :raises AimlBillingPricingError: if it is not there, or there several times.
        """
        named = [entry for entry in found if isinstance(entry, Mapping) and _is_called(entry, model)]
        entries = [entry for entry in named if model_type is None or entry.get("type") == model_type]
        types = ", ".join(sorted(str(entry.get("type")) for entry in named))
        if not named:
            raise _unpriced(
                model, "the catalogue knows no model of that id or alias. Write it as the vendor's list of models does"
            )
        if len(entries) != 1:
            raise _unpriced(model, f"the catalogue has {len(entries)} of that name and type; its types: {types}")
        return cls.from_catalogue(str(entries[0].get("id")), entries[0].get("pricing"), read_at)

    @classmethod
    def from_catalogue(cls, model: str, pricing: object, read_at: datetime) -> Pricing:
        """
        Read the ``pricing`` of one model, its numbers as ``Decimal``.

        :raises AimlBillingPricingError: if there is none, or of a kind that is not known.
        :raises AimlBillingContractError: if it is not of the documented shape.
        """
        if not isinstance(pricing, Mapping):
            raise _unpriced(model, "the catalogue gives no pricing for it")
        kind = pricing.get("kind")
        if kind == "variable":
            return cls(model, "variable", (), (), read_at)
        if kind not in ("fixed", "variants"):
            raise _unpriced(model, f"its kind of pricing is {_shown(kind)}, which this version does not know")
        if (currency := pricing.get("currency", "USD")) != "USD":
            raise _unpriced(model, f"its prices are in {_shown(currency)} and not in USD")
        if kind == "fixed":
            return cls(model, kind, tuple(_rate(model, unit) for unit in _list(model, pricing, "units")), (), read_at)
        dimensions = tuple(_list(model, pricing, "dimensions"))
        if not all(isinstance(name, str) for name in dimensions):
            raise _odd(model, "a dimension that is no text")
        rates = tuple(_rate(model, variant, dimensions) for variant in _list(model, pricing, "variants"))
        return cls(model, kind, rates, dimensions, read_at)

    def estimate(
        self, work: Mapping[str, object], variant: Mapping[str, object] | None = None, margin: str = "0%"
    ) -> Estimate:
        """
        Price a job.

        :param work: how much of each unit the whole job takes, under the catalogue's own words:
            ``{"input token": 2_000_000, "output token": 500_000}``, ``{"second": 8}``. A part of the words is enough
            where it fits one rate alone. Each rate must be named, with 0 for what the job does not use. Quantities
            are ``int``, ``Decimal`` or text.
        :param variant: the parameters that the rate depends on, such as ``{"resolution": "1080p"}``.
        :param margin: what to add, such as ``"20%"``.
        :raises AimlBillingPricingError: if the job cannot be priced exactly; the message lists what is known.
        """
        if not isinstance(work, Mapping) or not work:
            raise self._refused("the work is no dictionary of units and quantities, or an empty one")
        quantities = self._quantities(work, self._chosen(variant or {}))
        if not any(quantities.values()):
            raise self._refused("the work is nothing but zeros")
        percent = _percent(margin)
        total = sum(Fraction(rate.price) * Fraction(count) / Fraction(rate.per) for rate, count in quantities.items())
        total *= (100 + Fraction(percent)) / 100
        return Estimate(self.model, self._amount(total), percent, tuple(quantities.items()), self.read_at)

    def _chosen(self, variant: Mapping[str, object]) -> tuple[Rate, ...]:
        """Give the rates of one variant."""
        if self.kind == "variable":
            raise self._refused("its price is variable, named with the answer alone. Set the threshold by hand")
        if not isinstance(variant, Mapping):
            raise self._refused("the variant is no dictionary")
        if unknown := sorted(str(name) for name in variant if name not in self.dimensions):
            raise self._refused(f"its price does not depend on {unknown[0]!r}")
        if missing := [name for name in self.dimensions if name not in variant]:
            raise self._refused(f"its price depends on {missing[0]!r}, which the variant must name")
        if empty := [name for name, value in variant.items() if value is None]:
            raise self._refused(f"the variant's {empty[0]!r} is None: what should give it gave nothing")
        given = {name: _text(value) for name, value in variant.items()}
        chosen = tuple(rate for rate in self.rates if all(given[name] == value for name, value in rate.when))
        if not chosen:
            raise self._refused(f"there is no rate for {given}")
        return chosen

    def _quantities(self, work: Mapping[str, object], rates: Sequence[Rate]) -> dict[Rate, Decimal]:
        """Match each part of the work with its one rate."""
        if len({frozenset(rate.words) for rate in rates}) < len(rates):
            raise self._refused("the catalogue has two rates for the same thing")
        quantities: dict[Rate, Decimal] = {}
        for unit, quantity in work.items():
            words = set(str(unit).split())
            fitting = [rate for rate in rates if words and words <= set(rate.words)]
            fitting = [rate for rate in fitting if words == set(rate.words)] or fitting
            if len(fitting) != 1:
                raise self._refused(f"{unit!r} names {'more than one' if fitting else 'none'} of its units", rates)
            if fitting[0] in quantities:
                raise self._refused(f"two parts of the work name the unit {fitting[0].label!r}", rates)
            quantities[fitting[0]] = _quantity(unit, quantity)
        if left_out := [rate.label for rate in rates if rate not in quantities]:
            raise self._refused(f"the work does not say how much {left_out[0]!r} it takes; write 0 for none", rates)
        return quantities

    def _amount(self, usd: Fraction) -> Amount:
        credits = usd * CREDITS_PER_USD
        try:
            amount = Amount(EXACT.divide(Decimal(credits.numerator), Decimal(credits.denominator)))
            return Amount.parse(amount.text)  # so that every threshold can take it
        except (ArithmeticError, AimlBillingThresholdError):
            raise self._refused("the sum has no exact decimal value, or is beyond all sense") from None

    def _refused(self, why: str, rates: Sequence[Rate] | None = None) -> AimlBillingPricingError:
        known = self.rates if rates is None else rates
        listed = "; ".join(str(rate) for rate in known)
        return _unpriced(self.model, f"{why}. Known: {listed}" if listed else why)


def _is_called(entry: Mapping[str, Any], name: str) -> bool:
    aliases = entry.get("aliases")
    return name == entry.get("id") or (isinstance(aliases, list) and name in aliases)


def _unpriced(model: str, why: str) -> AimlBillingPricingError:
    return AimlBillingPricingError(f"The job cannot be priced: of the model {_shown(model)}, {why}.")


def _odd(model: str, what: str) -> AimlBillingContractError:
    return AimlBillingContractError(
        f"The pricing of the model {_shown(model)} has {what}, which the API does not document. Set the threshold by "
        "hand, or look for a newer version of this provider."
    )


def _rate(model: str, unit: object, dimensions: Sequence[str] | None = None) -> Rate:
    """Read a unit of a fixed price, or with dimensions a variant."""
    if not isinstance(unit, Mapping):
        raise _odd(model, "a rate that is no object")
    name = "name" if dimensions is None else "unit"
    if unit.get("currency", "USD") != "USD":
        raise _unpriced(model, f"a rate is in {_shown(unit['currency'])} and not in USD")
    figures = ("price", "per", "when", "currency")
    words = {key: value for key, value in unit.items() if key not in figures and value is not None}
    # Whatever else a rate says of itself tells it from others: the catalogue also writes of content and origin.
    if not words.get(name) or not all(isinstance(word, str) for word in words.values()):
        raise _odd(model, f"a rate without {name}, or with a field that is no text")
    words[name] = words.pop(name)  # last: "output token"
    price, per = (_positive(model, unit, field) for field in ("price", "per"))
    if per == 0:
        raise _odd(model, "a rate per nothing")
    # As documented there is one rate for each combination. What leaves one open would have to be guessed.
    when = {} if unit.get("when") is None else unit["when"]
    if not isinstance(when, Mapping) or set(when) != set(dimensions or ()) or None in when.values():
        raise _odd(model, "a rate that does not say for which of the dimensions it is")
    split = dict.fromkeys(part for value in words.values() for part in value.split())
    return Rate(tuple(split), price, per, tuple((key, _text(value)) for key, value in when.items()))


def _positive(model: str, unit: Mapping[str, Any], field: str) -> Decimal:
    number = unit.get(field)
    if not isinstance(number, Decimal) or not number.is_finite() or not 0 <= number < 10**30:
        raise _odd(model, f"a rate whose {field} is {_shown(number)}")
    if number.as_tuple().exponent < -30:  # type: ignore[operator]
        raise _odd(model, f"a rate whose {field} has more digits than any money")
    return number


def _list(model: str, pricing: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(found := pricing.get(name), list) or not found:
        raise _odd(model, f"no {name}")
    return found


def _quantity(unit: object, value: object) -> Decimal:
    number = None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        number = Decimal(value.strip())
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = Decimal(value)
    elif isinstance(value, float) and value.is_integer():
        number = Decimal(int(value))
    if number is None or not number.is_finite() or not 0 <= number < 10**30:
        raise AimlBillingPricingError(
            f"{_shown(value)} is no quantity of {_shown(unit)}: write a number from 0 on, as int, Decimal or text."
        )
    return number


def _percent(margin: object) -> Decimal:
    found = _MARGIN.fullmatch(margin.strip()) if isinstance(margin, str) else None
    if not found:
        raise AimlBillingPricingError(f"{_shown(margin)} is no margin: write it like '20%'.")
    return Decimal(found[1])


def _text(value: object) -> str:
    """A variant's value as text, so that 5 and "5" are the same, wherever they come from."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = Decimal(int(value))
    if isinstance(value, Decimal) and value.is_finite():
        return _plain(value)
    return str(value)


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _shown(value: object) -> str:
    text = repr(str(value) if isinstance(value, Decimal) else value)
    return text if len(text) <= 80 else f"{text[:80]}…"
