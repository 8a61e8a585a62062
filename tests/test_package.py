"""What is installed into an Airflow: quick to load, typed, and known to the provider manager."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path
from typing import Any

import airflow as airflow_module
import jsonschema
import pytest
from support import AIRFLOW, AIRFLOW_3, ROOT, modules_loaded_by

import airflow_provider_aimlbilling
from airflow_provider_aimlbilling.get_provider_info import connection_form, get_provider_info
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

PACKAGE = "airflow_provider_aimlbilling"
SOURCE = Path(airflow_provider_aimlbilling.__file__).parent
DISTRIBUTION = distribution("airflow-provider-aimlbilling")
# What a DAG file loads anyway.
DAG_FILE = (
    f"from {PACKAGE}.compat import BaseOperator, BaseSensorOperator, SkipMixin, conf; "
    f"from {'airflow.sdk' if AIRFLOW_3 else 'airflow'} import DAG"
)


MODULES = ["operators.balance", "sensors.balance", "operators.run_cost", "operators.cost_report"]


@pytest.mark.parametrize("module", MODULES)
def test_a_dag_file_does_not_load_requests_or_the_hook(module: str) -> None:
    loaded = modules_loaded_by(*(f"import {PACKAGE}.{name}" for name in MODULES), base=DAG_FILE)
    extra = loaded[MODULES.index(module)]
    assert f"{PACKAGE}.{module}" in extra
    heavy = {name for name in extra if name.partition(".")[0] in ("requests", "urllib3", "aiohttp", "asgiref", "http")}
    assert not heavy
    assert f"{PACKAGE}.hooks.aimlbilling" not in extra
    assert not [name for name in extra if name.startswith((f"{PACKAGE}.triggers", f"{PACKAGE}.money"))]


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no airflow.sdk to measure from")
def test_the_sensor_adds_few_modules_to_airflow() -> None:
    (extra,) = modules_loaded_by(f"import {PACKAGE}.sensors.balance", base="from airflow.sdk import DAG")
    assert f"{PACKAGE}.sensors.balance" in extra
    assert len(extra) <= 15, sorted(extra)


def test_the_package_itself_imports_nothing() -> None:
    assert modules_loaded_by(f"import {PACKAGE}", base="") == [{PACKAGE}]


def test_the_package_is_typed_and_has_the_version_of_its_distribution() -> None:
    assert (SOURCE / "py.typed").exists()
    assert DISTRIBUTION.version == airflow_provider_aimlbilling.__version__


def test_the_entry_point_is_the_provider_info() -> None:
    points = [point for point in entry_points(group="apache_airflow_provider") if point.module.startswith(PACKAGE)]
    assert [point.load() for point in points] == [get_provider_info]


def test_everything_that_the_provider_info_names_exists() -> None:
    info = get_provider_info()
    named = [
        module for key in ("hooks", "operators", "sensors", "triggers") for module in info[key][0]["python-modules"]
    ]
    folders = ("hooks", "operators", "sensors", "triggers")
    assert sorted(named) == sorted(
        f"{PACKAGE}.{folder}.{path.stem}"
        for folder in folders
        for path in (SOURCE / folder).glob("*.py")
        if path.name != "__init__.py"
    )
    for module in named:
        importlib.import_module(module)
    for link in info["extra-links"]:
        module, _, name = link.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
    connection = info["connection-types"][0]
    module, _, name = connection["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is AimlBillingHook
    assert connection["connection-type"] == AimlBillingHook.conn_type
    assert AimlBillingHook.default_conn_name == "aimlbilling_default"


# Keys that an older Airflow does not have in its schema, and ignores. No schema lists conn-fields and
# ui-field-behaviour, although Airflow 3.2 and later read them.
NEWER_KEYS = {
    "": set() if AIRFLOW_3 else {"integrations", "operators", "sensors", "hooks"},
    "connection-types": {"conn-fields", "ui-field-behaviour", "hook-name"},
}


def test_the_provider_info_follows_the_schema_of_this_airflow() -> None:
    """Airflow only logs a violation, and then leaves the provider out. Keys that it does not know have no effect."""
    schema = json.loads((Path(airflow_module.__file__).parent / "provider_info.schema.json").read_text())
    info = get_provider_info()
    jsonschema.validate(info, schema)
    known = schema["properties"]
    assert info.keys() - NEWER_KEYS[""] <= known.keys()
    for name, entries in info.items():
        for entry in entries if name in known and isinstance(entries, list) else []:
            if isinstance(entry, dict):
                assert entry.keys() <= known[name]["items"]["properties"].keys() | NEWER_KEYS.get(name, set()), name


def test_the_setting_of_the_billing_page_is_one_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from airflow.configuration import conf; print(conf.getboolean('aimlbilling', 'billing_page', fallback=True))"
    )
    for value in ("True", "False"):
        monkeypatch.setenv("AIRFLOW__AIMLBILLING__BILLING_PAGE", value)
        out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        assert out.split()[-1] == value


def test_the_connection_form_is_declared_only_once() -> None:
    """All versions of Airflow draw the same fields, because the hook's methods only translate the provider info."""
    form = connection_form()
    behaviour = AimlBillingHook.get_ui_field_behaviour()
    assert behaviour["relabeling"] == {"password": "API Key", "host": "Base URL"}
    assert behaviour["hidden_fields"] == form["ui-field-behaviour"]["hidden-fields"]
    try:
        import wtforms  # noqa: F401
    except ImportError:
        return
    widgets = AimlBillingHook.get_connection_form_widgets()
    assert list(widgets) == list(form["conn-fields"]) == ["timeout", "api_version"]


