"""Jobs whose guards count each other never spend more together than the account holds."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import running_simulation
from running_simulation import DURATIONS, PRICES, Job, World

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.money.running_jobs import (
    CountedTask,
    RunningJobs,
    Turn,
    decide_when_affordable,
    parse_counted_tasks,
)

pytestmark = pytest.mark.pure

RUNS = 400  # for each of the twelve pairs of distributions
PRICE = 1_000_000


@pytest.mark.parametrize("duration", DURATIONS)
@pytest.mark.parametrize("price", PRICES)
def test_simulated_jobs_never_overspend(price: str, duration: str) -> None:
    """With any prices, durations, slots and balance."""
    chance = random.Random(f"{price} {duration}")
    for _ in range(RUNS):
        jobs = [Job(PRICES[price](chance), DURATIONS[duration](chance)) for _ in range(chance.randint(2, 30))]
        balance = chance.randint(0, sum(job.price for job in jobs))
        highest = None if price == "the same for all" else max(job.price for job in jobs)
        world = World(jobs, balance, chance.randint(1, 30), chance.choice([0, 10, 60]), chance, highest).run()
        assert world.spent <= balance
        assert len(world.ran) + world.held == len(jobs)
        assert world.running == 0


def test_jobs_with_late_charges_never_overspend_if_they_are_kept_counted() -> None:
    chance = random.Random(5)
    for _ in range(RUNS):
        late = chance.uniform(0, 60)
        jobs = [Job(PRICE, chance.uniform(0, 30), charged_late=late, kept=late) for _ in range(chance.randint(2, 30))]
        balance = chance.randint(0, len(jobs)) * PRICE
        assert World(jobs, balance, chance.randint(1, 30), 60, chance).run().spent <= balance


def test_jobs_with_late_charges_overspend_if_they_are_not_kept_counted() -> None:
    """The documentation warns of it, so it must be true."""
    chance = random.Random(6)
    jobs = [Job(PRICE, 5, charged_late=120) for _ in range(10)]
    assert World(jobs, 4 * PRICE, 3, 60, chance).run().spent > 4 * PRICE


@pytest.mark.parametrize("duration", DURATIONS)
def test_jobs_do_not_starve_each_other(duration: str) -> None:
    """Of ten jobs that start together with money for four, at least three run, and all four in most runs."""
    chance = random.Random(duration)
    ran = []
    for _ in range(RUNS):
        world = World([Job(PRICE, DURATIONS[duration](chance)) for _ in range(10)], 4 * PRICE, 10, 60, chance).run()
        ran.append(len(world.ran))
    assert min(ran) >= 3
    assert ran.count(4) > RUNS * 0.9


@pytest.mark.parametrize(("jobs", "money", "max_wait"), [(100, 4, 60), (40, 1, 60), (10, 4, 5), (10, 4, 1)])
def test_more_jobs_than_turns_do_not_all_give_up(
    monkeypatch: pytest.MonkeyPatch, jobs: int, money: int, max_wait: float
) -> None:
    """Also if all of them start in the same instant, so that those of one turn would leave in the same instant."""
    monkeypatch.setattr(running_simulation, "STARTING", (0, 0))
    for seed in range(20):
        world = World([Job(PRICE, 20)] * jobs, money * PRICE, jobs, max_wait, random.Random(seed)).run()
        assert 1 <= len(world.ran) <= money


def test_jobs_that_can_all_be_paid_all_run_at_once() -> None:
    world = World([Job(PRICE, 20) for _ in range(10)], 10 * PRICE, 10, 60, random.Random(7)).run()
    assert len(world.ran) == 10
    assert world.now < 30


def one_decision(counts: list[int], balances: list[int], *, seconds: float = 60) -> tuple[list[float], Any]:
    """Return the waits and the verdict of one job among others, whose counts and balances change from look to look."""
    now, waits = 0.0, []
    task = CountedTask("dag.task")
    decision = decide_when_affordable(
        Gate(Amount(PRICE)),
        lambda: {task: counts.pop(0) if len(counts) > 1 else counts[0]},
        lambda: Balance(balance=balances.pop(0) if len(balances) > 1 else balances[0]),
        turn=Turn(seconds, 0, 1),
        clock=lambda: now,
        chance=random.Random(8),
    )
    while True:
        try:
            seconds, _ = next(decision)
        except StopIteration as end:
            return waits, end.value
        waits.append(seconds)
        now += seconds


def test_jobs_are_counted_before_the_balance_is_read() -> None:
    """A job that is charged and ends between the two would be missing from both in the other order."""
    money, running = [4 * PRICE], [4]  # money for four, and four jobs run, one of them this one

    def count() -> dict[CountedTask, int]:
        counted = {CountedTask("dag.task"): running[0]}
        another_ends()
        return counted

    def read() -> Balance:
        balance = Balance(balance=money[0])
        another_ends()
        return balance

    def another_ends() -> None:
        money[0], running[0] = 0, 1  # they cost more than they should have: nothing is left for this one

    decision = decide_when_affordable(
        Gate(Amount(PRICE)), count, read, turn=Turn(0, 0, 1), clock=lambda: 0, chance=random.Random(9)
    )
    with pytest.raises(StopIteration) as end:
        next(decision)
    assert not end.value.value.clears


def test_a_job_waits_until_others_have_left() -> None:
    waits, verdict = one_decision([10, 10, 4], [4 * PRICE])
    assert len(waits) == 2
    assert verdict.clears


def test_a_job_that_the_account_cannot_pay_does_not_wait() -> None:
    waits, verdict = one_decision([10], [PRICE - 1])
    assert not waits
    assert verdict.threshold == Amount(PRICE)


def test_a_job_gives_up_when_it_is_its_turn() -> None:
    waits, verdict = one_decision([1_000], [4 * PRICE], seconds=30)
    assert sum(waits) == pytest.approx(30)
    assert not verdict.clears
    assert verdict.reason == "498.00 USD missing: balance 2.00 USD, needs 500.00 USD (1000 jobs are running)"


@pytest.mark.parametrize("max_wait", [0, 0.5, 3, 60, 3600])
def test_every_job_has_a_turn_within_max_wait(max_wait: float) -> None:
    now = 1_800_000_000.25
    turns = [Turn.of(number, max_wait, now) for number in range(5_000)]
    assert min(turn.seconds for turn in turns) >= 0
    assert max(turn.seconds + turn.length for turn in turns) <= max_wait
    assert turns[0].turns == max(max_wait // 3 - 1, 1)


def test_consecutive_jobs_give_up_at_different_times_whenever_they_start() -> None:
    starts = [7.0, 9.5] * 9 + [7.0]
    gives_up = sorted(now + Turn.of(number, 60, now).seconds for number, now in enumerate(starts))
    assert all(later - earlier > 2.9 for earlier, later in itertools.pairwise(gives_up))


def test_other_tasks_count_with_their_own_price() -> None:
    own, other, same = CountedTask("dag.a"), CountedTask("dag.b", Amount(5)), CountedTask("dag.c")
    jobs = RunningJobs(Amount(100), {own: 3, other: 7, same: 2})
    assert jobs.total == 12
    assert jobs.gate.threshold == Amount(100 + 2 * 100 + 7 * 5 + 2 * 100)


def test_instances_of_this_task_count_with_its_highest_price_and_this_job_with_its_own() -> None:
    own = CountedTask("dag.a", Amount(500))
    assert RunningJobs(Amount(100), {own: 3}).gate.threshold == Amount(100 + 2 * 500)


def test_a_job_counts_itself_where_airflow_does_not() -> None:
    assert RunningJobs(Amount(100), {CountedTask("dag.a"): 0}).gate.threshold == Amount(100)


def test_parts_of_a_credit_are_rounded_up_for_each_job() -> None:
    price = Amount.parse("0.5 credits")
    assert RunningJobs(price, {CountedTask("dag.a"): 3}).gate.threshold == Amount(3)


def test_a_name_with_dots_means_every_dag_and_task_that_it_can() -> None:
    assert CountedTask("etl.scores.ask").ids == [("etl", "scores.ask"), ("etl.scores", "ask")]


@pytest.mark.parametrize(
    ("count_running", "tasks"),
    [
        (True, [CountedTask("dag.own")]),
        (["dag.other"], [CountedTask("dag.own"), CountedTask("dag.other")]),
        (("dag.own", "dag.other"), [CountedTask("dag.own"), CountedTask("dag.other")]),
        ({"dag.own": "2 USD"}, [CountedTask("dag.own", Amount(4_000_000))]),
        ({"dag.other": 5}, [CountedTask("dag.own"), CountedTask("dag.other", Amount(5))]),
    ],
)
def test_this_task_always_counts(count_running: object, tasks: list[CountedTask]) -> None:
    assert parse_counted_tasks(count_running, "dag.own") == tasks


@pytest.mark.parametrize(
    "count_running",
    [
        "dag.task",
        b"dag.task",
        None,
        1,
        [["dag", "task"]],
        [" dag.task"],
        ["dag.task\n"],
        ["a.b, c.d"],
        ["task"],
        [".task"],
        ["dag."],
        [None],
        {"dag.task": None},
        {"dag.task": "x"},
    ],
)
def test_tasks_that_cannot_be_counted_are_refused(count_running: object) -> None:
    with pytest.raises(AimlBillingThresholdError):
        parse_counted_tasks(count_running, "dag.own")


@pytest.mark.parametrize("price", [0, "0 USD", "0 credits"])
def test_a_task_that_would_not_count_is_refused(price: object) -> None:
    with pytest.raises(AimlBillingThresholdError, match="would not count"):
        parse_counted_tasks({"dag.other": price}, "dag.own")
