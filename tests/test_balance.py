"""Money is exact, unknown is never zero, and the rule is one."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal, getcontext
from typing import Any

import pytest

from airflow_provider_aimlbilling.balance import MAX_CREDITS, Amount, Balance, Gate
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingContractError,
    AimlBillingThresholdError,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.left_out import LEFT_OUT


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
        ("0.1 USD", 200_000),
        (Amount(7), 7),
    ],
)
def test_amount_reads(value: object, credits: object) -> None:
    assert Amount.parse(value).credits == credits


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, None, -1, "-1", "-$1", Decimal(-1), float("nan"), float("inf"), Decimal("NaN"), 2.5, 1e300),
        *(
            "",
            "  ",
            "12 EUR",
            "€12",
            "1,000",
            "1e6",
            "NaN",
            "inf",
            "USD",
            "$",
            "2.5.0 USD",
            "2.50",
            "٣",
            "$1 USD",
            "1_000",
        ),
        *(
            "{{ params.threshold }}",
            "None",
            b"5",
            [5],
            {"balance": 5},
            MAX_CREDITS + 1,
            10**4000,
            "9" * 40,
            Decimal("1." + "1" * 80),
        ),
    ],
    ids=repr,
)
def test_amount_refuses_and_shows_what_it_takes(value: object) -> None:
    with pytest.raises(AimlBillingThresholdError, match=r"Write credits as 5000000 .* '\$2\.50'"):
        Amount.parse(value)


def test_what_was_left_out_is_still_so_after_a_copy() -> None:
    for again in (copy.copy(LEFT_OUT), copy.deepcopy([LEFT_OUT])[0], pickle.loads(pickle.dumps(LEFT_OUT))):
        assert again is LEFT_OUT


def test_amount_names_the_unrendered_template_and_the_empty_xcom() -> None:
    with pytest.raises(AimlBillingThresholdError, match="template that was not rendered"):
        Amount.parse("{{ var.value.threshold }}")
    with pytest.raises(AimlBillingThresholdError, match="gave nothing"):
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
def test_amount_prints_both_units(credits: int, text: str) -> None:
    assert str(Amount(credits)) == text


def test_amounts_stay_exact_in_a_caller_s_rough_decimal_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getcontext(), "prec", 3)
    amount = Amount.parse("1234567.8901234 USD")
    assert amount.credits == Decimal("2469135780246.8")
    assert amount.usd == Decimal("1234567.8901234")


FULL = Balance(5_000_000, False, 10_000, "2026-11-22T10:00:00Z", "disabled", "current", "fine")


@pytest.mark.parametrize("balance", [FULL, Balance(0), Balance(Decimal("0.25")), Balance(MAX_CREDITS)])
def test_balance_survives_json_exactly(balance: Balance) -> None:
    assert Balance.from_dict(json.loads(json.dumps(balance.to_dict()))) == balance


def test_balance_names_its_units() -> None:
    data = FULL.to_dict()
    assert (data["balance"], data["balance_usd"], data["low_balance_threshold"]) == (5_000_000, "2.50", 10_000)
    assert set(data) == {
        *("balance", "balance_usd", "low_balance", "low_balance_threshold", "last_updated"),
        *("auto_debit_status", "status", "status_explanation"),
    }


@pytest.mark.parametrize(
    "data",
    [
        *(
            None,
            [],
            "5",
            {},
            {"balance": None},
            {"balance": True},
            {"balance": "many"},
            {"balance": -1},
            {"balance": 1.5},
        ),
        *(FULL.to_dict() | {"low_balance": "no"}, FULL.to_dict() | {"status": 1}),
        FULL.to_dict() | {"low_balance_threshold": False},
    ],
    ids=repr,
)
def test_balance_refuses_what_it_did_not_write(data: Any) -> None:
    with pytest.raises(AimlBillingContractError):
        Balance.from_dict(data)


@pytest.mark.parametrize(("threshold", "clears"), [(4_999_999, True), (5_000_000, True), (5_000_001, False), (0, True)])
def test_reaching_the_threshold_is_enough(threshold: int, clears: bool) -> None:
    verdict = Gate(Amount(threshold)).decide(FULL)
    assert verdict.clears is clears
    assert verdict.shortfall == (None if clears else Amount(1))


def test_a_verdict_says_balance_threshold_and_shortfall_in_both_units() -> None:
    verdict = Gate(Amount.parse("3 USD")).decide(FULL)
    assert verdict.reason == (
        "balance 5,000,000 credits (2.50 USD) is below threshold 6,000,000 credits (3.00 USD), "
        "missing 1,000,000 credits (0.50 USD)"
    )
    assert json.loads(json.dumps(verdict.to_dict())) == {
        "clears": False,
        "reason": verdict.reason,
        "threshold_credits": 6_000_000,
        "available_credits": 5_000_000,
        "shortfall_credits": 1_000_000,
        "short_of": "balance",
        "balance": FULL.to_dict(),
    }


def test_whole_dollars_are_not_written_in_powers_of_ten() -> None:
    assert str(Amount(100_000_000).usd) == "50"


def test_an_answer_that_contradicts_itself_opens_nothing() -> None:
    assert not Gate().decide(Balance(0, False, 10_000)).clears
    called_low = Gate().decide(Balance(20_000, True, 10_000))
    assert not called_low.clears
    assert "is below" not in called_low.reason, "which would be untrue"


def test_out_of_credits_counts_as_below_with_no_figure_made_up() -> None:
    verdict = Gate(Amount(0)).decide(InsufficientBalanceError("answered 403"))
    assert not verdict.clears
    assert verdict.balance is None
    assert verdict.shortfall is None
    assert verdict.to_dict()["balance"] is None


def test_without_a_threshold_low_balance_decides_and_v2_cannot() -> None:
    assert Gate().decide(FULL).clears
    low = Balance(9_000, True, 10_000)
    assert not Gate().decide(low).clears
    assert Gate().decide(low).shortfall == Amount(1_000)
    with pytest.raises(AimlBillingThresholdError, match="api_version v2 does not report it"):
        Gate().decide(Balance(5_000_000))


def test_a_threshold_that_rendered_to_none_does_not_fall_back_to_low_balance() -> None:
    for written, map_index in ((LEFT_OUT, -1), (LEFT_OUT, 3), (None, -1), (None, None)):
        assert Gate.for_threshold(None, written=written, map_index=map_index) == Gate()
    for written, map_index in (("{{ x }}", -1), (None, 0)):
        with pytest.raises(AimlBillingThresholdError, match="gave nothing"):
            Gate.for_threshold(None, written=written, map_index=map_index)
    late = Gate.for_threshold("1 USD", written=LEFT_OUT, map_index=-1)
    assert late == Gate(Amount(2_000_000)), "one that was set on the task after it was made counts"
