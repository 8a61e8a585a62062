"""Prices: worked by hand, exact to the part of a credit, or refused. Never zero for want of a rate, never a guess."""

from __future__ import annotations

import json
import random
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from conftest import KEY

from airflow_provider_aimlbilling.balance import CREDITS_PER_USD, Amount
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingError,
    AimlBillingPricingError,
    AimlBillingUnavailable,
)
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.pricing import Pricing
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sandbox_account import to_json

NOW = datetime.now(timezone.utc)


def unit(name: str, measure: str, price: str, per: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "measure": measure, "price": Decimal(price), "per": Decimal(per), **more}


def fixed(*units: dict[str, Any]) -> Pricing:
    return Pricing.from_catalogue("m", {"kind": "fixed", "currency": "USD", "units": list(units)}, NOW)


def variant(price: str, per: int = 1, unit: str = "second", **when: Any) -> dict[str, Any]:
    return {"when": when, "price": Decimal(price), "unit": unit, "per": Decimal(per)}


def variants(dimensions: list[str], *rates: dict[str, Any]) -> Pricing:
    return Pricing.from_catalogue("m", {"kind": "variants", "dimensions": dimensions, "variants": list(rates)}, NOW)


CHAT = fixed(unit("token", "input", "2.5", 1_000_000), unit("token", "output", "10", 1_000_000))
VIDEO = variants(["resolution"], variant("0.39", resolution="720p"), variant("0.65", resolution="1080p"))
# As the live catalogue writes some models: the measure is the same, content and origin tell the rates apart.
RICH = fixed(
    unit("token", "text", "1.25", 1_000_000, content="text", origin="provided", note=None),
    unit("token", "text", "10", 1_000_000, content="text", origin="generated"),
    unit("token", "text", "0.125", 1_000_000, content="text", origin="cached"),
)


@pytest.mark.parametrize(
    ("pricing", "work", "of", "margin", "usd", "credits"),
    [
        # 2 million tokens in at 2.50 USD a million are 5 USD, half a million out at 10 USD a million are 5 USD.
        (CHAT, {"input token": 2_000_000, "output token": 500_000}, None, "0%", "10", 20_000_000),
        # One token in is 0.0000025 USD, which is 5 credits; one out is 20.
        (CHAT, {"input": 1, "output": 1}, None, "0%", "0.0000125", 25),
        # A quarter more.
        (CHAT, {"input": 1, "output": 0}, None, "25%", "0.000003125", "6.25"),
        # 0.039 USD for a thousand characters: 12,345 of them are 0.481455 USD.
        (fixed(unit("character", "input", "0.039", 1000)), {"character": 12_345}, None, "0%", "0.481455", 962_910),
        # 5 seconds at 0.65 USD are 3.25 USD, the vendor's own example.
        (VIDEO, {"second": 5}, {"resolution": "1080p"}, "0%", "3.25", 6_500_000),
        (VIDEO, {"second": "2.5"}, {"resolution": "720p"}, "10%", "1.0725", 2_145_000),
        # 40 images of 1.05 megapixels at 0.04 USD a megapixel.
        (fixed(unit("megapixel", "output", "0.04", 1)), {"megapixel": Decimal("42.0")}, None, "0%", "1.68", 3_360_000),
        (RICH, {"provided": 1_000_000, "generated": 100_000, "cached": 0}, None, "0%", "2.25", 4_500_000),
        # A free part costs nothing, and the rest what it costs.
        (fixed(unit("token", "input", "0", 1), unit("token", "output", "1", 1)), {"input": 9, "output": 2}, None, "0%",
         "2", 4_000_000),
    ],
)  # fmt: skip
def test_worked_prices(pricing: Pricing, work: Any, of: Any, margin: str, usd: str, credits: int | str) -> None:
    estimate = pricing.estimate(work, of, margin)
    assert estimate.amount.usd == Decimal(usd)
    assert Decimal(estimate.amount.credits) == Decimal(credits)
    assert Amount.parse(estimate.threshold) == estimate.amount
    assert json.loads(json.dumps(estimate.to_dict()))["amount_credits"] == str(credits)


def test_an_estimate_says_by_which_rates_and_when() -> None:
    assert VIDEO.estimate({"second": 5}, {"resolution": "1080p"}, "20%").to_dict() == {
        "model": "m",
        "amount_credits": "7800000",
        "amount_usd": "3.9",
        "margin_percent": "20",
        "rates": [
            {"unit": "second", "quantity": "5", "price_usd": "0.65", "per": "1", "when": {"resolution": "1080p"}}
        ],
        "read_at": NOW.isoformat(timespec="seconds"),
    }


