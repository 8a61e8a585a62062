"""Amounts: what is accepted, what is refused, and exact conversion between credits and USD."""

from __future__ import annotations

from decimal import Decimal, getcontext

import pytest

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.money.amount import MAX_CREDITS, Amount


@pytest.mark.parametrize(
    ("value", "credits"),
    [
        (5_000_000, 5_000_000),
        (0, 0),
        (5_000_000.0, 5_000_000),
        (Decimal("0.5"), Decimal("0.5")),
        ("5000000", 5_000_000),
        (" 5000000 credits ", 5_000_000),
        ("0.5 credits", Decimal("0.5")),
        ("1 credit", 1),
        ("2.50 USD", 5_000_000),
        ("2.50usd", 5_000_000),
        ("$2.50", 5_000_000),
        ("$ 2.50", 5_000_000),
        ("0.0000005 USD", 1),
        ("5.25e-05 USD", 105),
        ("5.25E-5 usd", 105),
        ("$1e3", 2_000_000_000),
        ("1_000 credits", 1000),
        ("1_000.50 USD", 2_001_000_000),
        (f"{25 * 0.0000021} USD", Decimal("104.99999999999999")),  # 5.2499999999999995e-05; a gate rounds it up
        ("0.1 USD", 200_000),
        (Amount(7), 7),
    ],
)
def test_parse_accepts_credits_and_usd(value: object, credits: object) -> None:
    assert Amount.parse(value).credits == credits


NUMBERS = [True, False, -1, Decimal(-1), float("nan"), float("inf"), Decimal("NaN"), 2.5, 1e300]
TOO_LARGE = [MAX_CREDITS + 1, 10**4000, "9" * 40]
TOO_MANY_DIGITS = [Decimal("1." + "1" * 80)]
TEXTS = ["", "  ", "-1", "-$1", "12 EUR", "€12", "1,000", "1e6", "NaN", "inf", "USD", "$", "2.5.0 USD", "2.50", "٣"]
TEXTS += ["$1 USD", "1_000", "{{ params.threshold }}", "None"]
OTHER_TYPES = [None, b"5", [5], {"balance": 5}]


@pytest.mark.parametrize("value", [*NUMBERS, *TOO_LARGE, *TOO_MANY_DIGITS, *TEXTS, *OTHER_TYPES], ids=repr)
def test_parse_refuses_anything_else_and_shows_the_accepted_forms(value: object) -> None:
    with pytest.raises(AimlBillingThresholdError, match=r"Write credits as 5000000 .* '\$2\.50'"):
        Amount.parse(value)


def test_the_error_hints_at_what_the_author_meant() -> None:
    with pytest.raises(AimlBillingThresholdError, match="template was not rendered"):
        Amount.parse("{{ var.value.threshold }}")
    with pytest.raises(AimlBillingThresholdError, match="was empty"):
        Amount.parse("None")
    with pytest.raises(AimlBillingThresholdError, match=r"Did you mean '2\.50 USD'"):
        Amount.parse("2.50")
    with pytest.raises(AimlBillingThresholdError, match=r"Did you mean '2\.5 USD'"):
        Amount.parse(2.5)
    with pytest.raises(AimlBillingThresholdError, match="without separators"):
        Amount.parse("5,000,000 credits")
    with pytest.raises(AimlBillingThresholdError, match="whole result"):
        Amount.parse({"balance": 1})


@pytest.mark.parametrize(
    ("credits", "text"),
    [
        (5_000_000, "5,000,000 credits (2.50 USD)"),
        (1, "1 credits (0.0000005 USD)"),
        (0, "0 credits (0.00 USD)"),
        (551_564_495, "551,564,495 credits (275.7822475 USD)"),
        (20_000_000_000, "20,000,000,000 credits (10,000.00 USD)"),
    ],
)
def test_text_shows_credits_and_usd(credits: int, text: str) -> None:
    assert str(Amount(credits)) == text


def test_whole_dollars_are_formatted_without_an_exponent() -> None:
    assert str(Amount(100_000_000).usd) == "50"


def test_amounts_stay_exact_when_the_caller_s_decimal_context_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getcontext(), "prec", 3)
    amount = Amount.parse("1234567.8901234 USD")
    assert amount.credits == Decimal("2469135780246.8")
    assert amount.usd == Decimal("1234567.8901234")


@pytest.mark.parametrize("value", [5e-05, 0.1, 2.5, 1234567.5])
def test_a_hint_is_accepted_when_it_is_followed(value: float) -> None:
    with pytest.raises(AimlBillingThresholdError) as caught:
        Amount.parse(value)
    hint = str(caught.value).partition("Did you mean '")[2].partition("'")[0]
    assert Amount.parse(hint) == Amount.from_usd(Decimal(repr(value)))


def test_an_amount_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(AimlBillingThresholdError, match="decimal places"):
        Amount(Decimal("1e-999999999"))
    assert Amount.parse("1.5e-99 credits").credits == Decimal("1.5e-99")


def test_dollars_with_too_many_digits_are_refused() -> None:
    with pytest.raises(AimlBillingThresholdError, match="too many digits"):
        Amount.parse("9" * 30 + "." + "9" * 30 + " USD")