@pytest.mark.skipif(AIRFLOW.startswith(("2.", "3.0")), reason="Airflow before 3.1 draws the form differently")
def test_the_ui_draws_the_connection_form() -> None:
    code = (
        "from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService as Form\n"
        "(form,) = (form for form in Form.hook_meta_data() if form.connection_type == 'aimlbilling')\n"
        "print(form.model_dump_json(by_alias=True))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    form = json.loads(out.strip().splitlines()[-1])
    assert form["hook_name"] == "AI/ML API billing"
    standard = form["standard_fields"]
    assert {name for name, field in standard.items() if field and field["hidden"]} >= {"login", "port", "url_schema"}
    assert (standard["password"]["title"], standard["host"]["title"]) == ("API Key", "Base URL")
    extra = form["extra_fields"]
    assert {name: field["schema"]["title"] for name, field in extra.items()} == {
        "timeout": "Timeout",
        "api_version": "API version",
    }
    assert all(field["description"] for field in extra.values())


# One process for all commands, because starting Airflow takes seconds.
COMMANDS = """
import json, sys
from airflow.__main__ import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["airflow", *command.split()]
    main()
    print("\\x1e", end="", flush=True)
"""


def airflow(*commands: str) -> list[Any]:
    """Return the JSON that each command of the ``airflow`` program prints."""
    command = [sys.executable, "-c", COMMANDS, json.dumps([f"{command} --output json" for command in commands])]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # The JSON is the last line: Airflow 3.0 may log to the standard output before it.
    return [json.loads(text.strip().splitlines()[-1]) for text in out.split("\x1e")[:-1]]


@pytest.mark.usefixtures("database")
def test_airflow_lists_the_provider() -> None:
    listed, hooks, behaviours, info = airflow(
        "providers list",
        "providers hooks",
        "providers behaviours",
        "providers get airflow-provider-aimlbilling --full",
    )
    assert [row["version"] for row in listed if row["package_name"] == "airflow-provider-aimlbilling"] == [
        airflow_provider_aimlbilling.__version__
    ]
    (row,) = (row for row in hooks if row["connection_type"] == "aimlbilling")
    assert row["class"].endswith("AimlBillingHook")
    assert row["conn_id_attribute_name"] == "aimlbilling_conn_id"
    assert callable(AimlBillingHook.test_connection)
    forms = {row["field_behaviours"] for row in behaviours}
    assert not forms or "aimlbilling" in forms, "3.0 and 3.1 list no forms at all without wtforms"
    assert "AI/ML API billing" in json.dumps(info)


@pytest.mark.pure
def test_the_security_policy_names_the_oldest_dependencies() -> None:
    """It explains the known faults of exactly these versions."""
    from audit import explained, floors

    text = " ".join((ROOT / "SECURITY.md").read_text().split())
    named = dict(re.findall(r"(urllib3|requests|Jinja2|asgiref) ([\d.]+\d)(?=[,)])", text.partition("Known faults")[2]))
    assert {f"{name.lower()}=={version}" for name, version in named.items()} == set(floors())
    assert len(explained()) == len(set(explained())) >= 11
