"""What a resumed sensor makes of the trigger's event, and of Airflow's own failures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_aimlbilling.exceptions import AimlBillingContractError, AimlBillingError
from airflow_provider_aimlbilling.sandbox import Sandbox
from airflow_provider_aimlbilling.sensors.balance import BalanceSensor

EVENTS = {
    "nothing": None,
    "not a dictionary": "cleared",
    "no status": {},
    "unknown status": {"status": "success"},
    "cleared without balance": {"status": "cleared"},
    "cleared with half a balance": {"status": "cleared", "balance": {"low_balance": False}},
    "cleared with a boolean": {"status": "cleared", "balance": {"balance": True}},
    "timeout without message": {"status": "timeout"},
    "failure without message": {"status": "failed", "error": "AimlBillingAuthError"},
    "failure of an unknown class": {"status": "failed", "error": "ValueError", "message": "x"},
    "failure with a name that is not a class": {"status": "failed", "error": "annotations", "message": "x"},
}


@pytest.mark.parametrize("row", EVENTS)
def test_an_unknown_event_is_never_a_success(row: str) -> None:
    with pytest.raises(AimlBillingContractError):
        BalanceSensor(task_id="gate").execute_complete({}, EVENTS[row])  # type: ignore[typeddict-item]


@pytest.mark.parametrize("name", [error.__name__ for error in AimlBillingError.__subclasses__()])
def test_a_failure_is_raised_with_its_own_class(name: str) -> None:
    with pytest.raises(AimlBillingError, match="the next step") as caught:
        BalanceSensor(task_id="gate").execute_complete(
            {},  # type: ignore[typeddict-item]
            {"status": "failed", "error": name, "message": "the next step"},
        )
    assert type(caught.value).__name__ == name


@pytest.mark.parametrize("try_number", [1, None])
@pytest.mark.parametrize("status", ["cleared", "timeout", "failed"])
def test_an_event_of_another_try_decides_nothing(sandbox: Sandbox, status: str, try_number: int | None) -> None:
    """A retried task may receive the event of its first try, when the balance was another one."""
    event = {"status": status, "balance": {"balance": 9}, "message": "x", "error": "AimlBillingAuthError"}
    context: Any = {"ti": SimpleNamespace(try_number=2, map_index=-1, xcom_push=lambda **_: None)}
    gate = BalanceSensor(task_id="gate", threshold="2 USD", deferrable=True)
    assert gate.execute_complete(context, event | {"try_number": try_number})["balance"] == 5_000_000
    assert len(sandbox.requests) == 1, "it has asked again"
    sandbox.set_balance(0)
    with pytest.raises(BaseException) as caught:
        gate.execute_complete(context, event | {"try_number": try_number})
    assert type(caught.value).__name__ == "TaskDeferred"


def test_an_event_of_this_try_decides(sandbox: Sandbox) -> None:
    event = {"status": "cleared", "balance": {"balance": 9}, "try_number": 2}
    context: Any = {"ti": SimpleNamespace(try_number=2, map_index=-1, xcom_push=lambda **_: None)}
    assert BalanceSensor(task_id="gate").execute_complete(context, event)["balance"] == 9
    assert sandbox.requests == []


AIRFLOW_FAILURES = {
    # Airflow's reason if the triggerer is gone or could not run the trigger: soft_fail, never_fail, no flag
    "Trigger/execution timeout": ("AirflowSkipException", "AirflowSkipException", "AirflowSensorTimeout"),
    "Trigger timeout": ("AirflowSkipException", "AirflowSkipException", "AirflowSensorTimeout"),
    "Trigger failure": ("TaskDeferralError", "AirflowSkipException", "TaskDeferralError"),
}


@pytest.mark.parametrize("reason", AIRFLOW_FAILURES)
def test_soft_fail_does_not_hide_failures_of_the_triggerer(reason: str) -> None:
    flags: list[dict[str, Any]] = [{"soft_fail": True}, {"never_fail": True}, {}]
    for flag, outcome in zip(flags, AIRFLOW_FAILURES[reason], strict=True):
        sensor = BalanceSensor(task_id="gate", **flag)
        with pytest.raises(Exception) as caught:
            sensor.resume_execution("__fail__", {"error": reason}, {})  # type: ignore[typeddict-item]
        assert type(caught.value).__name__ == outcome
