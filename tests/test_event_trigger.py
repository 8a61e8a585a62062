"""The watcher: one event a crossing, also over restarts; nothing raised, nothing secret, one poll with the gates."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from decimal import Decimal
from importlib.util import find_spec
from itertools import pairwise, product
from typing import Any

import pytest
from airflow.triggers import base
from conftest import KEY

from airflow_provider_aimlbilling import polling
from airflow_provider_aimlbilling.balance import Amount, Balance
from airflow_provider_aimlbilling.crossings import Crossing
from airflow_provider_aimlbilling.exceptions import (
    AimlBillingAuthError,
    AimlBillingThresholdError,
    AimlBillingUnavailable,
    InsufficientBalanceError,
)
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.triggers import crossing
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger
from airflow_provider_aimlbilling.triggers.crossing import BalanceEventTrigger

BaseEventTrigger = getattr(base, "BaseEventTrigger", None)
needs_3 = pytest.mark.skipif(BaseEventTrigger is None, reason="Airflow 2 has no asset watchers")
needs_33 = pytest.mark.skipif(
    find_spec("airflow.triggers.shared_stream") is None, reason="Airflow before 3.3 keeps no state"
)


# The rule

LOW, BETWEEN, HIGH = Balance(1_999_999), Balance(2_000_000), Balance(3_000_000)
NOTHING = AimlBillingUnavailable("No answer.")
LETTERS = {"l": LOW, "b": BETWEEN, "h": HIGH, "f": NOTHING}


def rule(direction: str, threshold: object = 2_000_000, hysteresis: object = 1_000_000) -> Crossing:
    return Crossing.read(direction, threshold, hysteresis)


def fires_at(crossing: Crossing, letters: str) -> list[int]:
    armed, at = None, []
    for number, letter in enumerate(letters):
        armed, crossed = crossing.look(armed, LETTERS[letter])
        if crossed:
            at.append(number)
    return at


def falls_in(letters: str) -> list[int]:
    """Say the same in another way: faults say nothing, what lies between says nothing but at first."""
    told = re.sub("^(f*)b", r"\1h", letters)
    return [match.end() - 1 for match in re.finditer("h[fb]*l", told)]


@pytest.mark.parametrize("length", range(7))
def test_a_fall_is_told_once_in_each_sequence_of_readings(length: int) -> None:
    falls = rule("below")
    for letters in map("".join, product(LETTERS, repeat=length)):
        at = fires_at(falls, letters)
        assert at == falls_in(letters), letters
        assert all(letters[number] == "l" for number in at)
        for earlier, later in pairwise(at):
            assert "h" in letters[earlier:later], f"{letters}: not armed again"


@pytest.mark.parametrize("length", range(7))
def test_a_recovery_is_told_once_in_each_sequence_of_readings(length: int) -> None:
    """It is a fall upside down: here HIGH is told, LOW arms."""
    recovers = rule("above", 3_000_000, 1_000_000)
    for letters in map("".join, product(LETTERS, repeat=length)):
        assert fires_at(recovers, letters) == falls_in(letters.translate(str.maketrans("lh", "hl"))), letters


def test_reaching_the_threshold_is_enough() -> None:
    """The edges, to the credit."""
    for credits, armed in ((1_999_999, False), (2_000_000, True)):
        assert rule("below").look(None, Balance(credits)) == (armed, False)
        assert rule("above").look(None, Balance(credits)) == (not armed, False)
        assert rule("below").look(True, Balance(credits)) == (armed, not armed)
        assert rule("above").look(True, Balance(credits)) == (not armed, armed)
    for credits, again in ((2_999_999, False), (3_000_000, True)):
        assert rule("below").look(False, Balance(credits)) == (again, False)
    for credits, again in ((1_000_000, False), (999_999, True)):
        assert rule("above").look(False, Balance(credits)) == (again, False)


def test_parts_of_a_credit_count() -> None:
    fine = rule("below", Decimal("0.3"), Decimal("0.1"))
    assert fine.look(True, Balance(Decimal("0.29999999999999999999"))) == (False, True)
    assert fine.look(False, Balance(Decimal("0.39999999999999999999"))) == (False, False)
    assert fine.look(False, Balance(Decimal("0.4"))) == (True, False)


@pytest.mark.parametrize("hysteresis", [0, 1_000_000])
def test_out_of_credits_is_below_any_threshold(hysteresis: int) -> None:
    empty = InsufficientBalanceError("out of credits")
    for threshold in (1_000_001, 10**15):
        assert rule("below", threshold, hysteresis).look(True, empty) == (False, True)
        assert rule("below", threshold, hysteresis).look(False, empty) == (False, False)
        assert rule("above", threshold, hysteresis).look(True, empty) == (True, False)
        assert rule("above", threshold, hysteresis).look(False, empty) == (True, False)


@pytest.mark.parametrize("says_nothing", [None, NOTHING, AimlBillingAuthError("401")])
@pytest.mark.parametrize("armed", [None, True, False])
@pytest.mark.parametrize("direction", ["below", "above"])
def test_what_says_nothing_of_the_balance_changes_nothing(says_nothing: Any, armed: Any, direction: str) -> None:
    assert rule(direction).look(armed, says_nothing) == (armed, False)


def test_what_an_event_says() -> None:
    fell = rule("below").event(Balance(500_000))
    assert fell == {
        "crossing": "below",
        "threshold_credits": 2_000_000,
        "hysteresis_credits": 1_000_000,
        "balance": Balance(500_000).to_dict(),
        "reason": "The balance fell below 2,000,000 credits (1.00 USD): the account holds 500,000 credits (0.25 USD), "
        "1,500,000 credits (0.75 USD) short.",
    }
    recovered = rule("above", Decimal("0.5"), 0).event(HIGH)
    assert (recovered["crossing"], recovered["threshold_credits"]) == ("above", "0.5")
    assert recovered["reason"] == (
        "The balance recovered to 0.5 credits (0.00000025 USD): the account holds 3,000,000 credits (1.50 USD)."
    )
    empty = rule("below").event(InsufficientBalanceError("The account is out of credits: top it up."))
    assert empty["balance"] is None
    assert empty["reason"].endswith("(1.00 USD): The account is out of credits: top it up.")
    for event in (fell, recovered, empty):
        assert json.loads(json.dumps(event)) == event


# What is wrong is found when the DAG is parsed

WRONG: dict[str, tuple[dict[str, Any], type[ValueError], str]] = {
    "another currency": ({"threshold": "2 EUR"}, AimlBillingThresholdError, r"^threshold: '2 EUR' is no amount.*Write"),
    "no unit": ({"threshold": "2.50"}, AimlBillingThresholdError, "Did you mean '2.50 USD'"),
    "a binary float": ({"threshold": 2.5}, AimlBillingThresholdError, "^threshold: 2.5 is no amount"),
    "a boolean": ({"threshold": True}, AimlBillingThresholdError, "^threshold: True is no amount"),
    "none": ({"threshold": None}, AimlBillingThresholdError, "threshold must be set"),
    "nought": ({"threshold": 0}, AimlBillingThresholdError, "Set one above 0"),
    "too much": ({"threshold": 2**53 + 1}, AimlBillingThresholdError, "lies between"),
    "too fine": ({"threshold": Decimal("1E-25")}, AimlBillingThresholdError, "^threshold: '0.0000.* is no amount"),
    "a template": ({"threshold": "{{ var.value.x }}"}, AimlBillingThresholdError, "renders none. Write the sum itself"),
    "hysteresis of another kind": ({"hysteresis": "1 EUR"}, AimlBillingThresholdError, "^hysteresis: '1 EUR' is no"),
    "no hysteresis": ({"hysteresis": None}, AimlBillingThresholdError, "hysteresis must be set"),
    "negative hysteresis": ({"hysteresis": -1}, AimlBillingThresholdError, "^hysteresis: An amount lies between 0"),
    "hysteresis beyond all": ({"hysteresis": 2**53}, AimlBillingThresholdError, "lies between"),
    "hysteresis down to nought": (
        {"crossing": "above", "hysteresis": "1 USD"},
        AimlBillingThresholdError,
        "Set a hysteresis below the threshold",
    ),
    "unknown crossing": ({"crossing": "under"}, ValueError, "'below' or 'above', not 'under'"),
    "no crossing": ({"crossing": None}, ValueError, "'below' or 'above', not None"),
    "no interval": ({"poke_interval": 0}, ValueError, "seconds above 0, not 0"),
    "negative interval": ({"poke_interval": -1.5}, ValueError, "seconds above 0, not -1.5"),
    "endless interval": ({"poke_interval": float("inf")}, ValueError, "seconds above 0, not inf"),
    "NaN interval": ({"poke_interval": float("nan")}, ValueError, "seconds above 0, not nan"),
    "interval as text": ({"poke_interval": "60"}, ValueError, "seconds above 0, not '60'"),
    "interval as boolean": ({"poke_interval": True}, ValueError, "seconds above 0, not True"),
    "empty connection id": ({"aimlbilling_conn_id": ""}, ValueError, "id of a connection"),
    "no connection id": ({"aimlbilling_conn_id": None}, ValueError, "id of a connection"),
    "templated connection id": ({"aimlbilling_conn_id": "{{ x }}"}, ValueError, "no template"),
}


@pytest.mark.parametrize("row", WRONG)
def test_what_is_wrong_is_refused_with_what_to_do(row: str) -> None:
    arguments, kind, message = WRONG[row]
    with pytest.raises(kind, match=message):
        BalanceEventTrigger(**{"threshold": "1 USD"} | arguments)


SAME = [2_000_000, "2000000", "2000000 credits", "1 USD", "$1.00", Decimal("2000000.0"), 2e6, Amount(2_000_000)]


@pytest.mark.parametrize("written", SAME, ids=repr)
def test_the_same_sum_is_the_same_trigger_however_it_is_written(written: object) -> None:
    first = BalanceEventTrigger(written, "above", Decimal("0.5"), "another", 30)
    path, arguments = first.serialize()
    assert path == f"{BalanceEventTrigger.__module__}.{BalanceEventTrigger.__name__}"
    assert arguments == {
        "threshold": "2000000 credits",
        "crossing": "above",
        "hysteresis": "0.5 credits",
        "aimlbilling_conn_id": "another",
        "poke_interval": 30.0,
    }
    again = BalanceEventTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == first.serialize()
    assert again.rule == first.rule


@needs_3
def test_airflow_tells_triggers_apart_by_what_they_watch_for() -> None:
    """From the DAG, and from its own database: a trigger that it took for another one it would make anew for ever."""
    from airflow.models.trigger import Trigger
    from airflow.sdk import Asset, AssetWatcher

    def hashed(*arguments: Any, **more: Any) -> int:
        watcher = AssetWatcher(name="watcher", trigger=BalanceEventTrigger(*arguments, **more))
        (kept,) = Asset("balance", watchers=[watcher]).watchers
        path, kwargs = kept.trigger.serialize()
        stored = Trigger(classpath=path, kwargs=kwargs)
        assert BaseEventTrigger.hash(stored.classpath, stored.kwargs) == BaseEventTrigger.hash(path, kwargs)
        return BaseEventTrigger.hash(path, kwargs)

    one = hashed("1 USD")
    assert one == hashed(2_000_000, hysteresis="0 USD", poke_interval=60)
    others = [
        *({"threshold": "2 USD"}, {"crossing": "above"}, {"hysteresis": 1}, {"aimlbilling_conn_id": "another"}),
        {"poke_interval": 61},
    ]
    assert len({one, *(hashed(**{"threshold": "1 USD"} | other) for other in others)}) == 6


# The watcher on a real socket


@pytest.fixture(autouse=True)
def settle_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossing, "SETTLING", 0.15)


def watcher(**changes: Any) -> BalanceEventTrigger:
    """Make the watcher of a fall below 1 USD, that can fire again from 1.50 USD on."""
    made = BalanceEventTrigger(**{"threshold": "1 USD", "hysteresis": "0.50 USD", "poke_interval": 0.05} | changes)
    made._log = logging.getLogger("watcher")  # Airflow 3 logs past caplog
    return made


class Store:
    """
    Stands in for Airflow's asset state store, which needs a triggerer around it.

    :param broken: how many calls fail.
    """

    def __init__(self, broken: int = 0) -> None:
        self.kept: dict[str, Any] = {}
        self.broken = broken
        self.written = 0

    async def aget(self, key: str, default: Any = None) -> Any:
        self._work()
        return self.kept.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self._work()
        self.written += 1
        self.kept[key] = json.loads(json.dumps(value))
        assert value is not None, "which Airflow refuses"

    def _work(self) -> None:
        self.broken -= 1
        if self.broken >= 0:
            raise RuntimeError(f"Bearer {KEY}")


class Triggerer:
    """Runs watchers as a triggerer does. Leaving the block kills it: nothing of it goes on or is kept."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def watch(self, watching: Any) -> list[dict[str, Any]]:
        """Start a watcher, and give the list that its events will be in."""
        events: list[dict[str, Any]] = []
        self.tasks.append(asyncio.ensure_future(self._run(watching, events)))
        return events

    async def _run(self, watching: Any, events: list[dict[str, Any]]) -> None:
        async for event in watching.run():
            json.dumps(event.payload)
            events.append(event.payload)

    async def __aenter__(self) -> Triggerer:
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self.tasks:
            if task.done():
                task.result()  # a watcher that raised
            task.cancel()
        await asyncio.wait(self.tasks)


