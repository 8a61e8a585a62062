"""A watcher's state across restarts: each crossing fires, and in doubt twice rather than never."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support import AIRFLOW, KEY
from watchers import Store, Triggerer, polled, run_for, until, watcher

from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.triggers.balance_event import BalanceEventTrigger
from airflow_provider_aimlbilling.waiting import watcher_state

needs_3_3 = pytest.mark.skipif(
    AIRFLOW.startswith(("2.", "3.0", "3.1", "3.2")), reason="there is no asset state store before Airflow 3.3"
)


@pytest.fixture(autouse=True)
def settle_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_state, "SETTLE_TIME", 0.15)


def state_key(trigger: BalanceEventTrigger) -> str:
    """Return the key under which a watcher of one threshold saves its state."""
    return trigger._level(trigger.rules[0]).state._key


def test_a_crossing_fires_once_across_restarts(sandbox: Sandbox) -> None:
    """A fall while no triggerer runs fires afterwards. After it has fired, a restart does not fire it again."""
    store = Store()
    assert run_for(sandbox, watcher(store), "2 USD") == []
    fell = run_for(sandbox, watcher(store), "0.50 USD")
    assert [event["balance"]["balance_usd"] for event in fell] == ["0.50"]
    assert run_for(sandbox, watcher(store), "0.40 USD", "1.20 USD", "0.30 USD") == []
    assert run_for(sandbox, watcher(store), "1.50 USD") == []
    assert len(run_for(sandbox, watcher(store), "1.20 USD", "0.20 USD")) == 1
    assert store.saved == {"aimlbilling_default: below 2000000 credits, hysteresis 1000000 credits": "disarmed"}
    assert store.writes == 4, "changes only, not every poll"


def test_without_a_store_a_restart_starts_over(sandbox: Sandbox) -> None:
    assert run_for(sandbox, watcher(), "2 USD") == []
    assert run_for(sandbox, watcher(), "0.50 USD") == []
    assert len(run_for(sandbox, watcher(), "2 USD", "0.50 USD")) == 1
    assert run_for(sandbox, watcher(), "0.50 USD") == []


def test_an_event_that_airflow_may_have_lost_fires_again(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Twice is better than never: the state is saved some seconds after the event, not with it."""
    monkeypatch.setattr(watcher_state, "SETTLE_TIME", 60)
    store = Store()

    async def killed() -> int:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher(store))
            await polled(sandbox)
            sandbox.set_balance("0.50 USD")
            await until(lambda: events)
            return len(events)

    assert asyncio.run(killed()) == 1
    assert list(store.saved.values()) == ["armed"]
    monkeypatch.setattr(watcher_state, "SETTLE_TIME", 0.1)
    assert len(run_for(sandbox, watcher(store), "0.50 USD")) == 1
    assert run_for(sandbox, watcher(store), "0.50 USD") == []


def test_fire_at_start_fires_once_and_not_at_each_restart(sandbox: Sandbox) -> None:
    store = Store()
    assert len(run_for(sandbox, watcher(store, fire_at_start=True), "0.50 USD")) == 1
    assert run_for(sandbox, watcher(store, fire_at_start=True), "0.50 USD") == []


def test_each_of_several_thresholds_keeps_its_own_state(sandbox: Sandbox) -> None:
    store = Store()
    levels = {"threshold": ["1 USD", "2 USD"]}
    assert len(run_for(sandbox, watcher(store, **levels), "3 USD", "1.50 USD")) == 1
    (event,) = run_for(sandbox, watcher(store, **levels), "0.50 USD")
    assert [level["threshold_usd"] for level in event["passed"]] == ["1.00"]


def test_crossings_of_one_asset_have_separate_states(sandbox: Sandbox) -> None:
    """Another threshold, direction, hysteresis or account is another crossing; another interval is not."""
    store = Store()
    variants: list[dict[str, Any]] = [{}, {"threshold": "2 USD"}, {"crossing": "above"}, {"hysteresis": 0}]
    for changes in variants:
        run_for(sandbox, watcher(store, **changes), "3 USD")
    another = state_key(watcher(aimlbilling_conn_id="another"))
    assert len({another, *store.saved}) == 5
    assert state_key(watcher(poke_interval=99)) == state_key(watcher())
    assert len(another) < 512 - 250, "the limit of Airflow's database, with the longest connection id"


@pytest.mark.parametrize("failures", [1, 2, 1000])
def test_a_store_that_fails_does_not_end_the_watch(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, failures: int
) -> None:
    """The state is requested again. Until then, the readings since the start count."""
    store = Store()
    key = state_key(watcher())
    store.saved[key] = "armed"
    store.failures = failures
    with caplog.at_level("INFO", logger="watcher"):
        events = run_for(sandbox, watcher(store), "0.50 USD", "2 USD", "0.60 USD")
    fired = [event["balance"]["balance_usd"] for event in events]
    assert fired == (["0.60"] if failures == 1000 else ["0.50", "0.60"])
    assert store.saved[key] == ("armed" if failures == 1000 else "disarmed")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, warnings
    assert "cannot be read (RuntimeError)" in warnings[0]
    assert KEY not in caplog.text


def test_a_fall_fires_even_if_the_store_was_unreachable_before(sandbox: Sandbox) -> None:
    """The saved state is disarmed, but the balance has been 3 USD since: that arms it, whatever is loaded later."""
    store = Store()
    store.saved[state_key(watcher())] = "disarmed"
    trigger = watcher(store)

    async def scenario() -> None:
        async with Triggerer() as triggerer:
            store.failures = 1000
            sandbox.set_balance("3 USD")
            events = triggerer.watch(trigger)
            await polled(sandbox)
            sandbox.set_balance("0.05 USD")
            store.failures = 0
            await until(lambda: events)

    asyncio.run(scenario())