def test_a_rate_in_another_currency_is_none() -> None:
    with pytest.raises(AimlBillingPricingError, match="'EUR'"):
        fixed(unit("token", "in", "1", 1, currency="EUR"))


def test_values_of_a_variant_are_the_same_as_number_and_as_text() -> None:
    pricing = variants(
        ["fps", "audio"], variant("1", fps=Decimal(24), audio=True), variant("2", fps=Decimal(24), audio=False)
    )
    for given in ({"fps": 24, "audio": True}, {"fps": "24", "audio": "true"}, {"fps": 24.0, "audio": True}):
        assert pricing.estimate({"second": 1}, given).amount.usd == 1


def test_no_condition_is_none() -> None:
    assert fixed(unit("token", "in", "1", 1, when=None)).estimate({"token": 1}).amount.usd == 1


def test_a_variant_may_have_several_units() -> None:
    pricing = variants(
        ["tier"], variant("1", unit="token in", tier="fast"), variant("2", unit="token out", tier="fast")
    )
    assert pricing.estimate({"token in": 1, "token out": 1}, {"tier": "fast"}).amount.usd == 3


REFUSED: dict[str, tuple[Pricing, Any, Any, Any, str]] = {
    "variable": (Pricing.from_catalogue("m", {"kind": "variable"}, NOW), {"token": 1}, None, "0%", "variable"),
    "unknown unit": (CHAT, {"input": 1, "output": 1, "image": 1}, None, "0%", "'input token' at 2.5 USD for 1000000"),
    "ambiguous unit": (CHAT, {"token": 1}, None, "0%", "more than one"),
    "unit left out": (CHAT, {"input": 1}, None, "0%", "'output token'"),
    "unit named twice": (CHAT, {"input": 1, "input token": 1, "output": 0}, None, "0%", "two parts"),
    "nothing to do": (CHAT, {"input": 0, "output": 0}, None, "0%", "zeros"),
    "empty work": (CHAT, {}, None, "0%", "no dictionary"),
    "work that is text": (CHAT, "input", None, "0%", "no dictionary"),
    "empty unit": (CHAT, {"": 1}, None, "0%", "none of its units"),
    "negative": (CHAT, {"input": -1, "output": 1}, None, "0%", "no quantity"),
    "NaN": (CHAT, {"input": Decimal("NaN"), "output": 1}, None, "0%", "no quantity"),
    "boolean": (CHAT, {"input": True, "output": 1}, None, "0%", "no quantity"),
    "binary fraction": (CHAT, {"input": 0.1, "output": 1}, None, "0%", "no quantity"),
    "nothing": (CHAT, {"input": None, "output": 1}, None, "0%", "no quantity"),
    "words": (CHAT, {"input": "a lot", "output": 1}, None, "0%", "no quantity"),
    "exponent": (CHAT, {"input": "1e9", "output": 1}, None, "0%", "no quantity"),
    "template": (CHAT, {"input": "{{ x }}", "output": 1}, None, "0%", "no quantity"),
    "margin without unit": (CHAT, {"input": 1, "output": 1}, None, "0.2", "no margin"),
    "margin as number": (CHAT, {"input": 1, "output": 1}, None, 20, "no margin"),
    "negative margin": (CHAT, {"input": 1, "output": 1}, None, "-20%", "no margin"),
    "variant left out": (VIDEO, {"second": 1}, None, "0%", "'resolution'"),
    "unknown variant": (VIDEO, {"second": 1}, {"resolution": "4k"}, "0%", "1080p"),
    "unknown dimension": (VIDEO, {"second": 1}, {"resolution": "720p", "fps": 1}, "0%", "'fps'"),
    "variant of a fixed price": (CHAT, {"input": 1, "output": 1}, {"resolution": "720p"}, "0%", "'resolution'"),
    "variant of nothing": (VIDEO, {"second": 1}, {"resolution": None}, "0%", "gave nothing"),
    "variant that is text": (VIDEO, {"second": 1}, "720p", "0%", "variant is no dictionary"),
    "two rates for one thing": (
        variants(["a"], variant("1", a="x"), variant("2", a="x")), {"second": 1}, {"a": "x"}, "0%", "two rates"),
    "no exact sum": (fixed(unit("token", "in", "1", 3)), {"token": 1}, None, "0%", "exact"),
    "beyond all sense": (fixed(unit("token", "in", "9", 1)), {"token": 10**29}, None, "0%", "exact"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_exact_price_is_refused_with_what_is_known(case: str) -> None:
    pricing, work, of, margin, says = REFUSED[case]
    with pytest.raises(AimlBillingPricingError) as caught:
        pricing.estimate(work, of, margin)
    assert says in str(caught.value)


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
        {"kind": "fixed", "units": [unit("token", "in", "1", 1) | {"price": "1"}]},
        {"kind": "fixed", "units": [unit("token", "in", "1", 1) | {"price": True}]},
        # A condition on a fixed price, and a rate that leaves a dimension open: what they mean would be a guess.
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
def test_a_catalogue_that_breaks_its_promise_is_refused(pricing: Any) -> None:
    with pytest.raises(AimlBillingContractError):
        Pricing.from_catalogue("m", pricing, NOW)


@pytest.mark.parametrize("pricing", [None, "free", {}, {"kind": "auction"}, {"kind": "fixed", "currency": "EUR"}])
def test_a_model_without_a_pricing_that_is_known_is_refused(pricing: Any) -> None:
    with pytest.raises(AimlBillingPricingError):
        Pricing.from_catalogue("m", pricing, NOW)


def anything(chance: random.Random, depth: int = 0) -> Any:
    simple = [
        None,
        True,
        "",
        "x",
        "second",
        3,
        Decimal("1.5"),
        Decimal("NaN"),
        Decimal(-1),
        Decimal("1e-40"),
        Decimal("1e40"),
    ]
    if depth > 2 or chance.random() < 0.5:
        return chance.choice(simple)
    if chance.random() < 0.5:
        return [anything(chance, depth + 1) for _ in range(chance.randrange(3))]
    names = ["kind", "units", "name", "measure", "price", "per", "when", "unit", "dimensions", "variants", "x"]
    return {chance.choice(names): anything(chance, depth + 1) for _ in range(chance.randrange(5))}


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
    if chance.random() < 0.3:  # spoil it somewhere
        part = chance.choice(pricing.get("units") or pricing["variants"])
        part[chance.choice([*part, "more"])] = anything(chance)
    return pricing if chance.random() < 0.9 else anything(chance)


def test_whatever_the_catalogue_says_an_estimate_is_exact_and_monotone_or_refused() -> None:
    chance = random.Random(20261123)
    priced = refused = 0
    for _ in range(20_000):
        given = random_pricing(chance)
        try:
            pricing = Pricing.from_catalogue("m", given, NOW)
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
        assert Fraction(less.credits) == exact * CREDITS_PER_USD
        assert more >= less
        assert Fraction(margin.credits) * 2 == Fraction(less.credits) * 3
    assert min(priced, refused) > 2_000, (priced, refused)


def asked(sandbox: Sandbox) -> list[str]:
    return [request.path for request in sandbox.requests]


def test_the_hook_asks_for_the_one_model_and_keeps_what_has_not_changed(sandbox: Sandbox) -> None:
    hook = AimlBillingHook(retries=0)
    first = hook.get_pricing("chat")
    assert (first.model, first.kind, len(first.rates)) == ("sandbox/chat", "fixed", 2)
    assert asked(sandbox) == ["/v1/models?id=chat&include=pricing"]
    again = hook.get_pricing("chat")
    assert (again.rates, again.read_at >= first.read_at) == (first.rates, True)
    tags = [request.headers.get("If-None-Match") for request in sandbox.requests]
    assert tags[0] is None
    assert tags[1]
    sandbox.account.catalogue = [
        model | {"pricing": {"kind": "variable"}} if model["id"] == "sandbox/chat" else model
        for model in sandbox.account.catalogue
    ]
    assert hook.get_pricing("chat").kind == "variable", "a changed price counts at once"


def test_an_answer_without_a_tag_is_not_kept_under_an_older_one(sandbox: Sandbox) -> None:
    hook = AimlBillingHook(retries=0)
    old = hook.get_pricing("chat")
    new = unit("token", "input", "1", 1)
    model = {"id": "chat", "aliases": [], "pricing": {"kind": "fixed", "units": [new]}}
    sandbox.fail(body=to_json({"data": [model]}).encode(), times=1)
    assert len(hook.get_pricing("chat").rates) == 1
    assert hook.get_pricing("chat").rates == old.rates
    assert sandbox.requests[-1].headers.get("If-None-Match") is None


def test_not_modified_without_having_asked_is_no_price(sandbox: Sandbox) -> None:
    sandbox.fail(status=304, body=b"")
    with pytest.raises(AimlBillingContractError):
        AimlBillingHook(retries=0).get_pricing("chat")


def test_a_model_that_is_listed_for_several_endpoints_needs_its_type(sandbox: Sandbox) -> None:
    chat = sandbox.account.catalogue[0]
    sandbox.account.catalogue = [chat, dict(chat) | {"type": "openai/images", "pricing": {"kind": "variable"}}]
    hook = AimlBillingHook(retries=0)
    with pytest.raises(AimlBillingPricingError, match="openai/chat-completions, openai/images"):
        hook.get_pricing("sandbox/chat")
    assert hook.get_pricing("sandbox/chat", model_type="openai/chat-completions").kind == "fixed"


@pytest.mark.parametrize("model", ["", " ", None, 5])
def test_no_model_is_asked_for_by_no_name(sandbox: Sandbox, model: Any) -> None:
    with pytest.raises(AimlBillingPricingError, match="names no model"):
        AimlBillingHook(retries=0).get_pricing(model)
    assert not sandbox.requests


def test_the_operator_asks_for_the_type_that_it_was_told(run_dag: Any, sandbox: Sandbox) -> None:
    chat = sandbox.account.catalogue[0]
    sandbox.account.catalogue = [chat, dict(chat) | {"type": "openai/images", "pricing": {"kind": "variable"}}]
    run = run_dag(
        """
        from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator

        EstimateCostOperator(
            task_id="gate", model="chat", work={"input": 2, "output": 0}, model_type="{{ 'openai/' }}chat-completions"
        )
        """
    )
    assert run.xcom() == "10 credits"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"body": b'{"object": "list", "data": []}'}, AimlBillingPricingError),
        ({"body": b'{"object": "list"}'}, AimlBillingContractError),
        ({"body": b"<html>"}, AimlBillingUnavailable),
        ({"status": 500}, AimlBillingUnavailable),
        ({"body": to_json({"data": [{"id": "chat", "aliases": "chat"}]}).encode()}, AimlBillingPricingError),
    ],
)
def test_no_answer_is_taken_for_a_price(sandbox: Sandbox, fault: Any, error: type[AimlBillingError]) -> None:
    sandbox.fail(**fault)
    with pytest.raises(error) as caught:
        AimlBillingHook(retries=0).get_pricing("chat")
    assert KEY not in str(caught.value)