async def until(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


async def polled(sandbox: Sandbox) -> None:
    """Wait until the balance, as it is now, has been read and looked at."""
    seen = len(sandbox.requests)
    await until(lambda: len(sandbox.requests) >= seen + 3)


def test_a_fall_starts_one_event(sandbox: Sandbox) -> None:
    async def story() -> list[dict[str, Any]]:
        async with Triggerer() as running:
            events = running.watch(watcher())
            for balance, so_far in (
                *(("2.50 USD", 0), ("1 USD", 0), ("0.99 USD", 1), ("0.01 USD", 1)),  # falls
                *(("1.20 USD", 1), ("0.50 USD", 1)),  # plays about the threshold
                *(("1.50 USD", 1), ("1.20 USD", 1), ("0.90 USD", 2), ("0 USD", 2)),  # recovers, and falls again
            ):
                sandbox.set_balance(balance)
                await polled(sandbox)
                assert len(events) == so_far, balance
            return events

    events = asyncio.run(story())
    assert [event["balance"]["balance_usd"] for event in events] == ["0.99", "0.90"]
    assert events[0]["reason"].startswith("The balance fell below 2,000,000 credits (1.00 USD)")


def test_a_recovery_starts_one_event(sandbox: Sandbox) -> None:
    async def story() -> list[dict[str, Any]]:
        async with Triggerer() as running:
            events = running.watch(watcher(crossing="above", threshold="2 USD"))
            for balance, so_far in (
                *(("2.50 USD", 0), ("1.50 USD", 0), ("2 USD", 0)),  # above from the start; not far enough below
                *(("1.49 USD", 0), ("1.99 USD", 0), ("2 USD", 1), ("9 USD", 1)),
            ):
                sandbox.set_balance(balance)
                await polled(sandbox)
                assert len(events) == so_far, balance
            return events

    (event,) = asyncio.run(story())
    assert event["reason"].startswith("The balance recovered to 4,000,000 credits (2.00 USD)")


def test_an_account_that_is_low_from_the_start_is_no_fall(sandbox: Sandbox) -> None:
    sandbox.set_balance(1)

    async def story() -> None:
        async with Triggerer() as running:
            events = running.watch(watcher())
            await polled(sandbox)
            assert events == []
            sandbox.set_balance("1.50 USD")
            await polled(sandbox)
            sandbox.fail(status=403)
            await until(lambda: events)
            await polled(sandbox)
            assert [event["balance"] for event in events] == [None]
            assert "The account is out of credits: top it up." in events[0]["reason"]
            sandbox.mend()
            sandbox.set_balance("1.49 USD")
            await polled(sandbox)
            assert len(events) == 1

    asyncio.run(story())


FAULTS: dict[str, dict[str, Any]] = {
    "refused": {"status": 401},
    "forbidden": {"status": 403, "message": "Not with this key."},
    "gone": {"status": 404},
    "too many": {"status": 429},
    "broken": {"status": 500},
    "no JSON": {"body": b"<html>"},
    "no object": {"body": b"[]"},
    "reset": {"reset": True},
}


@pytest.mark.parametrize("row", FAULTS)
def test_no_fault_is_a_crossing_or_ends_the_watch(sandbox: Sandbox, caplog: pytest.LogCaptureFixture, row: str) -> None:
    """One line a change, as an error where somebody has to mend something; then the crossing is told after all."""

    async def story() -> None:
        async with Triggerer() as running:
            falls, recovers = running.watch(watcher()), running.watch(watcher(threshold="3 USD", crossing="above"))
            await polled(sandbox)
            sandbox.fail(**FAULTS[row])
            await polled(sandbox)
            sandbox.set_balance("0.50 USD")
            await polled(sandbox)
            assert (falls, recovers) == ([], [])
            sandbox.mend()
            await until(lambda: falls)
            await polled(sandbox)
            assert (len(falls), recovers) == (1, [])

    with caplog.at_level("INFO", logger="watcher"):
        asyncio.run(story())
    lines = [
        (r.levelname, r.getMessage()) for r in caplog.records if "below 2,000,000 credits (1.00 USD)" in r.msg % r.args
    ]
    blind = [level for level, line in lines if "sees nothing" in line]
    assert blind == ["ERROR" if row in ("refused", "forbidden", "gone", "no object") else "WARNING"], lines
    kinds = [re.search("is armed|sees nothing|sees it again|fires\\.", line) for _, line in lines]
    assert [kind and kind[0] for kind in kinds] == ["is armed", "sees nothing", "sees it again", "fires."], lines


def test_a_missing_connection_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with Triggerer() as running:
            events = running.watch(watcher(aimlbilling_conn_id="later"))
            await until(lambda: any("'later'" in line and "sees nothing" in line for line in caplog.messages))
            monkeypatch.setenv("AIRFLOW_CONN_LATER", sandbox.connection())
            await polled(sandbox)
            sandbox.set_balance(0)
            await until(lambda: events)

    with caplog.at_level("INFO", logger="watcher"):
        asyncio.run(story())
    assert sum("sees nothing" in line for line in caplog.messages) == 1


# Restarts


def run_for(sandbox: Sandbox, watching: BalanceEventTrigger, *balances: str) -> list[dict[str, Any]]:
    """Run a triggerer from start to end over some balances, and give the events."""

    async def story() -> list[dict[str, Any]]:
        async with Triggerer() as running:
            sandbox.set_balance(balances[0])
            events = running.watch(watching)
            for balance in balances:
                sandbox.set_balance(balance)
                await polled(sandbox)
            await asyncio.sleep(crossing.SETTLING + 0.3)
            return list(events)

    return asyncio.run(story())


def remembering(store: Any, **changes: Any) -> BalanceEventTrigger:
    made = watcher(**changes)
    made.asset_state_store = store
    return made


def test_a_crossing_is_told_once_over_restarts(sandbox: Sandbox) -> None:
    """While no triggerer ran the balance falls: told. Told once, and restarted: not told again."""
    store = Store()
    assert run_for(sandbox, remembering(store), "2 USD") == []
    fell = run_for(sandbox, remembering(store), "0.50 USD")
    assert [event["balance"]["balance_usd"] for event in fell] == ["0.50"]
    assert run_for(sandbox, remembering(store), "0.40 USD", "1.20 USD", "0.30 USD") == []
    assert run_for(sandbox, remembering(store), "1.50 USD") == []
    assert len(run_for(sandbox, remembering(store), "1.20 USD", "0.20 USD")) == 1
    assert store.kept == {"aimlbilling_default: below 2000000 credits, hysteresis 1000000 credits": "disarmed"}
    assert store.written == 4, "what changed, and not each poll"


def test_without_a_store_a_restart_begins_anew(sandbox: Sandbox) -> None:
    assert run_for(sandbox, watcher(), "2 USD") == []
    assert run_for(sandbox, watcher(), "0.50 USD") == []
    assert len(run_for(sandbox, watcher(), "2 USD", "0.50 USD")) == 1
    assert run_for(sandbox, watcher(), "0.50 USD") == []


def test_an_event_that_airflow_may_not_have_written_down_is_told_again(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """Rather twice than never: the state is kept some seconds after the event, not with it."""
    monkeypatch.setattr(crossing, "SETTLING", 60)
    store = Store()

    async def killed() -> int:
        async with Triggerer() as running:
            events = running.watch(remembering(store))
            await polled(sandbox)
            sandbox.set_balance("0.50 USD")
            await until(lambda: events)
            return len(events)

    assert asyncio.run(killed()) == 1
    assert list(store.kept.values()) == ["armed"]
    monkeypatch.setattr(crossing, "SETTLING", 0.1)
    assert len(run_for(sandbox, remembering(store), "0.50 USD")) == 1
    assert run_for(sandbox, remembering(store), "0.50 USD") == []


def test_crossings_of_one_asset_are_kept_apart(sandbox: Sandbox) -> None:
    """Another threshold, direction, hysteresis or account is another crossing; another interval is not."""
    store = Store()
    differ: list[dict[str, Any]] = [{}, {"threshold": "2 USD"}, {"crossing": "above"}, {"hysteresis": 0}]
    for changes in differ:
        run_for(sandbox, remembering(store, **changes), "3 USD")
    another = watcher(aimlbilling_conn_id="another")._state_key()
    assert len({another, *store.kept}) == 5
    assert watcher(poke_interval=99)._state_key() == watcher()._state_key()
    assert len(another) < 512 - 250, "what Airflow's database takes, with the longest connection id"


@pytest.mark.parametrize("broken", [1, 2, 1000])
def test_a_store_that_fails_ends_no_watch(sandbox: Sandbox, caplog: pytest.LogCaptureFixture, broken: int) -> None:
    """It is asked again, and meanwhile what has been seen since the start counts."""
    store = Store()
    key = watcher()._state_key()
    store.kept[key] = "armed"
    store.broken = broken
    with caplog.at_level("INFO", logger="watcher"):
        events = run_for(sandbox, remembering(store), "0.50 USD", "2 USD", "0.60 USD")
    told = [event["balance"]["balance_usd"] for event in events]
    assert told == (["0.60"] if broken == 1000 else ["0.50", "0.60"])
    assert store.kept[key] == ("armed" if broken == 1000 else "disarmed")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, warnings
    assert "cannot be read (RuntimeError)" in warnings[0]
    assert KEY not in caplog.text


def test_a_fall_is_told_though_the_store_was_out_of_reach_before_it(sandbox: Sandbox) -> None:
    """It was disarmed when it was kept, and has been seen at 3 USD since: that arms it, whatever is read later."""
    store = Store()
    store.kept[watcher()._state_key()] = "disarmed"
    made = remembering(store)

    async def story() -> None:
        async with Triggerer() as running:
            store.broken = 1000
            sandbox.set_balance("3 USD")
            events = running.watch(made)
            await polled(sandbox)
            sandbox.set_balance("0.05 USD")
            store.broken = 0
            await until(lambda: events)

    asyncio.run(story())


def test_what_was_told_is_not_told_again_when_the_store_can_be_read(sandbox: Sandbox) -> None:
    store = Store()
    key = watcher()._state_key()

    async def story() -> None:
        async with Triggerer() as running:
            store.kept[key], store.broken = "armed", 1000
            events = running.watch(remembering(store))
            await polled(sandbox)
            sandbox.set_balance(0)
            await until(lambda: events)
            store.broken = 0
            await until(lambda: store.kept[key] == "disarmed")
            await polled(sandbox)
            assert len(events) == 1

    asyncio.run(story())


def test_a_state_that_cannot_be_written_is_written_later(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    store = Store()

    async def story() -> None:
        async with Triggerer() as running:
            events = running.watch(remembering(store))
            await until(lambda: "armed" in store.kept.values())
            store.broken = 3
            sandbox.set_balance(0)
            await until(lambda: "disarmed" in store.kept.values())
            assert len(events) == 1

    with caplog.at_level("INFO", logger="watcher"):
        asyncio.run(story())
    assert sum("cannot be written (RuntimeError)" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("kept", ["", "on", True, 1, ["armed"], {"armed": True}])
def test_a_state_that_is_not_ours_is_none(sandbox: Sandbox, kept: Any) -> None:
    store = Store()
    store.kept[watcher()._state_key()] = kept
    assert run_for(sandbox, remembering(store), "0.50 USD") == []
    assert list(store.kept.values()) == ["disarmed"]


@needs_33
@pytest.mark.parametrize("assets", [["one"], ["one", "another"]])
def test_airflows_own_store(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, assets: list[str]) -> None:
    """As the triggerer injects it, also for a trigger of several assets; the supervisor is a dictionary."""
    from airflow.sdk import Asset
    from airflow.sdk.execution_time import comms, context, task_runner

    kept: dict[tuple[str, str], Any] = {}

    class Supervisor:
        async def asend(self, message: Any) -> Any:
            if isinstance(message, comms.SetAssetStateStoreByName):
                kept[message.name, message.key] = message.value
                return comms.OKResponse(ok=True)
            assert isinstance(message, comms.GetAssetStateStoreByName)
            if (message.name, message.key) not in kept:
                return comms.ErrorResponse(error=comms.ErrorType.ASSET_STORE_NOT_FOUND)
            return comms.AssetStateStoreResult(value=kept[message.name, message.key])

    def store() -> Any:
        # As in create_triggers() of Airflow's TriggerRunner.
        return context.AssetStateStoreAccessors(inlets=[Asset(name=name, uri=f"x://{name}") for name in assets])

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    assert watcher().asset_state_store is None, "which the triggerer replaces"
    assert run_for(sandbox, remembering(store()), "2 USD") == []
    assert len(run_for(sandbox, remembering(store()), "0.50 USD")) == 1
    assert run_for(sandbox, remembering(store()), "0.50 USD") == []
    assert kept == {(name, watcher()._state_key()): "disarmed" for name in assets}
    kept[assets[0], watcher()._state_key()] = "armed"  # as if the other could not be written
    assert len(run_for(sandbox, remembering(store()), "0.50 USD")) == 1


# One poll, nothing secret, nothing raised


@pytest.mark.parametrize("first", ["gate", "watcher"])
def test_watchers_and_gates_share_one_poll(sandbox: Sandbox, first: str) -> None:
    """Whoever begins it; and each goes on when the other ends."""

    def gate() -> BalanceTrigger:
        return BalanceTrigger("aimlbilling_default", str(9_000_000), 0.5, time.time() + 60)

    async def story() -> None:
        async with Triggerer() as running:
            begin = [lambda: running.watch(gate()), lambda: running.watch(watcher(poke_interval=0.5))]
            opened, fell = (begin[0](), begin[1]()) if first == "gate" else reversed((begin[1](), begin[0]()))
            recovered = running.watch(watcher(poke_interval=0.5, crossing="above", threshold="4 USD"))
            before, began = len(sandbox.requests), time.monotonic()
            await asyncio.sleep(2.2)
            asked, lasted = len(sandbox.requests) - before, time.monotonic() - began
            assert 2 <= asked <= lasted / 0.5 + 1, "one poll for all"
            assert sandbox.connections == 1
            sandbox.set_balance("4.50 USD")
            await until(lambda: opened)
            assert opened[0]["status"] == "cleared"
            assert (len(recovered), fell) == (1, [])
            sandbox.set_balance(1)
            await until(lambda: fell)
            assert sandbox.connections == 1

    asyncio.run(story())


def test_the_key_is_in_no_event_log_or_repr(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where the API quotes it back."""
    store = Store()
    watching = remembering(store)

    async def story() -> list[dict[str, Any]]:
        async with Triggerer() as running:
            events = running.watch(watching)
            await polled(sandbox)
            for fault in ({"status": 401}, {"status": 500}, {"status": 403}):
                sandbox.fail(message=f"You've run out of credits, {KEY}, {KEY[:8]}…", **fault)
                await polled(sandbox)
            return events

    with caplog.at_level("DEBUG"):
        (event,) = asyncio.run(story())
    assert event["balance"] is None
    out, err = capfd.readouterr()
    told = json.dumps(event) + caplog.text + out + err + repr(watching) + repr(vars(watching)) + repr(store.kept)
    assert "run out of credits" in told
    assert KEY[:8] not in told


@pytest.mark.parametrize("error", [None, RuntimeError(f"Bearer {KEY}")], ids=repr)
def test_a_poll_that_breaks_raises_nothing_and_is_no_busy_loop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Airflow makes a watcher anew within a second, so it ends one interval later."""

    async def poll(*_: Any) -> AsyncGenerator[Any, None]:
        if error:
            raise error
        return
        yield

    async def story() -> list[Any]:
        return [event async for event in watcher(poke_interval=0.5).run()]

    monkeypatch.setattr(polling, "poll", poll)
    began = time.monotonic()
    with caplog.at_level("INFO"):
        assert asyncio.run(story()) == []
    assert time.monotonic() - began >= 0.5
    assert any(line.endswith("its poll has ended.") for line in caplog.messages)
    assert KEY not in caplog.text


def test_the_poll_ends_with_its_last_reader(sandbox: Sandbox) -> None:
    async def story() -> None:
        async with Triggerer() as running:
            running.watch(watcher())
            await polled(sandbox)
        seen = len(sandbox.requests)
        await asyncio.sleep(0.5)
        assert len(sandbox.requests) == seen

    asyncio.run(story())


def test_a_dag_file_with_a_watcher_does_not_load_requests_or_the_hook() -> None:
    code = (
        "import sys\nfrom airflow.providers.common.compat.sdk import DAG\nfrom airflow.triggers import base\n"
        "before = set(sys.modules)\n"
        "from airflow_provider_aimlbilling.triggers.crossing import BalanceEventTrigger\n"
        "BalanceEventTrigger('1 USD')\nprint(*sorted(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    loaded = set(out.strip().splitlines()[-1].split())
    assert "airflow_provider_aimlbilling.crossings" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in ("requests", "urllib3", "http", "ssl")}
    assert not {name for name in loaded if name.endswith(("hooks.aimlbilling", "polling"))}
