"""The account behind the sandbox."""

from __future__ import annotations

from airflow_provider_aimlbilling.sandbox import Sandbox


def test_an_auto_top_up_that_works_pays_at_once(sandbox: Sandbox) -> None:
    sandbox.set_auto_top_up("5 USD", "20 USD")
    sandbox.spend("1 USD", "a")
    assert sandbox.balance.credits == 43_000_000


def test_an_auto_top_up_whose_payments_fail_pays_nothing(sandbox: Sandbox) -> None:
    sandbox.set_auto_top_up("5 USD", "20 USD", payments_work=False)
    sandbox.spend("1 USD", "a")
    assert sandbox.balance.credits == 3_000_000


def test_no_more_is_charged_than_is_left(sandbox: Sandbox) -> None:
    sandbox.spend("9 USD", "a")
    assert sandbox.balance.credits == 0
    assert sandbox.account.ledger[-1].credits == 5_000_000
