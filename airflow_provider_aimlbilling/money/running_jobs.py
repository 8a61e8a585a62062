"""Jobs that run at the same time, and whether the account can pay for all of them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError, InsufficientBalanceError
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.gate import Gate, Verdict

# Jobs give up one after another, this many seconds apart. That is longer than Airflow usually takes to note that a task
# has ended. Otherwise two jobs might give up where one would be enough.
_TURN = 3.0
_NAME = re.compile(r"[\w.-]*[\w-]\.[\w-][\w.-]*")  # a DAG id, a dot and a task id, as Airflow allows them
_CHECKS_PER_WAIT = 12
_SHORTEST_INTERVAL, _LONGEST_INTERVAL = 0.2, 10.0


@dataclass(frozen=True)
class CountedTask:
    """
    A task whose running instances are counted.

    :param name: ``dag_id.task_id``.
    :param price: the most that one instance costs; ``None`` if each costs as much as the job that counts.
    """

    name: str
    price: Amount | None = None

    @property
    def ids(self) -> list[tuple[str, str]]:
        """
        Every DAG id and task id that the name may mean.

        Both may contain dots: ``etl.scores.ask`` is the task ``scores.ask`` of ``etl``, or ``ask`` of ``etl.scores``.
        """
        parts = self.name.split(".")
        return [(".".join(parts[:at]), ".".join(parts[at:])) for at in range(1, len(parts))]


def parse_counted_tasks(count_running: object, own_name: str) -> list[CountedTask]:
    """
    Return the tasks to count, this task first.

    :param count_running: as in :func:`~airflow_provider_aimlbilling.guard.require_balance`, with templates rendered.
    :param own_name: ``dag_id.task_id`` of the task that counts.
    :raises AimlBillingThresholdError: ``count_running`` is something else, or a price in it is not an amount.
    """
    if isinstance(count_running, Iterable) and not isinstance(count_running, (str, bytes)):
        for name in count_running:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise _not_tasks(name)
    prices: dict[str, Amount | None] = {own_name: None}
    if isinstance(count_running, Mapping):
        for name, price in count_running.items():
            if price is None:
                raise AimlBillingThresholdError(
                    f"count_running has no price for {name}: the template or XCom that should provide it was empty. "
                    "Give the most that one job costs, or name the tasks in a list if each costs as much as this one."
                )
            prices[name] = amount = Amount.parse(price)
            if not amount.credits:
                raise AimlBillingThresholdError(
                    f"count_running prices {name} at 0, so that it would not count. Give the most that one job costs."
                )
    elif isinstance(count_running, Iterable) and not isinstance(count_running, (str, bytes)):
        prices |= dict.fromkeys(count_running)
    elif count_running is not True:
        raise _not_tasks(count_running)
    return [CountedTask(name, price) for name, price in prices.items()]


def _not_tasks(value: object) -> AimlBillingThresholdError:
    return AimlBillingThresholdError(
        f"count_running does not accept {value!r:.80}. Set it to True to count this task, to a list of "
        "other tasks to count as well, such as ['my_dag.my_task'], or to a dictionary with the highest price of each, "
        "such as {'my_dag.my_task': '2 USD'}."
    )


@dataclass(frozen=True)
class RunningJobs:
    """
    How many jobs are running, and what they cost together.

    :param price: what the job that counts costs.
    :param counts: the tasks that are counted, this task first, and how many of their instances are running.
    """

    price: Amount
    counts: Mapping[CountedTask, int]

    @property
    def total(self) -> int:
        """The number of jobs, including the one that counts."""
        return 1 + sum(self._others().values())

    @property
    def gate(self) -> Gate:
        """The gate that opens if the account can pay for all of them."""
        credits = int(self.price.rounded_up().credits)
        for task, count in self._others().items():
            credits += count * int((task.price or self.price).rounded_up().credits)
        return Gate(Amount(credits), note=f"{self.total} jobs are running" if self.total > 1 else "")

    def _others(self) -> dict[CountedTask, int]:
        own = next(iter(self.counts))
        # Airflow counts the job itself as well, except perhaps in a test without a database.
        return {**self.counts, own: max(self.counts[own] - 1, 0)}


@dataclass(frozen=True)
class Turn:
    """
    When a waiting job gives up.

    :param seconds: in how many seconds, or up to ``length`` later if more jobs than ``turns`` are running.
    :param length: seconds that a turn lasts.
    :param turns: how many turns there are.
    """

    seconds: float
    length: float
    turns: int

    @classmethod
    def of(cls, number: int, max_wait: float, now: float) -> Turn:
        """
        Return the turn of a job.

        :param number: the number of the job. Jobs with consecutive numbers have different turns, 19 in a minute.
        :param max_wait: every job gives up within this many seconds.
        :param now: seconds of a clock that all jobs share.
        """
        turns = max(int(max_wait / _TURN) - 1, 1)
        length = max_wait / (turns + 1)
        round_of_turns = length * turns
        seconds = (number % turns * length - now) % round_of_turns if max_wait else 0.0
        return cls(seconds, length, turns)


def decide_when_affordable(
    gate: Gate,
    count: Callable[[], Mapping[CountedTask, int]],
    read: Callable[[], Balance | InsufficientBalanceError],
    *,
    turn: Turn,
    clock: Callable[[], float],
    chance: random.Random,
) -> Generator[tuple[float, Verdict], None, Verdict]:
    """
    Wait until the account can pay for all running jobs, or until it is time for this job to give up.

    Jobs that wait are running as well, so they count each other. They give up at different times, and as soon as
    enough of them have given up, the others proceed.

    :param gate: the gate for this job; its threshold is the job's price.
    :param count: returns how many instances of each task are running, this task first.
    :param read: reads the balance.
    :param turn: when this job gives up.
    :param clock: returns the seconds of a monotonic clock.
    :param chance: varies the time between two checks.
    :returns: a generator. It yields how many seconds to wait before the next check, and the verdict that is the reason;
        it returns the final verdict.
    """
    if gate.threshold is None:
        raise AimlBillingThresholdError("count_running needs the price of one job as the threshold.")
    price = gate.threshold
    gives_up = clock() + turn.seconds
    interval = min(max(turn.seconds / _CHECKS_PER_WAIT, _SHORTEST_INTERVAL), _LONGEST_INTERVAL)
    extra = chance.uniform(0, turn.length)
    while True:
        # The count must come first. A job that is charged and ends between the two is then counted although its price
        # is no longer in the balance, which is safe. In the other order it would be missing from both.
        jobs = RunningJobs(price, count())
        reading = read()
        verdict = jobs.gate.decide(reading)
        if verdict.clears:
            return verdict
        for_this_job = gate.decide(reading)
        if not for_this_job.clears:
            return for_this_job  # no matter how many others give up
        remaining = gives_up - clock()
        if remaining <= 0 and extra and jobs.total > turn.turns:
            # Others have the same turn. Those that look a little later see that these have left.
            gives_up, remaining, extra = gives_up + extra, remaining + extra, 0.0
        if remaining <= 0:
            return verdict
        yield min(interval * chance.uniform(0.6, 1.4), remaining), verdict
