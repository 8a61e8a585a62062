"""
What a job will cost at the catalogue's rates.

An estimate is exact. If that is impossible, the error lists the known rates: nothing is guessed, and a missing rate
never counts as zero. A price is in USD and applies to ``per`` units; always read the two together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from airflow_provider_aimlbilling.exceptions import AimlBillingPricingError, AimlBillingThresholdError
from airflow_provider_aimlbilling.money.amount import CREDITS_PER_USD, EXACT, Amount, format_usd
from airflow_provider_aimlbilling.money.quantity import parse_percent, parse_quantity, plain_decimal, shorten

# Other words for the same, as the catalogue itself and other APIs use them.
_SYNONYMS = {"provided": "input", "prompt": "input", "generated": "output", "completion": "output"}


@dataclass(frozen=True)
class Rate:
    """
    One rate of the catalogue.

    :param words: what it is for, in the catalogue's own words, such as ``("output", "token")`` or ``("second",)``.
    :param price: USD for ``per`` units.
    :param per: number of units that ``price`` is for.
    :param when: the variant that it applies to; empty if the price has no variants.
    :param distinctive: the words without which the rate must not be meant, such as ``cached``.
    """

    words: tuple[str, ...]
    price: Decimal
    per: Decimal
    when: tuple[tuple[str, str], ...] = ()
    distinctive: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """The words as one text. This is how ``work`` names the rate."""
        return " ".join(self.words)

    def __str__(self) -> str:
        when = f" when {dict(self.when)}" if self.when else ""
        return f"{self.label!r} at {plain_decimal(self.price)} USD for {plain_decimal(self.per)}{when}"


@dataclass(frozen=True)
class Estimate:
    """
    What a job will cost.

    :param model: id of the model in the catalogue.
    :param amount: the total cost, margin included. Exact, or rounded up to the next credit if it has no exact decimal
        value.
    :param margin: what was added, in percent.
    :param lines: each rate that was used, with the number of units.
    :param read_at: when the API last confirmed the rates.
    """

    model: str
    amount: Amount
    margin: Decimal
    lines: tuple[tuple[Rate, Decimal], ...]
    read_at: datetime

    @property
    def threshold(self) -> str:
        """The amount as text that every ``threshold`` accepts, rounded up to the next credit."""
        return self.amount.rounded_up().text

    def part(self, parts: int) -> Amount:
        """Return the price of one of so many equal parts of the job, rounded up to the next credit."""
        return Amount(math.ceil(Fraction(self.amount.credits) / parts))

    def to_dict(self) -> dict[str, Any]:
        """Return a plain JSON dictionary. Numbers are decimal text, because JSON numbers can lose precision."""
        return {
            "model": self.model,
            "amount_credits": plain_decimal(Decimal(self.amount.credits)),
            "amount_usd": format_usd(self.amount.usd),
            "margin_percent": plain_decimal(self.margin),
            "rates": [
                {
                    "unit": rate.label,
                    "quantity": plain_decimal(quantity),
                    "price_usd": plain_decimal(rate.price),
                    "per": plain_decimal(rate.per),
                    "when": dict(rate.when),
                }
                for rate, quantity in self.lines
            ],
            "read_at": self.read_at.isoformat(timespec="seconds"),
        }


@dataclass(frozen=True)
class Pricing:
    """
    What the catalogue says about one model.

    :param model: id of the model.
    :param kind: ``fixed``, ``variants`` or ``variable``.
    :param rates: all rates; empty if ``kind`` is ``variable``.
    :param dimensions: the parameters that select a variant.
    :param read_at: when the API last confirmed the rates.
    """

    model: str
    kind: str
    rates: tuple[Rate, ...]
    dimensions: tuple[str, ...]
    read_at: datetime

    def estimate(
        self,
        work: Mapping[str, object],
        variant: Mapping[str, object] | None = None,
        margin: str = "0%",
        *,
        others_unused: bool = False,
    ) -> Estimate:
        """
        Price a job.

        :param work: how much of each unit the whole job uses, in the catalogue's own words: ``{"input token":
            2_000_000, "output token": 500_000}``, ``{"second": 8}``. Fewer words are enough if they still match one
            rate best; case, plurals and underscores make no difference. Every rate must be named, with 0 for what the
            job does not use. Quantities are numbers or text; a ``float`` counts as Python prints it.
        :param variant: the parameters that the rate depends on, such as ``{"resolution": "1080p"}``.
        :param margin: what to add, such as ``"20%"``.
        :param others_unused: the job uses nothing of the rates that ``work`` does not name, also of those that the
            catalogue adds later.
        :raises AimlBillingPricingError: if the job cannot be priced exactly; the message lists what is known.
        """
        if not isinstance(work, Mapping) or not work:
            raise self._error("the work is empty, or not a dictionary of units and quantities")
        quantities = self._match_quantities(work, self._select_rates(variant or {}), others_unused)
        if not any(quantities.values()):
            raise self._error("all quantities of the work are zero")
        percent = parse_percent(margin)
        total = sum(Fraction(rate.price) * Fraction(count) / Fraction(rate.per) for rate, count in quantities.items())
        total *= (100 + Fraction(percent)) / 100
        return Estimate(self.model, self._amount(total), percent, tuple(quantities.items()), self.read_at)

    def _select_rates(self, variant: Mapping[str, object]) -> tuple[Rate, ...]:
        """Return the rates of one variant."""
        if self.kind == "variable":
            raise self._error("its price is variable and only known with the response. Set the threshold by hand")
        if not isinstance(variant, Mapping):
            raise self._error("the variant is not a dictionary")
        if unknown := sorted(str(name) for name in variant if name not in self.dimensions):
            raise self._error(f"its price does not depend on {unknown[0]!r}")
        if missing := [name for name in self.dimensions if name not in variant]:
            raise self._error(f"its price depends on {missing[0]!r}, which the variant must name")
        if empty := [name for name, value in variant.items() if value is None]:
            raise self._error(f"the variant's {empty[0]!r} is None: the template or XCom that provides it was empty")
        given = {name: variant_text(value) for name, value in variant.items()}
        selected = tuple(rate for rate in self.rates if all(given[name] == value for name, value in rate.when))
        if not selected:
            raise self._error(f"there is no rate for {given}")
        return selected

    def _match_quantities(
        self, work: Mapping[str, object], rates: Sequence[Rate], others_unused: bool
    ) -> dict[Rate, Decimal]:
        """Match each part of the work with exactly one rate, and each rate with exactly one part of the work."""
        if len({frozenset(rate.words) for rate in rates}) < len(rates):
            raise self._error("the catalogue has two rates for the same thing")
        quantities: dict[Rate, Decimal] = {}
        for unit, quantity in work.items():
            amount = parse_quantity(unit, quantity)
            matching = _meant_by(set(split_words(str(unit))), rates)
            if not matching and not amount:  # nothing of a unit that the model does not have
                continue
            if len(matching) != 1:
                raise self._error(f"{unit!r} matches {'more than one' if matching else 'none'} of its units", rates)
            if matching[0] in quantities:
                raise self._error(f"two parts of the work name the unit {matching[0].label!r}", rates)
            quantities[matching[0]] = amount
        left_out = [rate.label for rate in rates if rate not in quantities]
        if left_out and not others_unused:
            raise self._error(f"the work does not say how much {left_out[0]!r} it uses; write 0 for none", rates)
        return quantities

    def token_work(self, requests: int, input_tokens: int, max_output_tokens: int) -> dict[str, int]:
        """
        Return the ``work`` of a job that makes requests to a language model.

        :param requests: number of requests.
        :param input_tokens: input tokens of one request.
        :param max_output_tokens: most output tokens of one request.
        """
        work = {"input token": requests * input_tokens, "output token": requests * max_output_tokens}
        return work | {rate.label: requests for rate in self.rates if "request" in rate.words}

    def _amount(self, usd: Fraction) -> Amount:
        credits = usd * CREDITS_PER_USD
        try:
            try:
                exact: Decimal | int = EXACT.divide(Decimal(credits.numerator), Decimal(credits.denominator))
            except ArithmeticError:  # a price per 3 or per 60 units has no exact decimal value
                exact = math.ceil(credits)
            return Amount(exact)
        except AimlBillingThresholdError:
            raise self._error("the total is implausibly large") from None

    def _error(self, why: str, rates: Sequence[Rate] | None = None) -> AimlBillingPricingError:
        known = self.rates if rates is None else rates
        listed = join_first([str(rate) for rate in known])
        return pricing_error(self.model, f"{why}. Known: {listed}" if listed else why)


def _meant_by(words: set[str], rates: Sequence[Rate]) -> list[Rate]:
    """
    Return the rate that some words mean; several if that is ambiguous.

    "input token" means "text input token", but never "cached input token".
    """
    matching = [rate for rate in rates if words and rate.distinctive <= words <= set(rate.words)]
    plainest = [rate for rate in matching if all(set(rate.words) <= set(other.words) for other in matching)]
    return plainest or matching


def join_first(names: Sequence[str], most: int = 20) -> str:
    """Join names for an error message, which a catalogue of thousands must not fill."""
    more = f"; and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def pricing_error(model: str, why: str) -> AimlBillingPricingError:
    """Return the error for a job that cannot be priced."""
    return AimlBillingPricingError(f"The job cannot be priced with the model {shorten(model)}: {why}.")


def split_words(text: str) -> list[str]:
    """Return the words of a rate's name, in lower case and in the singular: ``input_tokens`` is ``input token``."""
    words = [word for word in re.split(r"[\s_-]+", text.strip().lower()) if word]
    singular = [re.sub(r"(?<=..[^s])s$", "", word) for word in words]
    return [_SYNONYMS.get(word, word) for word in singular]


def variant_text(value: object) -> str:
    """Return a variant's value as text, so that 5 from the DAG file matches "5" in the catalogue."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = Decimal(int(value))
    if isinstance(value, Decimal) and value.is_finite():
        return plain_decimal(value)
    text = str(value)
    return text.lower() if text in ("True", "False") else text  # a boolean from a template
