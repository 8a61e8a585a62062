"""What is installed into other people's Airflow: light, declared, and known to the provider manager."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from importlib.metadata import distribution, entry_points, version
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_aimlbilling
from airflow_provider_aimlbilling.get_provider_info import connection_form, get_provider_info
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

PACKAGE = "airflow_provider_aimlbilling"
SOURCE = Path(airflow_provider_aimlbilling.__file__).parent
AIRFLOW = version("apache-airflow")
DISTRIBUTION = distribution("airflow-provider-aimlbilling")

# Each room, and the rooms that it may look into.
LOOKS_INTO = {
    "__init__": set(),
    "exceptions": set(),
    "get_provider_info": {"__init__"},
    "left_out": set(),
    "balance": {"exceptions", "left_out"},
    "connection": {"exceptions", "get_provider_info"},
    "answers": {"exceptions", "balance", "connection"},
    "transport": {"__init__", "exceptions", "connection", "answers"},
    "waiting": {"exceptions", "balance"},
    "shared_poll": set(),
    "starting": {"exceptions", "balance"},
    "sandbox": {"exceptions", "balance", "sandbox_account"},
    "sandbox_account": {"balance"},
    "account": {"exceptions", "balance", "answers"},
    "pricing": {"exceptions", "balance"},
    "links": set(),
    "metrics": {"balance"},
    "guard": {"exceptions", "get_provider_info", "left_out", "balance", "hooks.aimlbilling"},
    "crossings": {"exceptions", "balance"},
    "retry_policy": {"exceptions", "transport", "answers"},
    "hooks.aimlbilling": {
        "__init__",
        "exceptions",
        "get_provider_info",
        "balance",
        "answers",
        "connection",
        "transport",
        "account",
        "pricing",
        "metrics",
    },
    "polling": {"exceptions", "balance", "connection", "transport", "hooks.aimlbilling"},
    "triggers.balance": {"exceptions", "balance", "waiting", "shared_poll", "polling", "metrics"},
    "triggers.crossing": {"exceptions", "get_provider_info", "balance", "crossings", "shared_poll", "polling"},
    "sensors.balance": {
        *("exceptions", "get_provider_info", "left_out", "balance", "waiting", "starting", "links", "metrics"),
        *("hooks.aimlbilling", "triggers.balance"),
    },
    "operators.balance": {"exceptions", "get_provider_info", "left_out", "balance", "links", "hooks.aimlbilling"},
    "operators.pricing": {"get_provider_info", "links", "hooks.aimlbilling"},
    "operators.usage": {"get_provider_info", "left_out", "links", "hooks.aimlbilling"},
}
PURE = {
    "exceptions",
    "left_out",
    "balance",
    "answers",
    "waiting",
    "shared_poll",
    "sandbox",
    "sandbox_account",
    "account",
    "pricing",
    "crossings",
    "get_provider_info",
    "connection",
}


def modules() -> dict[str, Path]:
    return {
        path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", "."): path
        for path in SOURCE.rglob("*.py")
        if path.parent == SOURCE or path.name != "__init__.py"
    }


def imports(path: Path) -> set[str]:
    """All modules that a file imports when it runs, also inside functions; not those for type checkers alone."""
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == PACKAGE:
                found.update(f"{PACKAGE}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def test_imports_go_one_way() -> None:
    assert set(modules()) == set(LOOKS_INTO)
    for name, path in modules().items():
        looked = {module.removeprefix(PACKAGE).lstrip(".") for module in imports(path) if module.startswith(PACKAGE)}
        looked = {"__init__" if module in ("", "__version__") else module for module in looked}
        assert looked - {"__init__"} <= LOOKS_INTO[name] | {"exceptions"}, name


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_middle_knows_no_airflow(name: str) -> None:
    outside = {module.partition(".")[0] for module in imports(modules()[name])}
    assert outside - {PACKAGE} <= sys.stdlib_module_names


def test_what_is_imported_is_declared() -> None:
    outside = {module.partition(".")[0] for path in modules().values() for module in imports(path)}
    # wtforms draws the forms of Airflow before 3.2, which bring it, and is imported there alone.
    assert outside - sys.stdlib_module_names - {PACKAGE} == {"airflow", "jinja2", "requests", "urllib3", "wtforms"}
    declared = {text.partition(">")[0] for text in DISTRIBUTION.requires or []}
    assert declared == {"apache-airflow", "apache-airflow-providers-common-compat", "jinja2", "requests", "urllib3"}


def loaded(statement: str, base: str) -> set[str]:
    """Modules that a statement loads on top of what the base has loaded, in a fresh interpreter."""
    code = f"import sys\n{base}\nbefore = set(sys.modules)\n{statement}\nprint(*sorted(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return set(out.strip().splitlines()[-1].split()) if out.strip() else set()


@pytest.mark.parametrize("module", ["sensors.balance", "operators.balance"])
def test_a_dag_file_does_not_load_requests_or_the_hook(module: str) -> None:
    base = "from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator, SkipMixin, conf"
    extra = loaded(f"import {PACKAGE}.{module}", base)
    heavy = {name for name in extra if name.partition(".")[0] in ("requests", "urllib3", "aiohttp", "asgiref", "http")}
    assert not heavy
    assert f"{PACKAGE}.hooks.aimlbilling" not in extra
    assert f"{PACKAGE}.triggers.balance" not in extra
    assert f"{PACKAGE}.balance" not in extra, "its classes take most of what would be left"


@pytest.mark.skipif(AIRFLOW.startswith("2."), reason="Airflow 2 has no airflow.sdk to measure from")
def test_the_sensor_adds_few_modules_to_airflow() -> None:
    extra = loaded(f"import {PACKAGE}.sensors.balance", "from airflow.sdk import DAG")
    assert f"{PACKAGE}.sensors.balance" in extra
    assert len(extra) <= 15, sorted(extra)


def test_the_package_itself_imports_nothing() -> None:
    assert loaded(f"import {PACKAGE}", "") == {PACKAGE}


def test_the_wheel_is_typed_and_holds_the_package_alone() -> None:
    assert (SOURCE / "py.typed").exists()
    assert DISTRIBUTION.version == airflow_provider_aimlbilling.__version__


def test_the_entry_point_gives_the_provider_info() -> None:
    points = [point for point in entry_points(group="apache_airflow_provider") if point.module.startswith(PACKAGE)]
    assert [point.load() for point in points] == [get_provider_info]


def test_all_that_the_provider_info_names_is_there() -> None:
    info = get_provider_info()
    named = [
        module for key in ("hooks", "operators", "sensors", "triggers") for module in info[key][0]["python-modules"]
    ]
    assert sorted(named) == sorted(name for name in (f"{PACKAGE}.{m}" for m in modules()) if name.count(".") == 2)
    for module in named:
        importlib.import_module(module)
    connection = info["connection-types"][0]
    module, _, name = connection["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is AimlBillingHook
    assert connection["connection-type"] == AimlBillingHook.conn_type
    assert AimlBillingHook.default_conn_name == "aimlbilling_default"


def test_the_form_is_declared_once() -> None:
    """Old and new Airflow draw the same fields: the hook's methods only translate the provider info."""
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


