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
MOST_REQUESTS = len(Cluster.TRIGGERERS) * (WINDOW + 1)


def states(cluster: Cluster, run: str, task: str = "gate%") -> list[tuple[str, str, int]]:
    """Return task, state and try of the instances of a run."""
    query = "select task_id, state, try_number from task_instance where run_id = ? and task_id like ? order by task_id"
    return cluster.query(query, run, task)


def polled(cluster: Cluster, account: Sandbox, times: int) -> None:
    """Wait until the triggerers have asked an account some more times."""
    before = len(account.requests)
    cluster.wait_for(f"{times} polls", lambda: len(account.requests) >= before + times, seconds=120)


def open_all(cluster: Cluster, account: Sandbox, run: str, gates: int = 10) -> dict[str, int]:
    """Top an account up, and return how its gates end: right is a success in the first try, with the balance."""
    account.top_up("0.90 USD")

    def all_ended() -> bool:
        return all(state in ("success", "failed", "skipped", "upstream_failed") for _, state, _ in states(cluster, run))

    try:
        cluster.wait_for("the gates to end", all_ended, seconds=180)
    except TimeoutError:
        print(states(cluster, run))
    ended = states(cluster, run)
    assert len(ended) == gates
    balance = "select count(*) as n from xcom where run_id = ? and key = 'return_value' and value::text like ?"
    with_balance = cluster.query(balance, run, "%2000000%")[0][0]
    right = [row for row in ended if row[1:] == ("success", 1)]
    stuck = [row for row in ended if row[1] not in ("success", "failed", "skipped", "upstream_failed")]
    assert with_balance == gates, "each gate has the balance that opened it as its XCom"
    return {"right": len(right), "wrong": gates - len(right) - len(stuck), "stuck": len(stuck)}


def waits_calmly(cluster: Cluster, account: Sandbox, run: str) -> None:
    """Check that all gates of a run still wait, and that the API was not asked more often than it should."""
    polled(cluster, account, 3)
    assert {row[1:] for row in states(cluster, run)} == {("deferred", 1)}


def survived(figures: Figures, fault: str, ended: dict[str, int], requests: list[float]) -> None:
    """Add a row to the table, and check that all ten gates ended right while the API was asked calmly."""
    figures.add(fault, ended, requests)
    assert ended == {"right": 10, "wrong": 0, "stuck": 0}
    assert busiest(requests) <= MOST_REQUESTS


@pytest.mark.usefixtures("billing_faults")
def test_a_triggerer_is_killed(
    cluster: Cluster, accounts: dict[str, Sandbox], runs: dict[str, str], figures: Figures
) -> None:
    account, run = accounts["one_triggerer"], runs["one_triggerer"]
    shares = {name: cluster.triggers(name, run) for name in Cluster.TRIGGERERS}
    assert sum(shares.values()) == 10
    victim = max(shares, key=lambda name: shares[name])
    first = len(account.requests)
    cluster.kill(victim)
    waits_calmly(cluster, account, run)
    ended = open_all(cluster, account, run)
    cluster.start(victim)
    survived(figures, "one triggerer killed", ended, requests_since(account, first))


def test_both_triggerers_are_killed_and_one_restarted(
    cluster: Cluster, accounts: dict[str, Sandbox], runs: dict[str, str], figures: Figures
) -> None:
    account, run = accounts["both_triggerers"], runs["both_triggerers"]
    deadline_run = cluster.trigger("deadline")
    cluster.wait_for(
        "two gates with a deadline", lambda: [row[1] for row in states(cluster, deadline_run)] == ["deferred"] * 2, 120
    )
    first = len(account.requests)
    for triggerer in Cluster.TRIGGERERS:
        cluster.kill(triggerer)
    cluster.start("triggerer-2")
    waits_calmly(cluster, account, run)
    ended = open_all(cluster, account, run)
    cluster.wait_for(
        "the deadlines", lambda: [row[1] for row in states(cluster, deadline_run)] == ["skipped"] * 2, seconds=180
    )
    cluster.start("triggerer-1")
    survived(figures, "both triggerers killed, one restarted", ended, requests_since(account, first))