def test_an_event_does_not_fire_again_when_the_store_is_back(sandbox: Sandbox) -> None:
    store = Store()
    key = state_key(watcher())

    async def scenario() -> None:
        async with Triggerer() as triggerer:
            store.saved[key], store.failures = "armed", 1000
            events = triggerer.watch(watcher(store))
            await polled(sandbox)
            sandbox.set_balance(0)
            await until(lambda: events)
            store.failures = 0
            await until(lambda: store.saved[key] == "disarmed")
            await polled(sandbox)
            assert len(events) == 1

    asyncio.run(scenario())


def test_a_state_that_cannot_be_saved_is_saved_later(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    store = Store()

    async def scenario() -> None:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher(store))
            await until(lambda: "armed" in store.saved.values())
            store.failures = 3
            sandbox.set_balance(0)
            await until(lambda: "disarmed" in store.saved.values())
            assert len(events) == 1

    with caplog.at_level("INFO", logger="watcher"):
        asyncio.run(scenario())
    assert sum("cannot be saved (RuntimeError)" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("saved", ["", "on", True, 1, ["armed"], {"armed": True}])
def test_a_saved_value_that_is_not_a_state_counts_as_none(sandbox: Sandbox, saved: Any) -> None:
    store = Store()
    store.saved[state_key(watcher())] = saved
    assert run_for(sandbox, watcher(store), "0.50 USD") == []
    assert list(store.saved.values()) == ["disarmed"]


@needs_3_3
@pytest.mark.parametrize("assets", [["one"], ["one", "another"]])
def test_the_state_is_kept_in_airflow_s_own_store(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, assets: list[str]
) -> None:
    """As the triggerer injects it, even for a trigger of several assets. The supervisor is a dictionary."""
    from airflow.sdk import Asset
    from airflow.sdk.execution_time import comms, context, task_runner

    saved: dict[tuple[str, str], Any] = {}

    class Supervisor:
        async def asend(self, message: Any) -> Any:
            if isinstance(message, comms.SetAssetStateStoreByName):
                saved[message.name, message.key] = message.value
                return comms.OKResponse(ok=True)
            assert isinstance(message, comms.GetAssetStateStoreByName)
            if (message.name, message.key) not in saved:
                return comms.ErrorResponse(error=comms.ErrorType.ASSET_STORE_NOT_FOUND)
            return comms.AssetStateStoreResult(value=saved[message.name, message.key])

    def store() -> Any:
        # As in create_triggers() of Airflow's TriggerRunner.
        return context.AssetStateStoreAccessors(inlets=[Asset(name=name, uri=f"x://{name}") for name in assets])

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    assert watcher().asset_state_store is None, "the triggerer sets it"
    assert run_for(sandbox, watcher(store()), "2 USD") == []
    assert len(run_for(sandbox, watcher(store()), "0.50 USD")) == 1
    assert run_for(sandbox, watcher(store()), "0.50 USD") == []
    assert saved == {(name, state_key(watcher())): "disarmed" for name in assets}
    saved[assets[0], state_key(watcher())] = "armed"  # as if the other could not be saved
    assert len(run_for(sandbox, watcher(store()), "0.50 USD")) == 1


LEVELS = ["5 USD", "2 USD", "1 USD"]


def levels_of(events: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    return [(event["crossing"], [level["threshold_usd"] for level in event["passed"]]) for event in events]


def test_each_level_fires_once_across_restarts(sandbox: Sandbox) -> None:
    """A recovery while no triggerer runs fires afterwards, too, and not again at the next start."""
    store = Store()

    def run(*balances: str) -> list[tuple[str, list[str]]]:
        return levels_of(run_for(sandbox, watcher(store, threshold=LEVELS), *balances))

    assert run("9 USD") == []
    assert run("1.40 USD") == [("below", ["2.00", "5.00"])]
    assert run("1.40 USD", "1.80 USD") == []
    assert run("0.50 USD") == [("below", ["1.00"])]
    assert run("3 USD") == [("above", ["2.00", "1.00"])]
    assert run("3 USD", "5.40 USD", "4 USD") == []
    assert run("9 USD") == [("above", ["5.00"])]
    assert run("9 USD") == []
    assert set(store.saved.values()) == {"armed"}
    assert len(store.saved) == 3


def test_a_recovery_that_airflow_may_have_lost_fires_again(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    store = Store()
    assert run_for(sandbox, watcher(store, crossing="both"), "2 USD", "0.50 USD")
    monkeypatch.setattr(watcher_state, "SETTLE_TIME", 60)

    async def killed() -> list[dict[str, Any]]:
        async with Triggerer() as triggerer:
            events = triggerer.watch(watcher(store, crossing="both"))
            sandbox.set_balance("2 USD")
            await until(lambda: events)
            return events

    assert levels_of(asyncio.run(killed())) == [("above", ["1.00"])]
    assert list(store.saved.values()) == ["disarmed"]
    monkeypatch.setattr(watcher_state, "SETTLE_TIME", 0.1)
    assert len(run_for(sandbox, watcher(store, crossing="both"), "2 USD")) == 1
    assert run_for(sandbox, watcher(store, crossing="both"), "2 USD") == []


@pytest.mark.parametrize("readings", [("2 USD", "2 USD"), ("2 USD", "1.20 USD")])
def test_a_recovery_fires_even_if_the_state_can_only_be_read_later(sandbox: Sandbox, readings: tuple[str, ...]) -> None:
    store = Store()
    assert run_for(sandbox, watcher(store, crossing="both"), "2 USD", "0.50 USD")
    store.failures = 2
    events = run_for(sandbox, watcher(store, crossing="both"), *readings)
    assert levels_of(events) == [("above", ["1.00"])]
