"""The layers of the package: which way imports go, which modules may import what, and how long a module may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

import airflow_provider_aimlbilling

pytestmark = pytest.mark.pure

PACKAGE = "airflow_provider_aimlbilling"
SOURCE = Path(airflow_provider_aimlbilling.__file__).parent
MAX_LINES = 300

# Each folder, and each module in the package root, with what it may import besides itself.
LAYERS: dict[str, set[str]] = {
    "__init__": set(),
    "exceptions": set(),
    "compat": set(),
    "get_provider_info": set(),
    "money": {"exceptions"},
    "client": {"__init__", "exceptions", "get_provider_info", "money"},
    "metrics": {"compat", "money"},
    "links": {"compat"},
    "waiting": {"__init__", "exceptions", "compat", "metrics", "money", "client"},
    "connection": {"exceptions", "compat", "client", "hooks"},
    "hooks": {"exceptions", "get_provider_info", "compat", "connection", "metrics", "money", "client", "waiting"},
    "triggers": {
        "__init__",
        "exceptions",
        "get_provider_info",
        "compat",
        "metrics",
        "money",
        "client",
        "waiting",
        "hooks",
    },
    "sensors": {
        *("exceptions", "get_provider_info", "compat", "links", "metrics", "money", "client", "waiting", "hooks"),
        *("thresholds", "triggers"),
    },
    "skipping": {"compat"},
    "thresholds": {"compat", "money"},
    "windows": {"compat"},
    "operators": {
        *("exceptions", "get_provider_info", "compat", "links", "metrics", "money", "client", "waiting", "hooks"),
        *("triggers", "skipping", "thresholds", "windows"),
    },
    "task_context": {"compat"},
    "guard_verdict": {"compat", "money"},
    "count_running": {"compat", "money", "hooks"},
    "guard": {
        *("exceptions", "get_provider_info", "compat", "money", "client", "hooks", "count_running", "task_context"),
        *("guard_verdict", "thresholds"),
    },
    "retry_policy": {"exceptions", "compat", "money", "client"},
    "prices": {"exceptions", "money", "client"},
    "request_headers": {"money", "task_context"},
    "sandbox": {"exceptions", "money"},
    "plugins": {
        *("exceptions", "get_provider_info", "compat", "connection", "links", "money", "client", "hooks"),
        *("guard_verdict", "waiting"),
    },
}

# The only modules that may import a package that is not part of Python.
THIRD_PARTY = {
    # The page uses Airflow's API server itself, which has no stable interface: see the tests in tests/plugins.
    "airflow": {
        *("compat", "plugins.page.access", "plugins.page.account_routes", "plugins.page.known_connections"),
        *("plugins.page.gate_facts", "plugins.page.held_tasks", "plugins.page.run_costs", "plugins.page.task_routes"),
        "plugins.page.waiting_gates",
    },
    "asgiref": {"compat"},
    "fastapi": {
        *("plugins.page.access", "plugins.page.account_routes", "plugins.page.app", "plugins.page.task_routes"),
    },
    "importlib": {"compat"},  # part of Python, but an import by name would hide from these tests
    "jinja2": {"triggers.balance", "waiting.start_from_trigger"},
    "pydantic": {"plugins.page.account_models", "plugins.page.money_model", "plugins.page.task_models"},
    "requests": {"client.client", "client.http", "client.limits", "hooks.aimlbilling"},
    "sqlalchemy": {
        *("plugins.page.held_tasks", "plugins.page.known_connections", "plugins.page.run_costs"),
        *("plugins.page.stored_verdicts", "plugins.page.waiting_gates"),
    },
    "starlette": {"plugins.page.account_routes", "plugins.page.app", "plugins.page.security_headers"},
    "urllib3": {"client.http", "client.limits", "client.retries", "retry_policy"},
    "wtforms": {"hooks.aimlbilling"},
}
# Airflow before 3.2 draws the connection form with wtforms, and installs it itself where it does. The billing page is
# served with what Airflow serves its own API with.
UNDECLARED = {"wtforms", "fastapi", "pydantic", "sqlalchemy", "starlette"}


def modules(package: Path) -> dict[str, Path]:
    """Return the modules of a package by their name within it, without the ``__init__`` of folders."""
    return {
        path.relative_to(package).with_suffix("").as_posix().replace("/", "."): path
        for path in package.rglob("*.py")
        if path.parent == package or path.name != "__init__.py"
    }


def imports(path: Path) -> Iterator[str]:
    """Yield what a file imports, also inside functions and for type checkers only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "." * node.level
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Name) and node.id == "__import__":
            yield "importlib"


