"""An account with money for four of ten jobs, and what each way of gating them lets through, by the real rule."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from airflow_provider_aimlbilling.balance import Amount, Balance, Gate
from airflow_provider_aimlbilling.sandbox_account import Account

JOBS, MONEY, PRICE = 10, 4, 1_000_000  # credits for a job; the account has four times that
RUNS = 300


def let_through(gated: str, slots: int, late: float, asks: int, chance: random.Random) -> int:
    """
    Count the jobs that spend in one run.

    :param gated: ``once`` ahead of all jobs, ``ahead`` of each but before any job begins, or ``inside`` each.
    :param slots: how many jobs are in flight at once, as the slots of an Airflow pool; a free slot is filled at once.
    :param late: how long after a job's end its charge lands, in mean lengths of a job.
    :param asks: what each gate asks for, in prices of a job.
    """
    account = Account(Amount(MONEY * PRICE), Amount(0), "key")
    gate = Gate(Amount(asks * PRICE))
    events: list[tuple[float, int, Callable[[float], None]]] = []
    waiting, spent, number = list(range(JOBS)), 0, 0

    def clears() -> bool:
        return gate.decide(Balance(balance=account.balance.credits)).clears

    def at(time: float, what: Callable[[float], None]) -> None:
        nonlocal number
        number += 1  # of two events at one time the first comes first: a charge, then the next job
        heapq.heappush(events, (time, number, what))

    def begin(now: float) -> None:
        nonlocal spent
        while waiting:
            waiting.pop()
            if gated == "inside" and not clears():
                continue  # it is skipped, and the next one takes its slot
            spent += 1
            ends = now + chance.uniform(0.5, 1.5)
            at(ends + late, lambda _: account.spend(Amount(PRICE)))
            at(ends, begin)
            return

    if gated != "inside":
        waiting = [job for job in waiting if clears()]
    for _ in range(slots):
        at(0.0, begin)
    while events:
        time, _, what = heapq.heappop(events)
        what(time)
    return spent


WAYS: dict[str, tuple[str, int, float, int]] = {
    "one gate for the price of one job, ahead of all ten": ("once", 10, 0, 1),
    "one gate for the price of all ten (`EstimateCostOperator`)": ("once", 10, 0, 10),
    "a gate ahead of each job, all ten at once": ("ahead", 10, 0, 1),
    "a gate ahead of each job, and a pool of 1 for the jobs": ("ahead", 1, 0, 1),
    "a guard in each job, all ten at once": ("inside", 10, 0, 1),
    "a guard in each job, pool of 3": ("inside", 3, 0, 1),
    "a guard in each job, pool of 2": ("inside", 2, 0, 1),
    "a guard in each job, pool of 1": ("inside", 1, 0, 1),
    "… and charges land as late as a job takes": ("inside", 1, 1, 1),
    "… and the guard asks for the price of three": ("inside", 1, 1, 3),
}


def found() -> dict[str, list[int]]:
    """Give for each way how many jobs spent in each run, from the fewest to the most."""
    chance = random.Random(4)
    return {way: sorted(let_through(*how, chance) for _ in range(RUNS)) for way, how in WAYS.items()}


def table() -> str:
    """Give the table of the docs."""
    lines = ["| ten jobs, money for four | jobs that spend | overspent by, at most |", "| --- | --- | --- |"]
    for way, counts in found().items():
        least, most = counts[0], counts[-1]
        shown = f"{least}" if least == most else f"{least} to {most}"
        lines.append(f"| {way} | {shown} | {max(most - MONEY, 0)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
