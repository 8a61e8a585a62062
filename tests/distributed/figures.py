"""What a fault did, in figures: the tests check them, and the table at the end of a run shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from airflow_provider_aimlbilling.sandbox import Sandbox

INTERVAL = 2.0  # seconds, the poke_interval of the gates
WINDOW = 4  # intervals in which requests are counted


@dataclass
class Figures:
    """The rows of the table."""

    rows: list[tuple[object, ...]] = field(default_factory=list)

    def add(self, fault: str, ended: dict[str, int], requests: list[float]) -> None:
        """
        Add a row.

        :param fault: what was done.
        :param ended: how many tasks ended ``right``, ended ``wrong``, or are ``stuck``.
        :param requests: when the API was asked, in seconds.
        """
        numbers = [ended.get(name, 0) for name in ("right", "wrong", "stuck")]
        self.rows.append((fault, *numbers, len(requests), busiest(requests), f"{longest_gap(requests):.1f} s"))

    def table(self) -> str:
        """Return the table in Markdown."""
        lines = [
            f"| fault | ended right | wrong | stuck | requests | most in {WINDOW * INTERVAL:g} s | longest gap |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        return "\n".join(lines + [f"| {' | '.join(map(str, row))} |" for row in self.rows])


def requests_since(account: Sandbox, first: int) -> list[float]:
    """Return when an account was asked: from its request number ``first`` on, and the one before, to see the gap."""
    return [request.at for request in account.requests[max(first - 1, 0) :]]


def busiest(times: list[float]) -> int:
    """Return the largest number of requests in any window of ``WINDOW`` intervals."""
    return max((sum(start <= at < start + WINDOW * INTERVAL for at in times) for start in times), default=0)


def longest_gap(times: list[float]) -> float:
    """Return the longest time without a request, in seconds."""
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)
