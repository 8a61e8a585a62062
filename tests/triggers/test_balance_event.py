"""The watcher: one event for each crossing, one poll shared with the gates, nothing raised and nothing revealed."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any

import pytest
from support import AIRFLOW_3, KEY
from watchers import Store, Triggerer, polled, until, watcher

from airflow_provider_aimlbilling.compat import BaseEventTrigger
from airflow_provider_aimlbilling.exceptions import AimlBillingThresholdError
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.triggers.balance import BalanceTrigger
from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger
from airflow_provider_aimlbilling.waiting import watcher_state

needs_3 = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers")


@pytest.fixture(autouse=True)
def settle_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_state, "SETTLE_TIME", 0.15)


INVALID: dict[str, tuple[dict[str, Any], type[ValueError], str]] = {
    "another currency": (
        {"threshold": "2 EUR"},
        AimlBillingThresholdError,
        r"^threshold: '2 EUR' is not an amount of money. Write",
    ),
    "no unit": ({"threshold": "2.50"}, AimlBillingThresholdError, "Did you mean '2.50 USD'"),
    "a binary float": ({"threshold": 2.5}, AimlBillingThresholdError, "^threshold: 2.5 is not an amount"),
    "a boolean": ({"threshold": True}, AimlBillingThresholdError, "^threshold: True is not an amount"),
    "none": ({"threshold": None}, AimlBillingThresholdError, "threshold is required"),
    "zero": ({"threshold": 0}, AimlBillingThresholdError, "Use one above 0"),
    "too much": ({"threshold": 2**53 + 1}, AimlBillingThresholdError, "is between"),
    "too fine": ({"threshold": Decimal("1E-35")}, AimlBillingThresholdError, "^threshold: '0.0000.* is not an amount"),
    "a template": (
        {"threshold": "{{ var.value.x }}"},
        AimlBillingThresholdError,
        "do not render any. Write the amount itself",
    ),
    "hysteresis of another kind": ({"hysteresis": "1 EUR"}, AimlBillingThresholdError, "^hysteresis: '1 EUR' is not"),
    "no hysteresis": ({"hysteresis": None}, AimlBillingThresholdError, "hysteresis is required"),
    "negative hysteresis": ({"hysteresis": -1}, AimlBillingThresholdError, "^hysteresis: An amount is between 0"),
    "huge hysteresis": ({"hysteresis": 2**53}, AimlBillingThresholdError, "is between"),
    "hysteresis down to zero": (
        {"crossing": "above", "hysteresis": "1 USD"},
        AimlBillingThresholdError,
        "Use a hysteresis below the threshold",
    ),
    "unknown crossing": ({"crossing": "under"}, ValueError, "'below', 'above' or 'both', not 'under'"),
    "no crossing": ({"crossing": None}, ValueError, "'below', 'above' or 'both', not None"),
    "no interval": ({"poke_interval": 0}, ValueError, "at least 0.1 seconds, not 0"),
    "negative interval": ({"poke_interval": -1.5}, ValueError, "at least 0.1 seconds, not -1.5"),
    "infinite interval": ({"poke_interval": float("inf")}, ValueError, "at least 0.1 seconds, not inf"),
    "NaN interval": ({"poke_interval": float("nan")}, ValueError, "at least 0.1 seconds, not nan"),
    "interval as text": ({"poke_interval": "60"}, ValueError, "at least 0.1 seconds, not '60'"),
    "interval as boolean": ({"poke_interval": True}, ValueError, "at least 0.1 seconds, not True"),
    "empty connection id": ({"aimlbilling_conn_id": ""}, ValueError, "id of a connection"),
    "no connection id": ({"aimlbilling_conn_id": None}, ValueError, "id of a connection"),
    "templated connection id": ({"aimlbilling_conn_id": "{{ x }}"}, ValueError, "not a template"),
}


@pytest.mark.parametrize("row", INVALID)
def test_invalid_arguments_are_refused_when_the_dag_is_parsed(row: str) -> None:
    arguments, error, message = INVALID[row]
    with pytest.raises(error, match=message):
        BalanceEventTrigger(**{"threshold": "1 USD"} | arguments)


SAME = [2_000_000, "2000000", "2000000 credits", "1 USD", "$1.00", Decimal("2000000.0"), 2e6, Amount(2_000_000)]


@pytest.mark.parametrize("threshold", SAME, ids=repr)
def test_an_amount_serializes_alike_however_it_is_written(threshold: object) -> None:
    first = BalanceEventTrigger(threshold, "above", Decimal("0.5"), "another", 30)
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
    assert again.rules == first.rules


@needs_3
def test_airflow_tells_triggers_apart_by_their_arguments() -> None:
    """In the DAG and in its database alike. Otherwise it would keep recreating a trigger."""
    from airflow.models.trigger import Trigger
    from airflow.sdk import Asset, AssetWatcher

    def hashed(*arguments: Any, **more: Any) -> int:
        watcher = AssetWatcher(name="watcher", trigger=BalanceEventTrigger(*arguments, **more))
        (attached,) = Asset("balance", watchers=[watcher]).watchers
        path, kwargs = attached.trigger.serialize()
        stored = Trigger(classpath=path, kwargs=kwargs)
        assert BaseEventTrigger.hash(stored.classpath, stored.kwargs) == BaseEventTrigger.hash(path, kwargs)
        return BaseEventTrigger.hash(path, kwargs)

    one = hashed("1 USD")
    assert one == hashed(2_000_000, hysteresis="0 USD", poke_interval=60)
    others = [
        *({"threshold": "2 USD"}, {"crossing": "above"}, {"hysteresis": 1}, {"aimlbilling_conn_id": "another"}),
        *({"poke_interval": 61}, {"crossing": "both"}, {"threshold": ["1 USD", "2 USD"]}),
    ]
    assert len({one, *(hashed(**{"threshold": "1 USD"} | other) for other in others)}) == 8


def test_each_fall_fires_one_event(sandbox: Sandbox) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher())
            for balance, expected in (
                *(("2.50 USD", 0), ("1 USD", 0), ("0.99 USD", 1), ("0.01 USD", 1)),  # falls
                *(("1.20 USD", 1), ("0.50 USD", 1)),  # hovers around the threshold
                *(("1.50 USD", 1), ("1.20 USD", 1), ("0.90 USD", 2), ("0 USD", 2)),  # recovers, and falls again
            ):
                sandbox.set_balance(balance)
                await polled(sandbox)
                assert len(events) == expected, balance
            return events

    events = asyncio.run(scenario())
    assert [event["balance"]["balance_usd"] for event in events] == ["0.99", "0.90"]
    assert events[0]["reason"].startswith("Balance fell below 1.00 USD: 0.99 USD left")


def test_each_recovery_fires_one_event(sandbox: Sandbox) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher(crossing="above", threshold="2 USD"))
            for balance, expected in (
                *(("2.50 USD", 0), ("1.50 USD", 0), ("2 USD", 0)),  # above from the start; not far enough below
                *(("1.49 USD", 0), ("1.99 USD", 0), ("2 USD", 1), ("9 USD", 1)),
            ):
                sandbox.set_balance(balance)
                await polled(sandbox)
                assert len(events) == expected, balance
            return events

    (event,) = asyncio.run(scenario())
    assert event["reason"].startswith("Balance recovered to 2.00 USD")


def test_one_drop_below_several_thresholds_is_one_event(sandbox: Sandbox) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with Triggerer() as triggerer:
            events = triggerer.watch(
                watcher(threshold=["20 USD", "5 USD", "50 USD"], crossing="below", hysteresis="1 USD")
            )
            for balance, expected in (("100 USD", 0), ("30 USD", 1), ("2 USD", 2), ("70 USD", 2), ("4 USD", 3)):
                sandbox.set_balance(balance)
                await polled(sandbox)
                assert len(events) == expected, balance
            return events

    events = asyncio.run(scenario())
    passed = [[level["threshold_usd"] for level in event["passed"]] for event in events]
    assert passed == [["50.00"], ["5.00", "20.00"], ["5.00", "20.00", "50.00"]]
    assert [event["threshold_usd"] for event in events] == ["50.00", "5.00", "5.00"]
    assert events[2]["reason"] == "Balance fell below 5.00 USD (and 20.00 USD, 50.00 USD): 4.00 USD left."
    assert {event["aimlbilling_conn_id"] for event in events} == {"aimlbilling_default"}


LEVELS = ["50 USD", "20 USD", "5 USD"]


def test_each_level_fires_once_when_the_balance_falls_and_once_when_it_recovers(sandbox: Sandbox) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher(threshold=LEVELS, hysteresis="1 USD"))
            for balance, expected in (
                *(("100 USD", 0), ("49 USD", 1), ("19 USD", 2), ("4 USD", 3), ("0 USD", 3)),  # one after the other
                *(("5.50 USD", 3), ("4.90 USD", 3)),  # hovers around the lowest
                *(("25 USD", 4), ("80 USD", 5)),  # recovers in two steps
                *(("3 USD", 6), ("90 USD", 7), ("100 USD", 7)),  # falls through all at once, and recovers at once
            ):
                sandbox.set_balance(balance)
                await polled(sandbox)
                assert len(events) == expected, balance
            return events

    events = asyncio.run(scenario())
    shown = [
        (event["crossing"], event["threshold_usd"], [level["threshold_usd"] for level in event["passed"]])
        for event in events
    ]
    assert shown == [
        ("below", "50.00", ["50.00"]),
        ("below", "20.00", ["20.00"]),
        ("below", "5.00", ["5.00"]),
        ("above", "20.00", ["20.00", "5.00"]),
        ("above", "50.00", ["50.00"]),
        ("below", "5.00", ["5.00", "20.00", "50.00"]),
        ("above", "50.00", ["50.00", "20.00", "5.00"]),
    ]
    assert events[3]["reason"] == "Balance recovered to 20.00 USD (and 5.00 USD): 25.00 USD left."
    assert {event["aimlbilling_conn_id"] for event in events} == {"aimlbilling_default"}


def test_an_account_that_is_low_from_the_start_recovers_once(sandbox: Sandbox) -> None:
    sandbox.set_balance("10 USD")

    async def scenario() -> list[dict[str, Any]]:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher(threshold=LEVELS))
            for balance, expected in (("10 USD", 0), ("50 USD", 1), ("50.50 USD", 2), ("60 USD", 2)):
                sandbox.set_balance(balance)
                await polled(sandbox)
                assert len(events) == expected, balance
            return events

    assert [event["threshold_usd"] for event in asyncio.run(scenario())] == ["20.00", "50.00"]


def test_one_threshold_can_fire_both_ways(sandbox: Sandbox) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher(crossing="both", fire_at_start=True))
            for balance in ("0.50 USD", "2 USD", "0.50 USD"):
                sandbox.set_balance(balance)
                await polled(sandbox)
            return events

    sandbox.set_balance("0.50 USD")
    assert [event["crossing"] for event in asyncio.run(scenario())] == ["below", "above", "below"]


@pytest.mark.parametrize(
    ("threshold", "crossing"), [("1 USD", "below"), (["1 USD"], "both"), (("1 USD", "2 USD"), "both")]
)
def test_the_default_crossing_is_stored_as_what_it_means(threshold: object, crossing: str) -> None:
    """So that a later version with another default does not change a stored trigger."""
    _, arguments = BalanceEventTrigger(threshold).serialize()
    assert arguments["crossing"] == crossing
    assert BalanceEventTrigger(**json.loads(json.dumps(arguments))).serialize()[1] == arguments


def test_several_thresholds_survive_the_database() -> None:
    first = BalanceEventTrigger(["5 USD", "50 USD"], "above", "1 USD", fire_at_start=True)
    _, arguments = first.serialize()
    again = BalanceEventTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == first.serialize()
    assert [rule.threshold.usd_text for rule in again.rules] == ["50.00 USD", "5.00 USD"]
    assert again.fire_at_start


@pytest.mark.parametrize("arguments", [{"fire_at_start": "False"}, {"poke_interval": 10**400}])
def test_an_impossible_argument_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        BalanceEventTrigger("5 USD", **arguments)


@pytest.mark.parametrize("thresholds", [[], ["5 USD", 10_000_000], ["5 USD", "x"]])
def test_an_impossible_list_of_thresholds_is_refused(thresholds: list[object]) -> None:
    with pytest.raises(AimlBillingThresholdError):
        BalanceEventTrigger(thresholds)


@pytest.mark.parametrize(("crossing", "balance"), [("below", "0.50 USD"), ("above", "1 USD")])
def test_fire_at_start_fires_for_an_account_that_is_already_past_the_threshold(
    sandbox: Sandbox, crossing: str, balance: str
) -> None:
    sandbox.set_balance(balance)

    async def scenario() -> None:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher(crossing=crossing, fire_at_start=True))
            await polled(sandbox)
            assert len(events) == 1
            await polled(sandbox)
            assert len(events) == 1

    asyncio.run(scenario())


def test_fire_at_start_does_not_fire_while_the_balance_is_unknown(sandbox: Sandbox) -> None:
    async def scenario() -> None:
        async with Triggerer() as triggerer:
            sandbox.fail(status=503)
            events = triggerer.watch(watcher(fire_at_start=True))
            await polled(sandbox)
            sandbox.recover()
            await polled(sandbox)
            assert events == []

    asyncio.run(scenario())


def test_an_account_that_is_low_from_the_start_has_not_fallen(sandbox: Sandbox) -> None:
    sandbox.set_balance(1)

    async def scenario() -> None:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher())
            await polled(sandbox)
            assert events == []
            sandbox.set_balance("1.50 USD")
            await polled(sandbox)
            sandbox.fail(status=403)
            await until(lambda: events)
            await polled(sandbox)
            assert [event["balance"] for event in events] == [None]
            assert "top it up." in events[0]["reason"]
            sandbox.recover()
            sandbox.set_balance("1.49 USD")
            await polled(sandbox)
            assert len(events) == 1

    asyncio.run(scenario())


FAULTS: dict[str, dict[str, Any]] = {
    "refused": {"status": 401},
    "forbidden": {"status": 403, "message": "Not with this key."},
    "gone": {"status": 404},
    "rate limited": {"status": 429},
    "server error": {"status": 500},
    "not JSON": {"body": b"<html>"},
    "not an object": {"body": b"[]"},
    "reset": {"reset": True},
}


@pytest.mark.parametrize("row", FAULTS)
def test_an_error_is_not_a_crossing_and_does_not_end_the_watch(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, row: str
) -> None:
    """One log line for each change, an error if somebody has to act. The crossing then fires after all."""

    async def scenario() -> None:
        async with Triggerer() as triggerer:
            below, above = triggerer.watch(watcher()), triggerer.watch(watcher(threshold="3 USD", crossing="above"))
            await polled(sandbox)
            sandbox.fail(**FAULTS[row])
            await polled(sandbox)
            sandbox.set_balance("0.50 USD")
            await polled(sandbox)
            assert (below, above) == ([], [])
            sandbox.recover()
            await until(lambda: below)
            await polled(sandbox)
            assert (len(below), above) == (1, [])

    with caplog.at_level("INFO", logger="watcher"):
        asyncio.run(scenario())
    lines = [(r.levelname, r.getMessage()) for r in caplog.records if "below 1.00 USD" in r.msg % r.args]
    levels = [level for level, line in lines if "cannot read" in line]
    assert levels == ["ERROR" if row in ("refused", "forbidden", "gone", "not an object") else "WARNING"], lines
    found = [re.search("armed|cannot read|can read|fired", line) for _, line in lines]
    assert [match and match[0] for match in found] == ["armed", "cannot read", "can read", "fired"], lines


def test_a_watcher_waits_for_a_missing_connection(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher(aimlbilling_conn_id="later"))
            await until(lambda: any("'later'" in line and "cannot read" in line for line in caplog.messages))
            monkeypatch.setenv("AIRFLOW_CONN_LATER", sandbox.connection())
            await polled(sandbox)
            sandbox.set_balance(0)
            await until(lambda: events)

    with caplog.at_level("INFO", logger="watcher"):
        asyncio.run(scenario())
    assert sum(line.startswith("The watcher") and "cannot read" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("first", ["gate", "watcher"])
def test_watchers_and_gates_share_one_poll(sandbox: Sandbox, first: str) -> None:
    """Whichever opens it. Each continues when the other ends."""

    def gate() -> BalanceTrigger:
        return BalanceTrigger("aimlbilling_default", str(9_000_000), 0.3, time.time() + 60)

    async def scenario() -> None:
        async with Triggerer() as triggerer:
            starts = [lambda: triggerer.watch(gate()), lambda: triggerer.watch(watcher(poke_interval=0.3))]
            opened, fell = (starts[0](), starts[1]()) if first == "gate" else reversed((starts[1](), starts[0]()))
            recovered = triggerer.watch(watcher(poke_interval=0.3, crossing="above", threshold="4 USD"))
            before, started = len(sandbox.requests), time.monotonic()
            await asyncio.sleep(1.3)
            requests, seconds = len(sandbox.requests) - before, time.monotonic() - started
            assert 2 <= requests <= seconds / 0.3 + 1, "one poll for all"
            assert sandbox.connections == 1
            sandbox.set_balance("4.50 USD")
            await until(lambda: opened)
            assert opened[0]["status"] == "cleared"
            assert (len(recovered), fell) == (1, [])
            sandbox.set_balance(1)
            await until(lambda: fell)
            assert sandbox.connections == 1

    asyncio.run(scenario())


def test_no_event_log_or_repr_contains_the_key(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even if the API quotes it."""
    store = Store()
    trigger = watcher(store)

    async def scenario() -> list[dict[str, Any]]:
        async with Triggerer() as triggerer:
            events = triggerer.watch(trigger)
            await polled(sandbox)
            for fault in ({"status": 401}, {"status": 500}, {"status": 403}):
                sandbox.fail(message=f"You've run out of credits, {KEY}, {KEY[:8]}…", **fault)
                await polled(sandbox)
            return events

    with caplog.at_level("DEBUG"):
        (event,) = asyncio.run(scenario())
    assert event["balance"] is None
    out, err = capfd.readouterr()
    text = json.dumps(event) + caplog.text + out + err + repr(trigger) + repr(vars(trigger)) + repr(store.saved)
    assert "run out of credits" in text
    assert KEY[:8] not in text


