"""Machines, stores and the API fail while gates wait and tasks run; all of them end right, and once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from figures import WINDOW, Figures, busiest, requests_since
from spend_server import SpendServer

from airflow_provider_aimlbilling.sandbox import Sandbox

# One request per interval and triggerer. A window may begin just before the first of them, so one more each.
MOST_OF_ONE = WINDOW + 1
MOST_OF_BOTH = len(Cluster.TRIGGERERS) * MOST_OF_ONE
# A guard that counts checks twelve times while it waits, at intervals that vary by 40 %, and before and after.
MOST_OF_A_GUARD = int(12 / 0.6) + 2
ENDED = ("success", "failed", "skipped", "upstream_failed")


def states(cluster: Cluster, run: str, task: str = "gate%") -> list[tuple[str, str, int]]:
    """Return task, state and try of the instances of a run."""
    query = "select task_id, state, try_number from task_instance where run_id = ? and task_id like ? order by task_id"
    return cluster.query(query, run, task)


def polled(cluster: Cluster, account: Sandbox, times: int) -> None:
    """Wait until the triggerers have asked an account some more times."""
    before = len(account.requests)
    cluster.wait_for(f"{times} polls", lambda: len(account.requests) >= before + times, seconds=120)


def outcomes(
    rows: list[tuple[str, str, int]], number: int, tries: int = 1, right_states: tuple[str, ...] = ("success",)
) -> dict[str, int]:
    """Return how many of so many tasks ended right, by their state and in that try, ended wrong, or are stuck."""
    right = sum(row[1] in right_states and row[2] == tries for row in rows)
    ended = sum(row[1] in ENDED for row in rows)
    return {"right": right, "wrong": ended - right, "stuck": number - ended}


def open_all(cluster: Cluster, account: Sandbox, run: str, gates: int = 10) -> dict[str, int]:
    """Top an account up, and return how its gates end: right is a success in the first try, with the balance."""
    account.top_up("0.90 USD")

    def all_ended() -> bool:
        return all(state in ENDED for _, state, _ in states(cluster, run))

    try:
        cluster.wait_for("the gates to end", all_ended, seconds=180)
    except TimeoutError:
        print(states(cluster, run))
    ended = states(cluster, run)
    assert len(ended) == gates
    balance = "select count(*) as n from xcom where run_id = ? and key = 'return_value' and value::text like ?"
    with_balance = cluster.query(balance, run, "%2000000%")[0][0]
    assert with_balance == gates, "each gate has the balance that opened it as its XCom"
    return outcomes(ended, gates)


def still_waits(cluster: Cluster, account: Sandbox, run: str) -> None:
    """Check that all gates of a run still wait after three more polls."""
    polled(cluster, account, 3)
    assert {row[1:] for row in states(cluster, run)} == {("deferred", 1)}


def survived(
    figures: Figures, fault: str, ended: dict[str, int], requests: list[float], most: int = MOST_OF_BOTH
) -> None:
    """Add a row to the table, and check that all tasks ended right while the API was asked calmly."""
    figures.add(fault, ended, requests)
    assert ended == {"right": sum(ended.values()), "wrong": 0, "stuck": 0}
    assert busiest(requests) <= most


@pytest.mark.usefixtures("billing_faults")
def test_a_triggerer_is_killed(
    cluster: Cluster, accounts: dict[str, Sandbox], runs: dict[str, str], figures: Figures
) -> None:
    account, run = accounts["one_triggerer"], runs["one_triggerer"]
    cluster.spread_triggers(run)
    first = len(account.requests)
    cluster.wait_for("polls of both", lambda: busiest(requests_since(account, first)) > MOST_OF_ONE, seconds=60)
    shares = {name: cluster.triggers(name, run) for name in Cluster.TRIGGERERS}
    assert sum(shares.values()) == 10
    assert min(shares.values()) > 0
    victim = max(shares, key=lambda name: shares[name])
    first = len(account.requests)
    cluster.kill(victim)
    still_waits(cluster, account, run)
    ended = open_all(cluster, account, run)
    cluster.start(victim)
    # The first of these may be one of the triggerer that was killed.
    survived(figures, "one triggerer killed", ended, requests_since(account, first), MOST_OF_ONE + 1)


def test_both_triggerers_are_killed_and_one_restarted(
    cluster: Cluster, accounts: dict[str, Sandbox], runs: dict[str, str], figures: Figures
) -> None:
    account, run = accounts["both_triggerers"], runs["both_triggerers"]
    began = time.time()
    deadline_run = cluster.trigger("deadline")
    cluster.wait_for(
        "two gates with a deadline", lambda: [row[1] for row in states(cluster, deadline_run)] == ["deferred"] * 2, 120
    )
    first = len(account.requests)
    for triggerer in Cluster.TRIGGERERS:
        cluster.kill(triggerer)
    cluster.start("triggerer-2")
    still_waits(cluster, account, run)
    ended = open_all(cluster, account, run)
    cluster.wait_for(
        "the deadlines", lambda: [row[1] for row in states(cluster, deadline_run)] == ["skipped"] * 2, seconds=180
    )
    ends = cluster.query("select extract(epoch from end_date) as at from task_instance where run_id = ?", deadline_run)
    assert all(float(at) - began >= 45 for (at,) in ends), "no gate ended before its deadline"
    cluster.start("triggerer-1")
    survived(figures, "both triggerers killed, one restarted", ended, requests_since(account, first), MOST_OF_ONE + 1)


def test_workers_are_killed(
    cluster: Cluster, accounts: dict[str, Sandbox], spending: SpendServer, marks: Path, figures: Figures
) -> None:
    """
    In ``execute_complete``, in the request of a guard and in the request of a poke. And in mapped guards that count
    running jobs, and in jobs behind such guards that have not spent yet: the account can pay for two of these four.
    """
    slow, completes, counted = accounts["slow"], accounts["completes"], accounts["counted"]
    behind = cluster.trigger("counted")
    cluster.wait_for("two jobs behind their guards", lambda: len(list(marks.glob("counted_*"))) == 2, seconds=120)
    for account in (slow, counted):
        account.fail(delay=300)
    asked = len(counted.requests)
    run = cluster.trigger("workers")
    cluster.wait_for("the deferral", lambda: ("completes", "deferred", 1) in states(cluster, run, "%"), 120)
    polled(cluster, completes, 2)
    inside = cluster.trigger("counted")
    completes.top_up("0.90 USD")
    cluster.wait_for("execute_complete", (marks / "completing").exists, seconds=120)
    cluster.wait_for("a guard and a poke", lambda: len(slow.requests) >= 2, seconds=120)
    cluster.wait_for("two guards that count", lambda: len(counted.requests) == asked + 2, seconds=120)
    for each in (run, behind, inside):
        assert {row[1:] for row in states(cluster, each, "%")} == {("running", 1)}, "each of the seven is at work"
    for worker in Cluster.WORKERS:
        cluster.kill(worker)
    completes.set_balance("0.10 USD")  # so the event of the first try must not open the gate in the second
    for account in (slow, counted):
        account.recover()
    for worker in Cluster.WORKERS:
        cluster.start(worker)
    cluster.wait_for("the second try", lambda: ("completes", "deferred", 2) in states(cluster, run, "%"), seconds=240)
    polled(cluster, completes, 2)
    completes.top_up("0.90 USD")
    cluster.wait_for(
        "the tasks to end", lambda: {row[1] for row in states(cluster, run, "%")} == {"success"}, seconds=240
    )
    ended = states(cluster, run, "%")
    fault = "workers killed in execute_complete, a guard and a poke"
    survived(figures, fault, outcomes(ended, number=3, tries=2), requests_since(slow, 0))
    assert spending.jobs["slow"] == 1

    def counted_jobs() -> list[tuple[str, str, int]]:
        return [row for each in (behind, inside) for row in states(cluster, each, "%")]

    cluster.wait_for("the counted jobs to end", lambda: all(row[1] in ENDED for row in counted_jobs()), seconds=240)
    fault = "workers killed in guards that count running jobs, and in jobs behind such guards"
    ended = outcomes(counted_jobs(), number=4, tries=2, right_states=("success", "skipped"))
    survived(figures, fault, ended, requests_since(counted, 0), 4 * MOST_OF_A_GUARD)
    assert spending.jobs["counted"] == [row[1] for row in counted_jobs()].count("success")
    assert 1 <= spending.jobs["counted"] <= 2, "the account can pay for two of the four"


def test_the_database_and_the_broker_restart(
    cluster: Cluster, accounts: dict[str, Sandbox], runs: dict[str, str], figures: Figures
) -> None:
    account, run = accounts["stores"], runs["stores"]
    first = len(account.requests)
    cluster.postgres.stop()
    time.sleep(5)
    cluster.postgres.start()
    cluster.redis.stop()
    time.sleep(5)
    cluster.redis.start()
    before = len(account.requests)
    cluster.wait_and_revive("three polls", lambda: len(account.requests) >= before + 3, seconds=180)
    still_waits(cluster, account, run)
    ended = open_all(cluster, account, run)
    survived(figures, "PostgreSQL and Redis restarted", ended, requests_since(account, first))


def test_the_api_server_and_the_scheduler_restart(
    cluster: Cluster, accounts: dict[str, Sandbox], runs: dict[str, str], figures: Figures
) -> None:
    account, run = accounts["servers"], runs["servers"]
    first = len(account.requests)
    for service in ("api-server", "scheduler"):
        cluster.stop(service)
    time.sleep(5)
    for service in ("scheduler", "api-server"):
        cluster.start(service)
    # Airflow fails a task that starts while its API server is away. The gates wait through that, but cannot end.
    cluster.wait_and_revive("the API server", cluster.serves, seconds=180)
    still_waits(cluster, account, run)
    ended = open_all(cluster, account, run)
    survived(figures, "API server and scheduler restarted", ended, requests_since(account, first))


def test_the_billing_api_is_away_then_slow_then_overloaded(
    cluster: Cluster,
    accounts: dict[str, Sandbox],
    runs: dict[str, str],
    billing_faults: Any,
    figures: Figures,
) -> None:
    account, run = accounts["api"], runs["api"]
    billing_faults.thread.join()
    assert min(billing_faults.met.values()) >= 3, f"each fault met polls of the gates: {billing_faults.met}"
    still_waits(cluster, account, run)
    ended = open_all(cluster, account, run)
    requests = requests_since(account, billing_faults.before)
    survived(figures, "billing API away for two minutes, then slow, then 429, during the above", ended, requests)


def test_a_key_is_rotated_and_the_jobs_behind_the_gates_do_not_overspend(
    cluster: Cluster, accounts: dict[str, Sandbox], runs: dict[str, str], spending: SpendServer, figures: Figures
) -> None:
    account, run = accounts["key"], runs["key"]
    cluster.spread_triggers(run)
    first = len(account.requests)
    cluster.wait_for("polls of both", lambda: busiest(requests_since(account, first)) > MOST_OF_ONE, seconds=60)
    first = len(account.requests)
    new_key = "the-rotated-key"
    cluster.patch_connection("key", json.loads(account.connection()) | {"password": new_key})
    account.key = new_key
    still_waits(cluster, account, run)
    polled(cluster, account, 2 * MOST_OF_BOTH)
    assert busiest(requests_since(account, first)) > MOST_OF_ONE, "both triggerers go on, with the new key"
    ended = open_all(cluster, account, run)
    requests = requests_since(account, first)

    def jobs() -> list[str]:
        return [row[1] for row in states(cluster, run, "job")]

    cluster.wait_for(
        "the jobs to end", lambda: len(jobs()) == 8 and set(jobs()) <= {"success", "skipped", "failed"}, seconds=240
    )
    survived(figures, "key rotated; then a top-up, and jobs that count each other", ended, requests)
    assert spending.jobs["key"] == jobs().count("success")
    assert 3 <= spending.jobs["key"] <= 4, "the account can pay for four of the eight"
    assert jobs().count("failed") == 0


def test_a_watcher_fires_once_after_all_faults(
    cluster: Cluster, accounts: dict[str, Sandbox], figures: Figures
) -> None:
    account = accounts["watched"]
    first = len(account.requests)
    account.set_balance("0.50 USD")
    reactions = "select state from dag_run where dag_id = 'fell'"
    cluster.wait_for("the reaction", lambda: cluster.query(reactions) == [("success",)], seconds=120)
    polled(cluster, account, 5)
    reacted = [("react", state, 1) for (state,) in cluster.query(reactions)]
    survived(
        figures, "watcher, after all of these", outcomes(reacted, number=1), requests_since(account, first), MOST_OF_ONE
    )


def test_a_connection_that_hangs_does_not_delay_the_others(
    cluster: Cluster, accounts: dict[str, Sandbox], figures: Figures
) -> None:
    """Twenty connections on one triggerer."""
    cluster.stop("triggerer-2")
    hanging, *others = [accounts[f"account_{number:02}"] for number in range(20)]
    run = cluster.trigger("connections")
    cluster.wait_for(
        "twenty deferred gates", lambda: [row[1] for row in states(cluster, run)] == ["deferred"] * 20, seconds=240
    )
    for account in others:
        polled(cluster, account, 1)
    hanging.fail(delay=300)
    polled(cluster, hanging, 1)
    hung, before = len(hanging.requests), [len(account.requests) for account in others]

    def each_was_asked() -> bool:
        return all(len(account.requests) >= count + 3 for account, count in zip(others, before, strict=True))

    cluster.wait_for("three polls of each other connection", each_was_asked, seconds=60)
    asked = len(hanging.requests) - hung
    for account in others:
        account.top_up("0.90 USD")
    cluster.wait_for(
        "nineteen open gates",
        lambda: sorted(row[1] for row in states(cluster, run)) == ["deferred", *["success"] * 19],
        seconds=240,
    )
    hanging.recover()
    hanging.top_up("0.90 USD")
    cluster.wait_for("the last gate", lambda: {row[1] for row in states(cluster, run)} == {"success"}, seconds=120)
    ended = outcomes(states(cluster, run), number=20)
    survived(figures, "one of 20 connections hangs", ended, requests_since(others[0], before[0]), MOST_OF_ONE)
    assert asked == 0, "the others were asked three times while one request was unanswered"
