"""The auto top-up next to a balance: bounded in requests, and never in the way of the balance."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_aimlbilling.client import AimlBillingClient
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sandbox.routes import ForbiddenError, respond


def test_an_account_with_many_entries_is_busy_not_stuck_and_four_pages_are_read(
    sandbox: Sandbox, client: AimlBillingClient
) -> None:
    sandbox.set_auto_top_up("5 USD", "20 USD", payments_work=False)
    for _ in range(1000):
        sandbox.spend(1)
    top_up = client.get_balance(top_up_grace=3600).top_up
    assert top_up is not None
    assert top_up.stuck_for is None
    assert len(sandbox.requests) == 6, "balance, auto top-up, and four pages of the ledger"


def test_a_failure_to_read_the_auto_top_up_does_not_hide_the_balance(
    sandbox: Sandbox, client: AimlBillingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_detail(account: Any, path: str, *arguments: Any) -> Any:
        if path == "/v2/billing/detail":
            raise ForbiddenError("Not with this key.")
        return respond(account, path, *arguments)

    monkeypatch.setattr("airflow_provider_aimlbilling.sandbox.handler.respond", refuse_detail)
    balance = client.get_balance(top_up_grace=3600)
    assert (balance.balance, balance.top_up) == (5_000_000, None)