@pytest.mark.parametrize("error", [None, RuntimeError(f"Bearer {KEY}")], ids=repr)
def test_a_poll_that_fails_raises_nothing_and_does_not_cause_a_busy_loop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Airflow recreates a watcher within a second, so it ends one interval later."""

    async def poll(*_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        if error:
            raise error
        return
        yield

    async def scenario() -> list[Any]:
        return [event async for event in watcher(poke_interval=0.5).run()]

    monkeypatch.setattr("airflow_provider_aimlbilling.waiting.poll.poll", poll)
    started = time.monotonic()
    with caplog.at_level("INFO"):
        assert asyncio.run(scenario()) == []
    assert time.monotonic() - started >= 0.5
    assert any(line.endswith("its poll has ended.") for line in caplog.messages)
    assert KEY not in caplog.text


def test_the_poll_ends_with_its_last_watcher(sandbox: Sandbox) -> None:
    async def scenario() -> None:
        async with Triggerer() as triggerer:
            triggerer.watch(watcher())
            await polled(sandbox)
        requests = len(sandbox.requests)
        await asyncio.sleep(0.3)
        assert len(sandbox.requests) == requests

    asyncio.run(scenario())


def test_a_dag_file_with_a_watcher_does_not_load_requests_or_the_hook() -> None:
    code = (
        f"import sys\nfrom {'airflow.sdk' if AIRFLOW_3 else 'airflow'} import DAG\nfrom airflow.triggers import base\n"
        "before = set(sys.modules)\n"
        "from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger\n"
        "BalanceEventTrigger('1 USD')\nprint(*sorted(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    loaded = set(out.strip().splitlines()[-1].split())
    assert "airflow_provider_aimlbilling.money.crossing" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in ("requests", "urllib3", "http", "ssl")}
    assert not {name for name in loaded if name.endswith(("hooks.aimlbilling", "waiting.poll"))}
