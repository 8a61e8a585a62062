"""What a waiting gate logs: what is missing, when it changes, and not more often than somebody can read."""

from __future__ import annotations

import pytest

from airflow_provider_aimlbilling.exceptions import AimlBillingUnavailable, InsufficientBalanceError
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance, KeyLimit
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.waiting import wait_state
from airflow_provider_aimlbilling.waiting.wait_state import WaitState

pytestmark = pytest.mark.pure
USD = 2_000_000


class Log:
    """Keeps the lines, without their level."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str, *arguments: object) -> None:
        self.lines.append(message % arguments)

    warning = info


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [1000.0]
    monkeypatch.setattr(wait_state.time, "monotonic", lambda: time[0])
    return time


def waiting(threshold: str = "2.50 USD", **earlier: str) -> tuple[WaitState, list[str]]:
    log = Log()
    return WaitState(Gate.for_threshold(threshold, optional=False), log, **earlier), log.lines


def test_the_first_words_say_what_is_missing() -> None:
    state, lines = waiting()
    state.update(Balance(800_000))
    assert lines == ["Waiting: 2.10 USD missing: balance 0.40 USD, needs 2.50 USD."]
    assert state.summary() == "2.10 USD missing: balance 0.40 USD, needs 2.50 USD."
    state.update(Balance(6_000_000))
    assert lines[-1] == "Gate open: balance 3.00 USD, needs 2.50 USD."


def test_the_key_s_limit_is_named_if_it_is_what_is_missing() -> None:
    state, lines = waiting()
    state.update(Balance(9 * USD, key_limit=KeyLimit("month", 5 * USD, 4 * USD)))
    assert lines == [
        "Waiting: 1.50 USD missing: the key may still spend 1.00 USD (limit 5.00 USD this month, spent 4.00 USD), "
        "balance 9.00 USD, needs 2.50 USD."
    ]


def test_a_changed_balance_is_logged_once_a_minute_at_most(now: list[float]) -> None:
    state, lines = waiting()
    for second in range(600):
        now[0] += 1
        state.update(Balance(800_000 + second))
    assert len(lines) == 11, "the first reading, the first change, and then one a minute"
    assert state.verdict
    assert state.verdict.balance == Balance(800_599), "the verdict is that of the last reading"


def test_a_change_within_the_minute_is_logged_after_it(now: list[float]) -> None:
    state, lines = waiting()
    for seconds, usd in ((0, "0.40"), (1, "1.40"), (30, "1.50"), (60, "1.60"), (62, "1.60"), (200, "1.60")):
        now[0] = 1000.0 + seconds
        state.update(Balance(Amount.parse(f"{usd} USD").credits))
    assert [line.partition(":")[2].split(",")[0] for line in lines] == [
        " 2.10 USD missing: balance 0.40 USD",
        " 1.10 USD missing: balance 1.40 USD",
        " 0.90 USD missing: balance 1.60 USD",
    ]


@pytest.mark.parametrize(("balance", "logged"), [(800_000, 0), (2_800_000, 1)])
def test_a_triggerer_does_not_repeat_what_the_worker_has_logged(balance: int, logged: int) -> None:
    """But a partial top-up while no triggerer was running is news."""
    worker, _ = waiting()
    worker.update(Balance(800_000))
    state, lines = waiting(last_seen=worker.last_seen)
    state.update(Balance(balance))
    assert len(lines) == logged
    state.update(Balance(2_900_000))
    assert lines[-1].startswith("Waiting: 1.05 USD missing")


def test_an_account_that_runs_out_of_credits_is_news(now: list[float]) -> None:
    state, lines = waiting()
    state.update(Balance(800_000))
    now[0] += 61
    state.update(InsufficientBalanceError("The account is out of credits (403): top it up."))
    assert lines[-1] == "Waiting: The account is out of credits (403): top it up."


def test_an_error_and_its_end_are_logged_once_each(now: list[float]) -> None:
    state, lines = waiting()
    for reading in (Balance(800_000), AimlBillingUnavailable("down"), AimlBillingUnavailable("down"), Balance(800_000)):
        now[0] += 10
        state.update(reading)
    assert [line.split(":")[0] for line in lines] == ["Waiting", "Still waiting", "Waiting"]


@pytest.mark.parametrize(
    ("threshold", "warned"), [("3 credits", True), ("19999 credits", True), ("0.01 USD", False), ("0 credits", True)]
)
def test_a_threshold_below_one_cent_is_most_likely_a_mistake(threshold: str, warned: bool) -> None:
    state, lines = waiting(threshold)
    state.update(Balance(800_000))
    state.update(Balance(0))
    assert sum("is below one cent" in line for line in lines) == warned
