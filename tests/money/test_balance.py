"""Balances: JSON that keeps every digit, and nothing read back that was not written."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_aimlbilling.exceptions import AimlBillingContractError
from airflow_provider_aimlbilling.money.amount import MAX_CREDITS
from airflow_provider_aimlbilling.money.balance import Balance, KeyLimit, TopUp

FULL = Balance(5_000_000, False, 10_000, "2026-11-22T10:00:00Z", "disabled", "current", "fine")


@pytest.mark.parametrize("balance", [FULL, Balance(0), Balance(Decimal("0.25")), Balance(MAX_CREDITS)])
def test_a_balance_survives_json_exactly(balance: Balance) -> None:
    assert Balance.from_dict(json.loads(json.dumps(balance.to_dict()))) == balance


def test_a_key_limit_survives_json_and_is_present_only_if_requested() -> None:
    limited = Balance(balance=10, key_limit=KeyLimit("no_reset", 20, 13))
    assert Balance.from_dict(limited.to_dict()) == limited
    assert "key_limit" not in Balance(balance=10).to_dict()


def test_the_dictionary_names_its_units() -> None:
    data = FULL.to_dict()
    assert (data["balance"], data["balance_usd"], data["low_balance_threshold"]) == (5_000_000, "2.50", 10_000)
    assert set(data) == {
        *("balance", "balance_usd", "low_balance", "low_balance_threshold", "last_updated"),
        *("auto_debit_status", "status", "status_explanation"),
    }


@pytest.mark.parametrize(
    "data",
    [
        *(None, [], "5", {}),
        *({"balance": wrong} for wrong in (None, True, "many", -1, 1.5)),
        *(FULL.to_dict() | wrong for wrong in ({"low_balance": "no"}, {"status": 1}, {"low_balance_threshold": False})),
    ],
    ids=repr,
)
def test_a_dictionary_that_is_not_a_balance_is_refused(data: Any) -> None:
    with pytest.raises(AimlBillingContractError):
        Balance.from_dict(data)


@pytest.mark.parametrize("top_up", [TopUp(is_enabled=False), TopUp(True, 5, 6), TopUp(True, 5, 6, 60.0)])
def test_a_balance_with_a_top_up_survives_json(top_up: TopUp) -> None:
    balance = Balance(balance=10, top_up=top_up)
    assert Balance.from_dict(json.loads(json.dumps(balance.to_dict()))) == balance


@pytest.mark.parametrize(
    "top_up",
    [
        "on",
        {},
        {"is_enabled": 1},
        {"is_enabled": True, "threshold": "x"},
        {"is_enabled": True, "threshold": 1, "amount": 1, "stuck_for": "x"},
    ],
)
def test_a_top_up_of_another_version_is_refused(top_up: Any) -> None:
    with pytest.raises(AimlBillingContractError):
        Balance.from_dict({"balance": 10, "top_up": top_up})