def test_an_estimate_feeds_the_gates(run_dag: Any, sandbox: Sandbox) -> None:
    """1 million tokens in and 100,000 out are 3.50 USD; the account holds 2.50 USD."""
    body = """
        from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator

        work = {"input token": "{{ params.tokens }}", "output token": 100_000}
        price = EstimateCostOperator(task_id="price", model="sandbox/chat", work=work, params={"tokens": 1_000_000})
        BalanceSensor(task_id="wait", threshold=price.output, poke_interval=1, timeout=2, soft_fail=True)
        BalanceShortCircuitOperator(task_id="skip", threshold=price.output)
        BalanceCheckOperator(task_id="check", threshold="{{ ti.xcom_pull('price') }}") << price
    """
    run = run_dag(body)
    assert run.xcom("price") == "7000000 credits"
    assert run.xcom("price", key="estimate")["amount_usd"] == "3.5"
    assert run.xcom("price", key="estimate")["rates"][0]["quantity"] == "1000000"
    assert (run.state("wait"), run.state("check")) == ("skipped", "failed")
    for task in ("wait", "skip", "check"):
        assert run.xcom(task, key="verdict")["shortfall_credits"] == 2_000_000
    sandbox.set_balance("3.50 USD")
    run = run_dag(body)
    assert {run.state(task) for task in ("wait", "skip", "check")} == {"success"}


def test_a_job_without_a_price_fails_and_says_what_is_known(run_dag: Any, sandbox: Sandbox) -> None:
    run = run_dag(
        """
        from airflow_provider_aimlbilling.operators.pricing import EstimateCostOperator

        EstimateCostOperator(task_id="gate", model="sandbox/video", work={"second": 5}, variant={"resolution": "4k"})
        """
    )
    assert run.state() == "failed"
    assert "'second' at 0.65 USD for 1 when {'resolution': '1080p'}" in run.log
