"""Simulate jobs whose guards count each other, with the decisions of the real guard and a clock of its own."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.money.running_jobs import CountedTask, Turn, decide_when_affordable

# Seconds that Airflow takes to start a job in a free slot, and to note that one has ended.
STARTING, ENDING = (0.1, 3.0), (0.1, 1.0)


@dataclass
class Job:
    """
    A job of the simulation.

    :param price: what it costs, in credits.
    :param seconds: how long it runs before it is charged.
    :param charged_late: seconds between its end and its charge.
    :param kept: seconds that it stays counted after its work.
    """

    price: int
    seconds: float
    charged_late: float = 0
    kept: float = 0


class World:
    """
    An account, and jobs that start in the slots of a pool, each behind a guard that counts the others.

    :param jobs: the jobs, in the order in which they start. Each is an index of a mapped task.
    :param balance: what the account holds, in credits.
    :param slots: how many jobs run at once.
    :param max_wait: as in the guard.
    :param chance: decides all that differs between two runs.
    :param highest_price: the price that others are counted with; ``None`` for the price of the job that counts.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        balance: int,
        slots: int,
        max_wait: float,
        chance: random.Random,
        highest_price: int | None = None,
    ) -> None:
        self.balance, self.max_wait, self.chance = balance, max_wait, chance
        self.task = CountedTask("dag.task", None if highest_price is None else Amount(highest_price))
        self.first = chance.randrange(1_000)
        self.now, self.running, self.held = 0.0, 0, 0
        self.ran: list[Job] = []
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._queue = list(enumerate(jobs))[::-1]
        for _ in range(slots):
            self._after(chance.uniform(*STARTING), self._start)

    def run(self) -> World:
        """Let time pass until all jobs have ended and all charges have posted."""
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            action()
        return self

    @property
    def spent(self) -> int:
        """What all jobs cost that ran, in credits."""
        return sum(job.price for job in self.ran)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def _start(self) -> None:
        if not self._queue:
            return
        index, job = self._queue.pop()
        self.running += 1
        decision = decide_when_affordable(
            Gate(Amount(job.price)),
            lambda: {self.task: self.running},
            lambda: Balance(balance=max(self.balance, 0)),
            turn=Turn.of(self.first + index, self.max_wait, self.now),
            clock=lambda: self.now,
            chance=self.chance,
        )

        def look() -> None:
            try:
                seconds, _ = next(decision)
            except StopIteration as end:
                if end.value.clears:
                    self.ran.append(job)
                    self._after(job.seconds, work_ends)
                else:
                    self.held += 1
                    leave()
            else:
                self._after(seconds, look)

        def work_ends() -> None:
            self._after(job.charged_late, charge)
            self._after(job.kept, leave)

        def charge() -> None:
            self.balance -= job.price

        def leave() -> None:
            self._after(self.chance.uniform(*ENDING), end)

        def end() -> None:
            self.running -= 1
            self._after(self.chance.uniform(*STARTING), self._start)

        look()


DURATIONS: dict[str, Callable[[random.Random], float]] = {
    "the same for all": lambda chance: 20.0,
    "±50 %": lambda chance: chance.uniform(10, 30),
    "a few very long": lambda chance: min(chance.paretovariate(1.2) * 4, 600),
    "a second or less": lambda chance: chance.uniform(0, 1),
}
PRICES: dict[str, Callable[[random.Random], int]] = {
    "the same for all": lambda chance: 1_000_000,
    "±50 %": lambda chance: chance.randint(500_000, 1_500_000),
    "a few ten times as high": lambda chance: 1_000_000 if chance.random() < 0.1 else 100_000,
}