@pytest.mark.skipif(AIRFLOW.startswith(("2.", "3.0")), reason="Airflow before 3.1 draws the form in another way")
def test_the_form_that_the_ui_draws() -> None:
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


def airflow(*arguments: str) -> Any:
    run = subprocess.run(
        [str(Path(sys.executable).with_name("airflow")), *arguments], check=True, capture_output=True, text=True
    )
    return run.stdout


@pytest.mark.usefixtures("database")
def test_airflow_lists_the_provider() -> None:
    listed = json.loads(airflow("providers", "list", "--output", "json"))
    assert [row["version"] for row in listed if row["package_name"] == "airflow-provider-aimlbilling"] == [
        airflow_provider_aimlbilling.__version__
    ]
    hooks = json.loads(airflow("providers", "hooks", "--output", "json"))
    (row,) = (row for row in hooks if row["connection_type"] == "aimlbilling")
    assert row["class"].endswith("AimlBillingHook")
    assert row["conn_id_attribute_name"] == "aimlbilling_conn_id"
    assert callable(AimlBillingHook.test_connection)
    behaviours = {row["field_behaviours"] for row in json.loads(airflow("providers", "behaviours", "--output", "json"))}
    assert not behaviours or "aimlbilling" in behaviours, "none at all: 3.0 and 3.1 without wtforms"
    assert "AI/ML API billing" in airflow(
        "providers", "get", "airflow-provider-aimlbilling", "--full", "--output", "json"
    )
