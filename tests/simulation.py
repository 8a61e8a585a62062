"""Simulate ten jobs and an account with money for four, and count how many jobs each way of gating lets through."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from running_simulation import DURATIONS, Job, World

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.sandbox.account import Account

JOBS, MONEY, PRICE = 10, 4, 1_000_000  # PRICE is what a job costs, in credits; the account holds MONEY * PRICE
RUNS = 300


def count_jobs(gated: str, slots: int, charge_delay: float, required: int, chance: random.Random) -> int:
    """
    Return how many jobs spend in one run.

    :param gated: ``once`` for one gate before all jobs, ``ahead`` for a gate before each job but before any job starts,
        or ``inside`` for a guard in each job.
    :param slots: how many jobs run at once, like the slots of an Airflow pool; a free slot is filled at once.
    :param charge_delay: time between the end of a job and its charge, in mean durations of a job.
    :param required: what each gate requires, in prices of a job.
    """
    account = Account(Amount(MONEY * PRICE), Amount(0), "key")
    gate = Gate(Amount(required * PRICE))
    events: list[tuple[float, int, Callable[[float], None]]] = []
    waiting, spent, number = list(range(JOBS)), 0, 0

    def clears() -> bool:
        return gate.decide(Balance(balance=account.balance.credits)).clears

    def at(time: float, action: Callable[[float], None]) -> None:
        nonlocal number
        number += 1  # events at the same time happen in this order: a charge, then the next job
        heapq.heappush(events, (time, number, action))

    def start_next(now: float) -> None:
        nonlocal spent
        while waiting:
            waiting.pop()
            if gated == "inside" and not clears():
                continue  # the job is skipped, and the next one takes its slot
            spent += 1
            end = now + chance.uniform(0.5, 1.5)
            at(end + charge_delay, lambda _: account.spend(Amount(PRICE)))
            at(end, start_next)
            return

    if gated != "inside":
        waiting = [job for job in waiting if clears()]
    for _ in range(slots):
        at(0.0, start_next)
    while events:
        time, _, action = heapq.heappop(events)
        action(time)
    return spent


# The arguments of count_jobs for each way of gating, under the words of the table in the docs.
WAYS: dict[str, tuple[str, int, float, int]] = {
    "one gate for the price of one job, ahead of all ten": ("once", 10, 0, 1),
    "one gate for the price of all ten (`EstimateCostOperator`)": ("once", 10, 0, 10),
    "a gate ahead of each job, all ten at once": ("ahead", 10, 0, 1),
    "a gate ahead of each job, and a pool of 1 for the jobs": ("ahead", 1, 0, 1),
    "a guard in each job, all ten at once": ("inside", 10, 0, 1),
    "a guard in each job, pool of 3": ("inside", 3, 0, 1),
    "a guard in each job, pool of 2": ("inside", 2, 0, 1),
    "a guard in each job, pool of 1": ("inside", 1, 0, 1),
    "the same, and each charge posts one job's duration late": ("inside", 1, 1, 1),
    "the same, and the threshold is the price of three jobs": ("inside", 1, 1, 3),
}

# Guards that count running jobs: the slots, and in seconds how late charges post and how long jobs stay counted.
COUNTING_WAYS: dict[str, tuple[int, float, float]] = {
    "guards with `count_running=True`, all ten at once": (10, 0, 0),
    "guards with `count_running=True`, pool of 3": (3, 0, 0),
    "the same, and charges post one job's duration late": (3, 20, 0),
    "the same, and each job stays counted for that time (`keep_counted`)": (3, 20, 20),
}


def count_jobs_that_count(slots: int, late: float, kept: float, chance: random.Random) -> int:
    """Return how many jobs spend in one run, with guards that count the others. The arguments are in COUNTING_WAYS."""
    duration = DURATIONS["±50 %"]
    jobs = [Job(PRICE, duration(chance), charged_late=late, kept=kept) for _ in range(JOBS)]
    return len(World(jobs, MONEY * PRICE, slots, 60, chance).run().ran)


def found() -> dict[str, list[int]]:
    """Return for each way how many jobs spent in each run, from the fewest to the most."""
    chance = random.Random(4)
    counts = {way: sorted(count_jobs(*how, chance) for _ in range(RUNS)) for way, how in WAYS.items()}
    counting = COUNTING_WAYS.items()
    return counts | {way: sorted(count_jobs_that_count(*how, chance) for _ in range(RUNS)) for way, how in counting}


def table() -> str:
    """Return the table of the docs."""
    lines = ["| ten jobs, money for four | jobs that spend | overspent by, at most (jobs) |", "| --- | --- | --- |"]
    for way, counts in found().items():
        fewest, most = counts[0], counts[-1]
        shown = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        lines.append(f"| {way} | {shown} | {max(most - MONEY, 0)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
