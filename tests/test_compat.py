"""The compatibility module: every name resolves on this Airflow, or says which version it needs, and costs little."""

from __future__ import annotations

import ast
import asyncio
import copy
import inspect
import pickle
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import AIRFLOW, AIRFLOW_3, KEY, airflow_sdk, modules_loaded_by

from airflow_provider_aimlbilling import compat
from airflow_provider_aimlbilling.sandbox import Sandbox

MODULE = "airflow_provider_aimlbilling.compat"
VERSION = tuple(int(part) for part in AIRFLOW.split(".")[:2])
BASE = "from airflow.sdk import DAG" if AIRFLOW_3 else "from airflow import DAG"

# The version in which Airflow introduced a name. All other names exist in every supported version.
SINCE = {"DownstreamTasksSkipped": (3, 0), "RetryDecision": (3, 3), "RetryPolicy": (3, 3)}
NAMES = {
    *("AirflowException", "AirflowNotFoundException", "AirflowPlugin", "AirflowRescheduleException"),
    *("AirflowSensorTimeout", "AirflowSkipException", "DownstreamTasksSkipped"),
    *("BaseEventTrigger", "BaseHook", "BaseOperator", "BaseOperatorLink", "BaseSensorOperator", "BaseTrigger"),
    *("Connection", "Context", "PokeReturnValue", "RetryDecision", "RetryPolicy", "SkipMixin", "StartTriggerArgs"),
    *("Stats", "TaskInstanceKey", "TaskSuccessEvent", "TriggerEvent", "XCom", "conf", "get_current_context"),
}

OBJECTS = {"Stats", "conf", "get_current_context"}  # all others are classes


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_name_resolves_or_says_which_airflow_has_it(name: str) -> None:
    if SINCE.get(name, (0, 0)) > VERSION:
        major, minor = SINCE[name]
        with pytest.raises(ImportError, match=rf"^Airflow {AIRFLOW} does not have {name}\. Airflow {major}\.{minor} "):
            getattr(compat, name)
        return
    found = getattr(compat, name)
    assert inspect.isclass(found) or name in OBJECTS
    assert found is getattr(compat, name), "a second look-up returns the same object"


def test_the_same_names_are_declared_for_type_checkers() -> None:
    tree = ast.parse(Path(compat.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(declared) == sorted(compat._MODULES) == sorted(NAMES)


def test_the_names_are_those_of_the_task_sdk() -> None:
    """A DAG file subclasses and catches what airflow.sdk exports, so these must be the same objects."""
    sdk = airflow_sdk()
    for name in ("BaseOperator", "BaseSensorOperator", "Connection", "Context", "get_current_context"):
        assert getattr(compat, name) is getattr(sdk, name)


def test_the_version_flags_match_the_installed_airflow() -> None:
    assert compat.AIRFLOW_3 is (VERSION >= (3, 0))
    assert compat.AIRFLOW_3_2 is (VERSION >= (3, 2))
    assert compat.AIRFLOW_3_3 is (VERSION >= (3, 3))


def test_watchers_have_their_base_class_where_airflow_has_watchers() -> None:
    from airflow.triggers import base

    assert issubclass(compat.BaseEventTrigger, base.BaseTrigger)
    assert (compat.BaseEventTrigger is base.BaseTrigger) is not AIRFLOW_3


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="BaseNothing"):
        compat.BaseNothing  # noqa: B018
    with pytest.raises(ImportError, match="BaseNothing"):
        from airflow_provider_aimlbilling.compat import BaseNothing  # noqa: F401


def test_notset_survives_copying() -> None:
    """Airflow copies tasks and their default_args. A copy that differs would look like a value that somebody passed."""
    for copied in (
        copy.copy(compat.NOTSET),
        copy.deepcopy([compat.NOTSET])[0],
        pickle.loads(pickle.dumps(compat.NOTSET)),
    ):
        assert copied is compat.NOTSET


@pytest.mark.parametrize(("map_index", "mapped"), [(None, False), (-1, False), (0, True), (3, True)])
def test_a_task_instance_with_a_map_index_is_mapped(map_index: int | None, mapped: bool) -> None:
    context: Any = {"ti": SimpleNamespace(map_index=map_index)}
    assert compat.is_mapped(context) is mapped


EARLY, LATE = datetime(2026, 11, 1, tzinfo=timezone.utc), datetime(2026, 11, 2, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"start_date": LATE, "clear_number": 0, "run_after": EARLY}, LATE),
        ({"start_date": LATE, "clear_number": 2, "run_after": EARLY}, EARLY),
        ({"start_date": LATE, "clear_number": 2, "data_interval_end": EARLY}, EARLY),
        ({"start_date": EARLY, "clear_number": 1, "run_after": LATE}, EARLY),
        ({"start_date": LATE, "clear_number": 1, "data_interval_end": None}, LATE),
        ({"start_date": LATE}, LATE),
        ({"start_date": None}, None),
    ],
)
def test_a_run_begins_when_it_was_due_if_it_was_cleared(fields: dict[str, Any], start: datetime | None) -> None:
    """Clearing moves the start, and the tries of before would be lost."""
    context: Any = {"dag_run": SimpleNamespace(**fields)}
    assert compat.run_start(context) == start


def test_a_context_without_a_run_has_no_start() -> None:
    assert compat.run_start({}) is None  # type: ignore[typeddict-item]


NOT_RESOLVED = f"import {MODULE} as compat; assert not set(compat._MODULES) & set(vars(compat))"
SENSOR_NAMES = "BaseSensorOperator, BaseOperatorLink, PokeReturnValue, AirflowSensorTimeout, AirflowSkipException"


@pytest.mark.xdist_group("modules")  # both tests read one measurement
def test_importing_the_module_loads_nothing_and_resolves_no_name() -> None:
    loaded, _ = modules_loaded_by(NOT_RESOLVED, f"from {MODULE} import {SENSOR_NAMES}", base=BASE)
    assert loaded - {MODULE.partition(".")[0]} == {MODULE}


@pytest.mark.xdist_group("modules")
@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no airflow.sdk to measure from")
def test_what_a_dag_file_with_a_sensor_needs_loads_few_modules() -> None:
    _, loaded = modules_loaded_by(NOT_RESOLVED, f"from {MODULE} import {SENSOR_NAMES}", base=BASE)
    assert len(loaded) <= 8, sorted(loaded)


def test_a_connection_is_looked_up_without_blocking_the_loop(sandbox: Sandbox) -> None:
    assert inspect.iscoroutinefunction(compat.get_async_connection)
    connection = asyncio.run(compat.get_async_connection("aimlbilling_default"))
    assert (connection.conn_type, connection.password) == ("aimlbilling", KEY)


@pytest.mark.usefixtures("database")
def test_a_missing_connection_is_an_airflow_error() -> None:
    with pytest.raises(compat.AirflowNotFoundException):
        asyncio.run(compat.get_async_connection("missing"))
