"""Estimates: exact to the fraction of a credit, or refused. A missing rate never counts as zero."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from pricings import CHAT, NOW, RICH, VARIABLE, VIDEO, fixed, unit, variant, variants

from airflow_provider_aimlbilling.exceptions import AimlBillingPricingError
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.pricing import Pricing


@pytest.mark.parametrize(
    ("pricing", "work", "of", "margin", "usd", "credits"),
    [
        # 2 million input tokens at 2.50 USD per million are 5 USD; half a million output tokens at 10 USD are 5 USD.
        (CHAT, {"input token": 2_000_000, "output token": 500_000}, None, "0%", "10", 20_000_000),
        # One input token is 0.0000025 USD, which is 5 credits; one output token is 20 credits.
        (CHAT, {"input": 1, "output": 1}, None, "0%", "0.0000125", 25),
        # 5 credits and a quarter more.
        (CHAT, {"input": 1, "output": 0}, None, "25%", "0.000003125", "6.25"),
        # 0.039 USD for a thousand characters: 12,345 of them are 0.481455 USD.
        (fixed(unit("character", "input", "0.039", 1000)), {"character": 12_345}, None, "0%", "0.481455", 962_910),
        # 5 seconds at 0.65 USD are 3.25 USD, the vendor's own example.
        (VIDEO, {"second": 5}, {"resolution": "1080p"}, "0%", "3.25", 6_500_000),
        (VIDEO, {"second": "2.5"}, {"resolution": "720p"}, "10%", "1.0725", 2_145_000),
        # 40 images of 1.05 megapixels at 0.04 USD per megapixel.
        (fixed(unit("megapixel", "output", "0.04", 1)), {"megapixel": Decimal("42.0")}, None, "0%", "1.68", 3_360_000),
        (RICH, {"provided": 1_000_000, "generated": 100_000, "cached": 0}, None, "0%", "2.25", 4_500_000),
        # One unit is free, and the other is charged for.
        (fixed(unit("token", "input", "0", 1), unit("token", "output", "1", 1)), {"input": 9, "output": 2}, None, "0%",
         "2", 4_000_000),
    ],
)  # fmt: skip
def test_estimates_match_prices_calculated_by_hand(
    pricing: Pricing, work: Any, of: Any, margin: str, usd: str, credits: int | str
) -> None:
    estimate = pricing.estimate(work, of, margin)
    assert estimate.amount.usd == Decimal(usd)
    assert Decimal(estimate.amount.credits) == Decimal(credits)
    assert Amount.parse(estimate.threshold) == estimate.amount.rounded_up()
    assert json.loads(json.dumps(estimate.to_dict()))["amount_credits"] == str(credits)


def test_an_estimate_lists_the_rates_it_used_and_when_they_were_read() -> None:
    assert VIDEO.estimate({"second": 5}, {"resolution": "1080p"}, "20%").to_dict() == {
        "model": "m",
        "amount_credits": "7800000",
        "amount_usd": "3.90",
        "margin_percent": "20",
        "rates": [
            {"unit": "second", "quantity": "5", "price_usd": "0.65", "per": "1", "when": {"resolution": "1080p"}}
        ],
        "read_at": NOW.isoformat(timespec="seconds"),
    }


def test_a_variant_matches_whether_its_values_are_numbers_or_text() -> None:
    pricing = variants(
        ["fps", "audio"], variant("1", fps=Decimal(24), audio=True), variant("2", fps=Decimal(24), audio=False)
    )
    for given in ({"fps": 24, "audio": True}, {"fps": "24", "audio": "true"}, {"fps": 24.0, "audio": True}):
        assert pricing.estimate({"second": 1}, given).amount.usd == 1


def test_a_variant_may_have_several_units() -> None:
    pricing = variants(
        ["tier"], variant("1", unit="token in", tier="fast"), variant("2", unit="token out", tier="fast")
    )
    assert pricing.estimate({"token in": 1, "token out": 1}, {"tier": "fast"}).amount.usd == 3


REFUSED: dict[str, tuple[Pricing, Any, Any, Any, str]] = {
    "variable price": (VARIABLE, {"token": 1}, None, "0%", "variable"),
    "unknown unit": (CHAT, {"input": 1, "output": 1, "image": 1}, None, "0%", "'input token' at 2.5 USD for 1000000"),
    "ambiguous unit": (CHAT, {"token": 1}, None, "0%", "more than one"),
    "missing unit": (CHAT, {"input": 1}, None, "0%", "'output token'"),
    "unit named twice": (CHAT, {"input": 1, "input token": 1, "output": 0}, None, "0%", "two parts"),
    "only zeros": (CHAT, {"input": 0, "output": 0}, None, "0%", "zero"),
    "empty work": (CHAT, {}, None, "0%", "not a dictionary"),
    "work that is text": (CHAT, "input", None, "0%", "not a dictionary"),
    "empty unit": (CHAT, {"": 1}, None, "0%", "none of its units"),
    "negative quantity": (CHAT, {"input": -1, "output": 1}, None, "0%", "not a quantity"),
    "NaN": (CHAT, {"input": Decimal("NaN"), "output": 1}, None, "0%", "not a quantity"),
    "boolean": (CHAT, {"input": True, "output": 1}, None, "0%", "not a quantity"),
    "infinity": (CHAT, {"input": float("inf"), "output": 1}, None, "0%", "not a quantity"),
    "None": (CHAT, {"input": None, "output": 1}, None, "0%", "not a quantity"),
    "words": (CHAT, {"input": "a lot", "output": 1}, None, "0%", "not a quantity"),
    "exponent": (CHAT, {"input": "1e9", "output": 1}, None, "0%", "not a quantity"),
    "template": (CHAT, {"input": "{{ x }}", "output": 1}, None, "0%", "not a quantity"),
    "margin without unit": (CHAT, {"input": 1, "output": 1}, None, "0.2", "not a margin"),
    "margin as number": (CHAT, {"input": 1, "output": 1}, None, 20, "not a margin"),
    "negative margin": (CHAT, {"input": 1, "output": 1}, None, "-20%", "not a margin"),
    "missing variant": (VIDEO, {"second": 1}, None, "0%", "'resolution'"),
    "unknown variant": (VIDEO, {"second": 1}, {"resolution": "4k"}, "0%", "1080p"),
    "unknown dimension": (VIDEO, {"second": 1}, {"resolution": "720p", "fps": 1}, "0%", "'fps'"),
    "variant of a fixed price": (CHAT, {"input": 1, "output": 1}, {"resolution": "720p"}, "0%", "'resolution'"),
    "variant that is None": (VIDEO, {"second": 1}, {"resolution": None}, "0%", "was empty"),
    "variant that is text": (VIDEO, {"second": 1}, "720p", "0%", "variant is not a dictionary"),
    "two rates for one unit": (
        variants(["a"], variant("1", a="x"), variant("2", a="x")), {"second": 1}, {"a": "x"}, "0%", "two rates"),
    "implausibly large total": (fixed(unit("token", "in", "9", 1)), {"token": 10**29}, None, "0%", "implausibly large"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_job_without_an_exact_price_is_refused_with_what_is_known(case: str) -> None:
    pricing, work, of, margin, message = REFUSED[case]
    with pytest.raises(AimlBillingPricingError) as caught:
        pricing.estimate(work, of, margin)
    assert message in str(caught.value)


# The shape of the live catalogue: the measure is "output" everywhere, and the origin tells what is charged.
USUAL = {"type": "charge", "phase": "inference", "author": "user"}
LIVE = fixed(
    *(
        unit(
            "token",
            "output",
            price,
            1_000_000,
            type="charge",
            content="text",
            origin=origin,
            phase="inference",
            author="user",
        )
        for origin, price in (("provided", "2.5"), ("generated", "10"), ("cached", "0.25"))
    )
)


@pytest.mark.parametrize(
    "work",
    [
        {"input token": 1_080_000, "output token": 480_000, "cached": 0},
        {"input_tokens": 1_080_000, "Output Tokens": 480_000, "cached input": 0},
        {"input": 1_080_000, "output": 480_000, "cached_input_token": 0},
        {"prompt tokens": 1_080_000, "completion tokens": 480_000, "cached tokens": 0},
    ],
)
def test_input_and_output_mean_the_same_in_both_shapes(work: Any) -> None:
    assert LIVE.estimate(work).amount.usd == Decimal("7.5")
    documented = {name: quantity for name, quantity in work.items() if "cached" not in name}
    assert CHAT.estimate(documented).amount.usd == Decimal("7.5")


def test_a_rate_that_is_new_in_the_catalogue_breaks_nothing_if_others_are_unused() -> None:
    work = {"input token": 1_080_000, "output token": 480_000}
    with pytest.raises(AimlBillingPricingError, match="does not say how much 'text cached input token'"):
        LIVE.estimate(work)
    assert LIVE.estimate(work, others_unused=True).amount.usd == Decimal("7.5")


def test_prices_per_single_token_are_exact() -> None:
    tiny = fixed(unit("token", "input", "7.8e-09", 1), unit("token", "output", "3.1e-08", 1))
    estimate = tiny.estimate({"input": 1, "output": 1})
    assert estimate.amount.usd == Decimal("3.88e-08")
    assert estimate.threshold == "1 credits"


def test_a_total_without_an_exact_decimal_value_is_rounded_up_to_the_next_credit() -> None:
    """100 s at 0.0043 USD per 60 s are 14,333.33… credits."""
    per_minute = fixed(unit("second", "input", "0.0043", 60))
    assert per_minute.estimate({"second": 100}).amount == Amount(14_334)
    assert per_minute.estimate({"second": 100}).threshold == "14334 credits"


class NumpyFloat:
    def item(self) -> float:
        return 0.1


@pytest.mark.parametrize("quantity", [0.1, NumpyFloat()])
def test_floats_count_as_python_prints_them(quantity: Any) -> None:
    assert fixed(unit("second", "input", "1", 1)).estimate({"second": quantity}).amount.usd == Decimal("0.1")


def test_the_price_of_a_part_is_rounded_up() -> None:
    estimate = CHAT.estimate({"input": 1, "output": 1})
    assert (estimate.amount, estimate.part(20), estimate.part(1)) == (Amount(25), Amount(2), Amount(25))
