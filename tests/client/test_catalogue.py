"""The catalogue: documented shapes become a pricing, everything else is refused."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from pricings import NOW, fixed, unit, variant

from airflow_provider_aimlbilling.client.catalogue import find_pricing, read_pricing
from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingPricingError
from airflow_provider_aimlbilling.money.amount import CREDITS_PER_USD


def test_a_rate_in_another_currency_is_refused() -> None:
    with pytest.raises(AimlBillingPricingError, match="'EUR'"):
        fixed(unit("token", "in", "1", 1, currency="EUR"))


def test_a_condition_of_null_is_the_same_as_none() -> None:
    assert fixed(unit("token", "in", "1", 1, when=None)).estimate({"token": 1}).amount.usd == 1


@pytest.mark.parametrize(
    "pricing",
    [
        {"kind": "fixed"},
        {"kind": "fixed", "units": []},
        {"kind": "fixed", "units": ["x"]},
        {"kind": "fixed", "units": [{"name": "token", "price": Decimal(1)}]},
        {"kind": "fixed", "units": [{"measure": "x", "price": Decimal(1), "per": Decimal(1)}]},
        {"kind": "fixed", "units": [unit("token", "in", "1", 0)]},
        {"kind": "fixed", "units": [unit("token", "in", "-1", 1)]},
        {"kind": "fixed", "units": [unit("token", "in", "NaN", 1)]},
        {"kind": "fixed", "units": [unit("token", "in", "1", 1, tiers=[1, 2])]},
        # What may change the price, and is not known.
        *({"kind": "fixed", "units": [unit("token", "in", "1", 1)], name: 2} for name in ("minimum", "tiers", "bands")),
        {"kind": "fixed", "units": [unit("token", "in", "1", 1)], "multiplier": Decimal("1.5")},
        {"kind": "fixed", "units": [unit("token", "in", "1", 1, above=200_000)]},
        {"kind": "fixed", "units": [unit("token", "in", "1", 1) | {"price": "1"}]},
        {"kind": "fixed", "units": [unit("token", "in", "1", 1) | {"price": True}]},
        # A condition on a fixed price, and a rate that leaves a dimension open: using them would be a guess.
        {"kind": "fixed", "units": [unit("token", "in", "1", 1, when={"tier": "fast"})]},
        {"kind": "variants", "dimensions": ["a", "b"], "variants": [variant("1", a="x")]},
        {"kind": "variants", "dimensions": ["a"], "variants": [variant("1", a="x"), variant("2")]},
        {"kind": "variants", "dimensions": ["a"], "variants": [variant("1", a=None)]},
        {"kind": "variants", "variants": [variant("1", a="x")]},
        {"kind": "variants", "dimensions": ["b"], "variants": [variant("1", a="x")]},
        {"kind": "variants", "dimensions": [1], "variants": [variant("1")]},
        {"kind": "variants", "dimensions": ["a"], "variants": [variant("1", a="x") | {"when": "x"}]},
    ],
)
def test_a_pricing_that_is_not_as_documented_is_refused(pricing: Any) -> None:
    with pytest.raises(AimlBillingContractError):
        read_pricing("m", pricing, NOW)


@pytest.mark.parametrize("pricing", [None, "free", {}, {"kind": "auction"}, {"kind": "fixed", "currency": "EUR"}])
def test_a_model_without_a_known_kind_of_pricing_is_refused(pricing: Any) -> None:
    with pytest.raises(AimlBillingPricingError):
        read_pricing("m", pricing, NOW)


def test_a_model_is_found_by_its_id_or_an_alias() -> None:
    priced = {"pricing": {"kind": "fixed", "units": [unit("token", "in", "1", 1)]}}
    models = [{"id": "vendor/a", "aliases": ["a", "b"], **priced}, {"id": "b2", "aliases": []}, "not an object"]
    for name in ("vendor/a", "a", "b"):
        assert find_pricing(models, name, None, NOW).model == "vendor/a"
    with pytest.raises(AimlBillingPricingError, match="no model with that id or alias"):
        find_pricing(models, "c", None, NOW)


@pytest.mark.parametrize(
    "special",
    [
        *[{"origin": "cached"}, {"origin": "cache_write"}, {"origin": "reasoned"}],
        {"origin": None, "measure": "cached input"},
        *[{"phase": "training"}, {"author": "system"}, {"type": "discount"}],
    ],
    ids=str,
)
def test_a_special_rate_is_never_meant_by_a_plain_name(special: dict[str, Any]) -> None:
    """Otherwise the tokens of a job could be priced as cached ones, at a tenth of their price."""
    rate = unit("token", "output", "0.25", 1, origin="provided") | special
    for name in ("input token", "output token", "token"):
        with pytest.raises(AimlBillingPricingError, match="matches none of its units"):
            fixed(rate).estimate({name: 1}, others_unused=True)
    assert fixed(rate).estimate({fixed(rate).rates[0].label: 1}).amount.usd == Decimal("0.25")


def test_the_order_of_rates_makes_no_difference_between_endpoint_types() -> None:
    rates = [unit("token", "input", "1", 1), unit("token", "output", "2", 1)]
    entry = {"id": "m", "type": "a", "pricing": {"kind": "fixed", "units": rates}}
    turned = entry | {"type": "b", "pricing": {"kind": "fixed", "units": rates[::-1]}}
    assert find_pricing([entry, turned], "m", None, NOW).estimate({"input": 1, "output": 0}).amount.usd == 1
    with pytest.raises(AimlBillingPricingError, match="name the model_type"):
        find_pricing([entry, entry | {"type": "b", "pricing": None}], "m", None, NOW)


def test_fields_that_cannot_change_a_price_are_ignored() -> None:
    described = unit("token", "in", "1", 1, id=Decimal(7), description="a token", note=None, tiers=None)
    pricing = {"kind": "fixed", "units": [described], "updated_at": "2026-01-01", "minimum": None}
    assert read_pricing("m", pricing, NOW).estimate({"token": 2}).amount.usd == 2


@pytest.mark.parametrize("name", ["VENDOR/A", "Vendor/a", " A ", "b"])
def test_names_match_in_any_case(name: str) -> None:
    models = [{"id": "vendor/a", "aliases": ["a", "B"], "pricing": {"kind": "variable"}}]
    assert find_pricing(models, name, None, NOW).model == "vendor/a"


def test_a_model_with_two_endpoint_types_has_a_price_if_both_have_the_same() -> None:
    one = {
        "id": "m",
        "type": "openai/chat-completions",
        "pricing": {"kind": "fixed", "units": [unit("token", "in", "1", 1)]},
    }
    same, other = one | {"type": "openai/responses"}, one | {"type": "x", "pricing": {"kind": "variable"}}
    assert find_pricing([one, same], "m", None, NOW).kind == "fixed"
    with pytest.raises(AimlBillingPricingError, match="name the model_type; its types: 'openai/chat-completions'; 'x'"):
        find_pricing([one, other], "m", None, NOW)
    assert find_pricing([one, other], "m", "x", NOW).kind == "variable"
    with pytest.raises(AimlBillingPricingError, match="does not have it with the type 'y'"):
        find_pricing([one, other], "m", "y", NOW)


def random_json(chance: random.Random, depth: int = 0) -> Any:
    numbers = [3, Decimal("1.5"), Decimal("NaN"), Decimal(-1), Decimal("1e-40"), Decimal("1e40")]
    if depth > 2 or chance.random() < 0.5:
        return chance.choice([None, True, "", "x", "second", *numbers])
    if chance.random() < 0.5:
        return [random_json(chance, depth + 1) for _ in range(chance.randrange(3))]
    names = ["kind", "units", "name", "measure", "price", "per", "when", "unit", "dimensions", "variants", "x"]
    return {chance.choice(names): random_json(chance, depth + 1) for _ in range(chance.randrange(5))}


def random_pricing(chance: random.Random) -> Any:
    def number() -> Decimal:
        return Decimal(chance.choice(["0", "0.39", "2.5", "0.0000007", "13", "1000000", "7e-12"]))

    words = ["token", "second", "image"]
    units = [
        {
            "name": chance.choice(words),
            "measure": f"m{index}",
            "price": number(),
            "per": Decimal(chance.choice([1, 3, 1000, 10**6])),
        }
        for index in range(chance.randrange(1, 4))
    ]
    pricing: Any = {"kind": "fixed", "units": units}
    if chance.random() < 0.5:
        values = ["a", Decimal(1), True]
        rates = [
            {
                "when": {"d": value},
                "unit": chance.choice(words),
                "price": number(),
                "per": Decimal(chance.choice([1, 1000])),
            }
            for value in values
        ]
        pricing = {"kind": "variants", "dimensions": ["d"], "variants": rates}
    if chance.random() < 0.3:  # break it somewhere
        part = chance.choice(pricing.get("units") or pricing["variants"])
        part[chance.choice([*part, "more"])] = random_json(chance)
    return pricing if chance.random() < 0.9 else random_json(chance)


def test_whatever_the_catalogue_contains_an_estimate_is_exact_and_monotone_or_refused() -> None:
    chance = random.Random(20261123)
    priced = refused = 0
    for _ in range(20_000):
        given = random_pricing(chance)
        try:
            pricing = read_pricing("m", given, NOW)
            of = {name: chance.choice(["a", "1", "true"]) for name in pricing.dimensions}
            rates = [rate for rate in pricing.rates if all(of[name] == value for name, value in rate.when)]
            work = {rate.label: chance.choice([0, 1, 17, 123_456, Decimal("0.5")]) for rate in rates}
            less = pricing.estimate(work, of).amount
            more = pricing.estimate({name: quantity + 1 for name, quantity in work.items()}, of).amount
            margin = pricing.estimate(work, of, "50%").amount
        except (AimlBillingPricingError, AimlBillingContractError):
            refused += 1
            continue
        priced += 1
        exact = sum(Fraction(rate.price) / Fraction(rate.per) * Fraction(work[rate.label]) for rate in rates)
        # Exact, or rounded up to the next credit if there is no exact decimal value.
        assert 0 <= Fraction(less.credits) - exact * CREDITS_PER_USD < 1
        assert more.rounded_up() >= less.rounded_up()
        assert 0 <= Fraction(margin.credits) - exact * CREDITS_PER_USD * Fraction(3, 2) < 1
    assert min(priced, refused) > 2_000, (priced, refused)
