"""EstimateRunwayOperator in DAG runs: a range, the threshold that a gate takes, or the reason why there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from support import KEY

from airflow_provider_aimlbilling.exceptions import AimlBillingAuthError, AimlBillingRunwayError
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.usage import SETTLED_AFTER
from airflow_provider_aimlbilling.sandbox import Sandbox

IMPORT = "from airflow_provider_aimlbilling.operators.runway import EstimateRunwayOperator\n"


def noon(days_ago: int) -> datetime:
    """Return noon, so many days before the day that counts as today."""
    today = datetime.now(timezone.utc) - SETTLED_AFTER
    return today.replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)


@pytest.fixture
def history(sandbox: Sandbox) -> Callable[..., None]:
    """Return a function that records what was spent on each day up to yesterday, and then sets the balance."""

    def record(*newest_last: str, balance: str = "10 USD") -> None:
        sandbox.set_balance("1000 USD")
        for ago, amount in enumerate(reversed(newest_last), start=1):
            sandbox.spend(amount, "a", at=noon(ago))
        sandbox.set_balance(balance)

    return record


def test_the_range_the_rates_and_the_threshold_are_pushed(run_dag: Any, history: Any) -> None:
    history("1 USD", "0 USD", "4 USD", "4 USD", "4 USD", "1 USD", "0.50 USD", "0.50 USD", balance="12 USD")
    run = run_dag(f"{IMPORT}EstimateRunwayOperator(task_id='gate')")
    runway = run.xcom(key="runway")
    assert run.xcom() == "24000000 credits"
    assert (runway["days"], runway["threshold_credits"], runway["threshold_usd"]) == ("3", 24_000_000, "12.00")
    assert (runway["shortest_days"], runway["longest_days"], runway["history_days"]) == ("3.0", "6.4", 8)
    assert (runway["cautious_per_day_usd"], runway["mean_per_day_usd"]) == ("4.00", "1.875")
    assert (runway["spending_of"], runway["auto_debit_status"]) == ("key", "disabled")
    assert "12.00 USD lasts 3.0 to 6.4 days" in run.log
    assert KEY not in run.log + json.dumps(runway)


@pytest.mark.parametrize(("balance", "state"), [("6 USD", "success"), ("5.9999995 USD", "failed")])
def test_a_gate_takes_the_days_that_the_money_must_last(run_dag: Any, history: Any, balance: str, state: str) -> None:
    history(*["2 USD"] * 10, balance=balance)
    run = run_dag(
        f"""
        {IMPORT}
        runway = EstimateRunwayOperator(task_id="runway", days="{{{{ params.days }}}}", params={{"days": 3}})
        BalanceCheckOperator(task_id="gate", threshold=runway.output)
        BalanceCheckOperator(
            task_id="pulled", threshold="{{{{ ti.xcom_pull('runway', key='runway')['threshold_credits'] }}}}"
        ) << runway
        """
    )
    assert (run.state("runway"), run.state(), run.state("pulled")) == ("success", state, state)


@pytest.mark.parametrize(
    ("days", "arguments", "message"),
    [
        ([], "", "nothing was spent in the 28 days before"),
        (["1 USD"] * 6, "", "7 complete days are needed"),
        (["1 USD"] * 7, "days=0", "is not above 0"),
        (["1 USD"] * 7, "days='{{ none }}'", "is not a quantity of 'day'"),
        (["1 USD"] * 7, "tz='Mars/Olympus'", "'Mars/Olympus' is not a time zone"),
        (["1 USD"] * 7, "earlier='{}'", "earlier is not an XCom"),
        (["1 USD"] * 7, "earlier='None'", "earlier is not an XCom"),
    ],
)
def test_no_figure_is_made_up(run_dag: Any, history: Any, days: list[str], arguments: str, message: str) -> None:
    history(*days)
    run = run_dag(f"{IMPORT}EstimateRunwayOperator(task_id='gate', {arguments})")
    assert run.state() == "failed"
    assert message in run.log
    assert (run.xcom(), run.xcom(key="runway")) == (None, None)


def test_auto_top_up_is_reported(run_dag: Any, sandbox: Sandbox, history: Any) -> None:
    history(*["1 USD"] * 7)
    sandbox.set_auto_top_up("5 USD", "20 USD")
    run = run_dag(f"{IMPORT}EstimateRunwayOperator(task_id='gate')")
    assert run.xcom(key="runway")["auto_debit_status"] == "enabled"
    assert "Auto top-up: enabled." in run.log


def test_v2_reports_auto_top_up_as_well(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, history: Callable[..., None]
) -> None:
    history(*["1 USD"] * 7)
    monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", sandbox.connection(api_version="v2"))
    assert AimlBillingHook().get_runway().auto_debit_status == "disabled"


def test_an_account_without_credits_lasts_no_day_and_still_has_a_threshold(run_dag: Any, history: Any) -> None:
    history(*["1 USD"] * 7, balance="0 USD")
    run = run_dag(f"{IMPORT}EstimateRunwayOperator(task_id='gate')")
    assert run.xcom() == "6000000 credits"
    assert run.xcom(key="runway")["longest_days"] == "0.0"


def test_today_does_not_count(sandbox: Sandbox, history: Callable[..., None]) -> None:
    history(*["1 USD"] * 7)
    before = AimlBillingHook().get_runway()
    sandbox.set_balance("100 USD")
    sandbox.spend("90 USD", "a", at=noon(0))
    sandbox.spend("90 USD", "a")
    after = AimlBillingHook().get_runway()
    assert (after.cautious, after.mean, after.last_day) == (before.cautious, before.mean, before.last_day)


def test_days_are_those_of_the_time_zone(sandbox: Sandbox) -> None:
    """Noon in UTC is the next day in Auckland."""
    sandbox.set_balance("100 USD")
    for ago in range(2, 11):
        sandbox.spend("1 USD", at=noon(ago))
    utc, auckland = (AimlBillingHook().get_runway(tz=tz) for tz in ("UTC", "Pacific/Auckland"))
    assert auckland.first_day == utc.first_day + timedelta(days=1)
    assert auckland.cautious == utc.cautious
    assert sum("tz=Pacific%2FAuckland" in request.path for request in sandbox.requests) == 1


@pytest.mark.parametrize("top_up", ["0 USD", "50 USD"])
def test_an_earlier_balance_adds_what_others_spent(run_dag: Any, sandbox: Sandbox, history: Any, top_up: str) -> None:
    """After noon three days ago there were 24 USD. Since then this key spent 2 USD, and 12 USD went elsewhere."""
    history(*["1 USD"] * 10, balance="10 USD")
    sandbox.account.ledger = [entry for entry in sandbox.account.ledger if entry.type == "MODEL_USAGE"]
    if top_up != "0 USD":
        sandbox.top_up(top_up, at=noon(1))
        sandbox.account.balance = Amount.parse("60 USD")
    earlier = {"read_at": (noon(3) + timedelta(hours=1)).isoformat(), "balance_credits": 48_000_000}
    run = run_dag(f"{IMPORT}EstimateRunwayOperator(task_id='gate', earlier={json.dumps(earlier)!r})")
    runway = run.xcom(key="runway")
    days = (datetime.fromisoformat(runway["read_at"]) - datetime.fromisoformat(earlier["read_at"])) / timedelta(days=1)
    assert float(runway["others_per_day_usd"]) == pytest.approx(12 / days, abs=0.001)
    assert float(runway["mean_per_day_usd"]) == pytest.approx(1 + 12 / days, abs=0.001)
    assert runway["spending_of"] == "account"
    # What it pushed is what a later run takes.
    later = AimlBillingHook().get_runway(
        earlier=(datetime.fromisoformat(runway["read_at"]) - timedelta(days=1), Amount(runway["balance_credits"]))
    )
    assert later.others is not None


def test_the_first_run_has_no_earlier_balance(run_dag: Any, history: Any) -> None:
    history(*["1 USD"] * 7)
    pull = "{{ ti.xcom_pull(task_ids='gate', key='runway', include_prior_dates=True) | tojson }}"
    run = run_dag(f'{IMPORT}EstimateRunwayOperator(task_id="gate", earlier="{pull}")')
    assert run.xcom(key="runway")["spending_of"] == "key"


def test_an_earlier_balance_of_just_now_is_refused(history: Callable[..., None]) -> None:
    history(*["1 USD"] * 7)
    with pytest.raises(AimlBillingRunwayError, match="must be 20 hours apart"):
        AimlBillingHook().get_runway(earlier=(datetime.now(timezone.utc) - timedelta(hours=19), Amount(1)))
    with pytest.raises(ValueError, match="time zone"):
        AimlBillingHook().get_runway(earlier=(datetime(2026, 11, 1), Amount(1)))  # noqa: DTZ001


def test_a_refused_key_is_reported_as_such(run_dag: Any, sandbox: Sandbox) -> None:
    sandbox.fail(status=401)
    run = run_dag(f"{IMPORT}EstimateRunwayOperator(task_id='gate')")
    assert run.state() == "failed"
    assert AimlBillingAuthError.__name__ in run.log
