"""No snippet is printed that was not run, no version is claimed that the matrix does not have."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
from conftest import AIRFLOW, DAGS, KEY

import airflow_provider_aimlbilling
from airflow_provider_aimlbilling.balance import Amount, Balance, Gate
from airflow_provider_aimlbilling.connection import Settings
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
SNIPPETS = [
    (f"{page.relative_to(ROOT)}:{number}", language, text)
    for page in PAGES
    for number, (language, text) in enumerate(
        re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    )
]
sys.path.insert(0, str(ROOT / "tools"))


def of(language: str) -> Any:
    found = [pytest.param(text, id=name) for name, kind, text in SNIPPETS if kind == language]
    assert found
    return pytest.mark.parametrize("text", found)


def test_each_snippet_has_a_test_for_its_language() -> None:
    assert {language for _, language, _ in SNIPPETS} == {"python", "bash", "json", "text"}


@of("python")
def test_python(run_dag: Any, sandbox: Sandbox, tmp_path: Path, text: str) -> None:
    for needs, versions in (("retry_policy", ("2.", "3.0", "3.1", "3.2")), ("AssetWatcher", ("2.",))):
        if needs in text and AIRFLOW.startswith(versions):
            pytest.skip(f"Airflow {AIRFLOW} has no {needs}")
    if "with DAG(" not in text:
        environment: dict[str, Any] = {}
        exec(text, environment)
        assert "balance" not in environment or environment["balance"].balance == 5_000_000
        assert sandbox.requests or "Sandbox(" in text, "it asks something"
        return
    for old in DAGS.glob("*.py"):
        old.unlink()
    path = DAGS / f"snippet_{abs(hash(text))}.py"
    path.write_text(text)
    run = run_dag.file(path)
    assert run.dag_run.state == "success"
    assert run.dag_run.get_task_instances()


@of("bash")
def test_bash(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Each line is one of a few commands, and is looked at as such."""
    for line in filter(None, text.splitlines()):
        if line.startswith("export AIRFLOW_CONN_AIMLBILLING_DEFAULT="):
            printed = subprocess.run(
                ["bash", "-c", f'{line.replace("<your API key>", KEY)}; printf %s "$AIRFLOW_CONN_AIMLBILLING_DEFAULT"'],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", printed)
            settings = Settings.from_connection(AimlBillingHook.get_connection("aimlbilling_default"))
            assert settings.key == KEY
        elif line.startswith("make "):
            target = line.split()[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif line.startswith("python -m airflow_provider_aimlbilling.sandbox"):
            assert line.endswith('--balance "2.50 USD"'), "the command that test_sandbox.py runs"
        elif line.startswith("airflow "):
            command = [Path(sys.executable).with_name("airflow"), *line.split()[1:3], "--help"]
            subprocess.run(command, check=True, capture_output=True)
        elif line.startswith("export AIRFLOW_HOME="):
            assert "~/" in line
        else:
            assert line == f"pip install {metadata('airflow-provider-aimlbilling')['Name']}"


@of("json")
def test_json(text: str) -> None:
    """The printed XComs are what the code gives for that balance."""
    data = json.loads(text)
    balance = Balance.from_dict(data.get("balance") if "clears" in data else data)
    if "clears" in data:
        assert Gate(Amount(data["threshold_credits"])).decide(balance).to_dict() == data
    else:
        assert balance.to_dict() == data


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_table_of_what_gates_let_through_is_what_the_rule_lets_through() -> None:
    import simulation

    assert simulation.table() in (ROOT / "docs" / "guard.md").read_text()
    found = simulation.found()
    most = {way: counts[-1] for way, counts in found.items()}
    assert most["a guard in each job, pool of 1"] == simulation.MONEY
    # A pool of n has at most n - 1 jobs in flight that a guard cannot see.
    for slots in (2, 3):
        assert most[f"a guard in each job, pool of {slots}"] <= simulation.MONEY + slots - 1
    assert max(most.values()) == simulation.JOBS


def test_versions_are_those_of_the_matrix() -> None:
    from matrix import CELLS

    rows = re.findall(r"^\| (\d+\.\d+\.\d+) \| (\d\.\d+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert dict(rows) == CELLS
    classifiers = metadata("airflow-provider-aimlbilling").get_all("Classifier") or []
    pythons = {text.rpartition(" ")[2] for text in classifiers if re.search(r"Python :: 3\.\d+$", text)}
    assert pythons == set(CELLS.values())
    for airflow in CELLS:
        assert (ROOT / "constraints" / f"airflow-{airflow}.txt").exists()


def test_floors_are_tested_in_a_cell() -> None:
    pins = (ROOT / "constraints" / "airflow-3.0.6.txt").read_text()
    for requirement in metadata("airflow-provider-aimlbilling").get_all("Requires-Dist") or []:
        name, _, floor = requirement.partition(">=")
        assert name == "apache-airflow" or f"\n{name}=={floor}\n" in pins


def test_constraints_hold_names_and_versions_alone() -> None:
    for path in ROOT.glob("constraints/*.txt"):
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"#.*|[a-z0-9._-]+==[\w.+!]+( ; .*)?", line), f"{path.name}: {line}"
        assert "://" not in path.read_text()


def test_the_changelog_speaks_of_this_version() -> None:
    assert f"\n## {airflow_provider_aimlbilling.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