def test_workers_are_killed(
    cluster: Cluster, accounts: dict[str, Sandbox], spending: SpendServer, marks: Path, figures: Figures
) -> None:
    """In ``execute_complete``, in the request of a guard and in the request of a poke."""
    slow, completes = accounts["slow"], accounts["completes"]
    slow.fail(delay=300)
    run = cluster.trigger("workers")
    cluster.wait_for("the deferral", lambda: ("completes", "deferred", 1) in states(cluster, run, "%"), 120)
    polled(cluster, completes, 2)
    completes.top_up("0.90 USD")
    cluster.wait_for("execute_complete", (marks / "completing").exists, seconds=120)
    cluster.wait_for("a guard and a poke", lambda: len(slow.requests) >= 2, seconds=120)
    for worker in Cluster.WORKERS:
        cluster.kill(worker)
    completes.set_balance("0.10 USD")  # so the event of the first try must not open the gate in the second
    slow.recover()
    for worker in Cluster.WORKERS:
        cluster.start(worker)
    cluster.wait_for("the second try", lambda: ("completes", "deferred", 2) in states(cluster, run, "%"), seconds=240)
    polled(cluster, completes, 2)
    completes.top_up("0.90 USD")
    cluster.wait_for(
        "the tasks to end", lambda: {row[1] for row in states(cluster, run, "%")} == {"success"}, seconds=240
    )
    ended = states(cluster, run, "%")
    figures.add(
        "workers killed in execute_complete, a guard and a poke",
        {"right": sum(row[1:] == ("success", 2) for row in ended)},
        requests_since(slow, 0),
    )
    assert ended == [("completes", "success", 2), ("guarded", "success", 2), ("pokes", "success", 2)]
    assert spending.jobs["slow"] == 1


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
    cluster.revive()
    waits_calmly(cluster, account, run)
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
    cluster.revive()
    # Airflow fails a task that starts while its API server is away. The gates wait through that, but cannot end.
    cluster.wait_for("the API server", cluster.serves, seconds=180)
    waits_calmly(cluster, account, run)
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
    waits_calmly(cluster, account, run)
    ended = open_all(cluster, account, run)
    requests = requests_since(account, billing_faults.before)
    survived(figures, "billing API away for two minutes, then slow, then 429, during the above", ended, requests)


def test_a_key_is_rotated_and_the_jobs_behind_the_gates_do_not_overspend(
    cluster: Cluster, accounts: dict[str, Sandbox], runs: dict[str, str], spending: SpendServer, figures: Figures
) -> None:
    account, run = accounts["key"], runs["key"]
    first = len(account.requests)
    new_key = "the-rotated-key"
    cluster.patch_connection("key", json.loads(account.connection()) | {"password": new_key})
    account.key = new_key
    waits_calmly(cluster, account, run)
    ended = open_all(cluster, account, run)
    requests = requests_since(account, first)

    def jobs() -> list[str]:
        return [row[1] for row in states(cluster, run, "job")]

    cluster.wait_for(
        "the jobs to end", lambda: len(jobs()) == 8 and set(jobs()) <= {"success", "skipped", "failed"}, seconds=240
    )
    figures.add("key rotated; then a top-up, and jobs that count each other", ended, requests)
    assert ended == {"right": 10, "wrong": 0, "stuck": 0}
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
    figures.add("watcher, after all of these", {"right": len(cluster.query(reactions))}, requests_since(account, first))
    assert cluster.query(reactions) == [("success",)]


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
    figures.add("one of 20 connections hangs", {"right": 20}, requests_since(others[0], before[0]))
    assert asked == 0, "the others were asked three times while one request was unanswered"