def problems(package: Path) -> list[str]:
    """Return everything in a package that violates the layers."""
    found = []
    for path in package.rglob("*.py"):
        name = path.relative_to(package).with_suffix("").as_posix().replace("/", ".")
        layer = name.partition(".")[0]
        if layer not in LAYERS:
            found.append(f"{name} is not in a known folder")
            continue
        if (lines := len(path.read_text().splitlines())) > MAX_LINES:
            found.append(f"{name} has {lines} lines")
        for imported in imports(path):
            top, _, rest = imported.partition(".")
            if top == PACKAGE:
                target = rest.partition(".")[0]
                target = target if target in LAYERS else "__init__"
                if target not in LAYERS[layer] | {layer}:
                    found.append(f"{name} imports {target}")
            elif not top:
                found.append(f"{name} has a relative import")
            elif name not in THIRD_PARTY.get(top, {name} if top in sys.stdlib_module_names else ()):
                found.append(f"{name} imports {top}")
    return found


def test_the_package_keeps_its_layers() -> None:
    assert problems(SOURCE) == []
    assert {name.partition(".")[0] for name in modules(SOURCE)} == set(LAYERS), "a layer without modules is outdated"


def test_every_permission_is_used() -> None:
    """A permission that nothing needs would hide the next violation."""
    used = {
        (top, name)
        for name, path in modules(SOURCE).items()
        for top in {imported.partition(".")[0] for imported in imports(path)}
    }
    assert {(top, name) for top, names in THIRD_PARTY.items() for name in names} <= used


@pytest.mark.parametrize(
    ("module", "code", "problem"),
    [
        ("money/amount.py", "from airflow_provider_aimlbilling.compat import Context", "money.amount imports compat"),
        ("money/gate.py", "from airflow_provider_aimlbilling import client", "money.gate imports client"),
        ("money/usage.py", "import requests", "money.usage imports requests"),
        ("client/http.py", "import airflow", "client.http imports airflow"),
        ("client/client.py", "from airflow_provider_aimlbilling import compat", "client.client imports compat"),
        ("client/settings.py", "import urllib3", "client.settings imports urllib3"),
        (
            "client/api.py",
            "def f():\n    from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook",
            "client.api imports hooks",
        ),
        ("waiting/poll.py", "import airflow_provider_aimlbilling.triggers.balance", "waiting.poll imports triggers"),
        ("waiting/wait_state.py", "from airflow.sdk import Context", "waiting.wait_state imports airflow"),
        (
            "hooks/aimlbilling.py",
            "from airflow_provider_aimlbilling import sensors",
            "hooks.aimlbilling imports sensors",
        ),
        (
            "sensors/balance.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from airflow.sdk import Context",
            "sensors.balance imports airflow",
        ),
        (
            "operators/usage.py",
            "from airflow_provider_aimlbilling.sensors import balance",
            "operators.usage imports sensors",
        ),
        ("guard.py", "from importlib import import_module", "guard imports importlib"),
        ("guard.py", "sdk = __import__('airflow.sdk')", "guard imports importlib"),
        ("metrics.py", "from airflow_provider_aimlbilling.client import http", "metrics imports client"),
        ("retry_policy.py", "import httpx", "retry_policy imports httpx"),
        (
            "sandbox/account.py",
            "from airflow_provider_aimlbilling.client import http",
            "sandbox.account imports client",
        ),
        ("sandbox/__init__.py", "import requests", "sandbox.__init__ imports requests"),
        ("exceptions.py", "from airflow_provider_aimlbilling import compat", "exceptions imports compat"),
        ("links/billing.py", "from ..hooks import aimlbilling", "links.billing has a relative import"),
        (
            "plugins/billing_page.py",
            "def f():\n    from fastapi import FastAPI",
            "plugins.billing_page imports fastapi",
        ),
        ("plugins/page/readings.py", "import airflow", "plugins.page.readings imports airflow"),
        (
            "plugins/page/app.py",
            "from airflow_provider_aimlbilling.operators import balance",
            "plugins.page.app imports operators",
        ),
        ("helpers.py", "", "helpers is not in a known folder"),
        ("util/text.py", "", "util.text is not in a known folder"),
        ("client/long.py", "\n" * (MAX_LINES + 1), f"client.long has {MAX_LINES + 1} lines"),
    ],
)
def test_a_violation_is_reported(tmp_path: Path, module: str, code: str, problem: str) -> None:
    path = tmp_path / PACKAGE / module
    path.parent.mkdir(parents=True)
    path.write_text(code)
    assert problems(tmp_path / PACKAGE) == [problem]


def test_the_requirements_are_what_is_imported() -> None:
    imported = {name.partition(".")[0] for path in modules(SOURCE).values() for name in imports(path)}
    outside = imported - sys.stdlib_module_names - {PACKAGE}
    declared = {text.partition(">")[0] for text in distribution("airflow-provider-aimlbilling").requires or []}
    assert declared == {"apache-airflow" if name == "airflow" else name for name in outside - UNDECLARED}
    assert outside >= UNDECLARED
