"""The docs: every snippet runs, every link leads somewhere, and every version that is named is tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
from support import AIRFLOW, AIRFLOW_3, KEY, ROOT, for_this_airflow

import airflow_provider_aimlbilling
from airflow_provider_aimlbilling.client.settings import Settings
from airflow_provider_aimlbilling.get_provider_info import get_provider_info
from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook
from airflow_provider_aimlbilling.money.amount import Amount
from airflow_provider_aimlbilling.money.balance import Balance
from airflow_provider_aimlbilling.money.gate import Gate
from airflow_provider_aimlbilling.sandbox import Sandbox

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
PACKAGE_INDEX_PAGE = ROOT / "docs" / "package-index.md"
SNIPPETS = [
    (f"{page.relative_to(ROOT)}:{number}", language, text)
    for page in PAGES
    for number, (language, text) in enumerate(
        re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    )
]
CONSTRAINTS_URL = r"https://raw\.githubusercontent\.com/apache/airflow/constraints-3\.2\.2/constraints-3\.12\.txt"
WHEEL = f"airflow_provider_aimlbilling-{airflow_provider_aimlbilling.__version__}-py3-none-any.whl"
INSTALL_COMMANDS = [
    r"pip install \.",
    rf"pip install \. --constraint {CONSTRAINTS_URL}",
    r"pip wheel \. --no-deps --wheel-dir dist",
    rf"pip install dist/{re.escape(WHEEL)} --constraint {CONSTRAINTS_URL}",
    rf"pip install {metadata('airflow-provider-aimlbilling')['Name']} --constraint {CONSTRAINTS_URL}",
]


def snippets(language: str) -> Any:
    found = [pytest.param(text, id=name) for name, kind, text in SNIPPETS if kind == language]
    assert found
    return pytest.mark.parametrize("text", found)


@pytest.mark.pure
def test_every_snippet_is_in_a_language_that_is_tested() -> None:
    assert {language for _, language, _ in SNIPPETS} == {"python", "bash", "json", "text"}


def test_the_recipe_for_ci_works(tmp_path: Path) -> None:
    """With the DAG of Get started, and the test and the commands of Test your DAG in CI, as a user would copy them."""

    def snippet(page: str, beginning: str) -> str:
        (found,) = [text for name, _, text in SNIPPETS if name.startswith(page) and text.startswith(beginning)]
        return for_this_airflow(found)

    (tmp_path / "dags").mkdir()
    (tmp_path / "tests").mkdir()
    dag = snippet("docs/get-started.md", "from datetime").replace("poke_interval=10", "poke_interval=1")
    if not AIRFLOW_3:
        dag = dag.replace(
            "from airflow_2 import DAG, task", "from airflow import DAG\nfrom airflow.decorators import task"
        )
    (tmp_path / "dags" / "gated_job.py").write_text(dag)
    (tmp_path / "tests" / "test_gated_job.py").write_text(snippet("docs/guides/test-in-ci.md", "import threading"))
    commands = snippet("docs/guides/test-in-ci.md", "export AIRFLOW_HOME")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), clean["PATH"]])
    run = subprocess.run(
        ["bash", "-ec", commands],
        cwd=tmp_path,
        env={**clean, "PATH": path, "PYTHONPATH": str(Path(airflow_provider_aimlbilling.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "3 passed" in run.stdout, run.stdout + run.stderr


WALK_THROUGH = "docs/guides/walk-through.md"
SETTLE = "settle_seconds=120"


def test_the_figures_of_the_walk_through_are_those_of_a_run(run_dag: Any, sandbox: Sandbox) -> None:
    page = [(language, text) for name, language, text in SNIPPETS if name.startswith(WALK_THROUGH)]
    (source,) = (text for language, text in page if language == "python")
    assert SETTLE in source
    run = run_dag.source("walk_through", source.replace(SETTLE, "settle_seconds=1"))
    (figures,) = (json.loads(text) for language, text in page if language == "json")
    cost = run.xcom("cost")
    assert {name: cost[name] for name in figures} == figures
    logged = [" ".join(line.split()) for language, text in page if language == "text" for line in text.splitlines()]
    assert len(logged) == 11
    assert [line for line in logged if line not in run.log] == []


# What a snippet needs, and the versions of Airflow that do not have it.
NEEDS = {
    "retry_policy": ("2.", "3.0", "3.1", "3.2"),
    "async def": ("2.", "3.0", "3.1"),
    "AssetWatcher": ("2.",),
    "run_after": ("2.",),
}
# Packages that a snippet may use and that the tests do without.
OPTIONAL = ("openai", "httpx", "aiohttp", "airflow.providers.http")


def spend_for_days(sandbox: Sandbox) -> None:
    """Record a history of spending that leaves the balance as it is."""
    held = sandbox.balance
    sandbox.top_up("2 USD")
    for ago in range(1, 12):
        sandbox.spend("0.10 USD", "a", at=datetime.now(timezone.utc) - timedelta(days=ago))
    sandbox.set_balance(held)


@snippets("python")
def test_python_snippets_run(
    run_dag: Any, sandbox: Sandbox, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    models = {"conn_type": "http", "host": sandbox.url, "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_MODELS", json.dumps(models))
    for needs, versions in NEEDS.items():
        if needs in text and AIRFLOW.startswith(versions):
            pytest.skip(f"Airflow {AIRFLOW} has no {needs}")
    for module in OPTIONAL:
        if re.search(rf"^ *(import|from) {module}\b", text, re.MULTILINE):
            pytest.importorskip(module)
    if "unway" in text:
        spend_for_days(sandbox)
    if "with DAG(" in text:
        text = text.replace(SETTLE, "settle_seconds=1")
        run = run_dag.source(f"snippet_{abs(hash(text))}", text)
        assert run.dag_run.state == "success"
        assert run.dag_run.get_task_instances()
        return
    capfd.readouterr()
    environment: dict[str, Any] = {}
    exec(for_this_airflow(text), environment)
    assert "balance" not in environment or environment["balance"].balance == 5_000_000
    assert sandbox.requests or "Sandbox(" in text, "a snippet without a DAG sends a request"
    printed = capfd.readouterr().out.splitlines()
    for comment in re.findall(r"^ *print\(.*\)  # (.*)", text, re.MULTILINE):
        assert any(line and comment.startswith(line) for line in printed), f"{comment!r} was not printed"


@snippets("bash")
def test_bash_snippets_use_commands_that_exist(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for line in filter(None, (line.partition("  #")[0].strip() for line in text.splitlines())):
        if line.startswith("export AIRFLOW_CONN_AIMLBILLING_DEFAULT="):
            command = re.sub("<(your API|the encoded) key>", KEY, line)
            value = subprocess.run(
                ["bash", "-c", f'{command}; printf %s "$AIRFLOW_CONN_AIMLBILLING_DEFAULT"'],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            monkeypatch.setenv("AIRFLOW_CONN_AIMLBILLING_DEFAULT", value)
            settings = Settings.from_connection(AimlBillingHook.get_connection("aimlbilling_default"))
            assert settings.key == KEY
        elif line.startswith("export AIRFLOW__AIMLBILLING__"):
            (options,) = (section["options"] for section in get_provider_info()["config"].values())
            assert line.split("__")[2].partition("=")[0].lower() in options
        elif line.startswith("make "):
            target = line.split()[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif line.startswith("python -m airflow_provider_aimlbilling.sandbox"):
            assert line.endswith('--balance "2.50 USD"'), "the tests of the sandbox run this command"
        elif line.startswith("python -m airflow_provider_aimlbilling.prices"):
            assert line.endswith(" MODEL"), "tests/test_prices.py runs this command"
        elif line.startswith("python -c "):
            awkward = "a/b+c=d%e@f"
            run = subprocess.run(
                ["bash", "-c", line.replace("python", sys.executable, 1)],
                input=f"{awkward}\n",
                start_new_session=True,  # without a terminal, so that getpass reads the input
                check=True,
                capture_output=True,
                text=True,
            )
            encoded = run.stdout.rpartition(": ")[2].strip()
            monkeypatch.setenv("AIRFLOW_CONN_AWKWARD", f"aimlbilling://:{encoded}@/")
            assert AimlBillingHook.get_connection("awkward").password == awkward
        elif line.startswith("airflow "):
            from airflow.cli import cli_parser

            cli_parser.get_parser().parse_args(line.split()[1:])  # exits if Airflow has no such command
        elif line.startswith("export AIRFLOW_HOME="):
            assert "~/" in line
        else:
            assert any(re.fullmatch(command, line) for command in INSTALL_COMMANDS), line


@pytest.mark.pure
@snippets("json")
def test_json_snippets_are_what_the_code_returns(text: str) -> None:
    data = json.loads(text)
    if "retries" in data:
        return  # test_the_figures_of_the_walk_through_are_those_of_a_run compares it
    balance = Balance.from_dict(data.get("balance") if "clears" in data else data)
    if "clears" in data:
        assert Gate(Amount(data["threshold_credits"])).decide(balance).to_dict() == data
    else:
        assert balance.to_dict() == data


@pytest.mark.pure
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = page.read_text()
    pictures = [(path, "") for path in re.findall(r'\b(?:src|srcset)="([^"]*)"', text)]
    for path, anchor in [*pictures, *re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)[^)]*\)", text)]:
        if "://" in path or path.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in headings(target), f"{path}#{anchor}"


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.pure
def test_the_index_links_every_page() -> None:
    linked, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in linked:
            linked.add(page)
            targets = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())
            waiting += [(page.parent / target).resolve() for target in targets if "://" not in target]
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= linked | {PACKAGE_INDEX_PAGE}


@pytest.mark.pure
def test_the_package_index_page_stands_without_the_repository() -> None:
    text = PACKAGE_INDEX_PAGE.read_text()
    targets = re.findall(r"\]\(([^)]*)\)|^\[[^]]+\]: *(\S+)|(?:href|src)=\"([^\"]*)\"", text, re.MULTILINE)
    for target in filter(None, (part for parts in targets for part in parts)):
        assert target.startswith(("https://", "mailto:")), target
    assert f'\nreadme = "{PACKAGE_INDEX_PAGE.relative_to(ROOT)}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.pure
def test_the_table_of_overspending_is_what_the_simulation_finds() -> None:
    import simulation

    assert simulation.table() in (ROOT / "docs" / "guides" / "guard-parallel-jobs.md").read_text()
    found = simulation.found()
    most = {way: counts[-1] for way, counts in found.items()}
    assert most["a guard in each job, pool of 1"] == simulation.MONEY
    # A pool of n has at most n - 1 jobs in flight that a guard cannot see.
    for slots in (2, 3):
        assert most[f"a guard in each job, pool of {slots}"] <= simulation.MONEY + slots - 1
    assert max(most.values()) == simulation.JOBS


@pytest.mark.pure
def test_the_table_of_runways_is_what_the_simulation_finds() -> None:
    import runway_simulation

    assert runway_simulation.table() in (ROOT / "docs" / "guides" / "how-long-the-money-lasts.md").read_text()
    found = {way: percent for way, (percent, _) in runway_simulation.found().items()}
    assert max(found, key=lambda way: found[way]).endswith("in a row of the last 28"), "that of the operator"


@pytest.mark.pure
@pytest.mark.parametrize("page", ["README.md", "docs/operate/install.md"])
def test_the_supported_versions_are_those_of_the_matrix(page: str) -> None:
    from matrix import CELLS

    rows = re.findall(r"^\| (\d+\.\d+\.\d+) \| (\d\.\d+)", (ROOT / page).read_text(), re.MULTILINE)
    assert dict(rows) == CELLS
    classifiers = metadata("airflow-provider-aimlbilling").get_all("Classifier") or []
    pythons = {text.rpartition(" ")[2] for text in classifiers if re.search(r"Python :: 3\.\d+$", text)}
    assert pythons == set(CELLS.values())
    for airflow in CELLS:
        assert (ROOT / "constraints" / f"airflow-{airflow}.txt").exists()


@pytest.mark.pure
def test_one_cell_of_the_matrix_pins_the_lowest_supported_libraries() -> None:
    from matrix import FLOORS

    requirements = metadata("airflow-provider-aimlbilling").get_all("Requires-Dist") or []
    pins = (ROOT / "constraints" / f"airflow-{FLOORS}.txt").read_text().splitlines()
    for name, _, floor in (requirement.partition(">=") for requirement in requirements):
        assert name == "apache-airflow" or f"{name}=={floor}" in pins


@pytest.mark.pure
def test_constraints_contain_only_names_and_versions() -> None:
    for path in ROOT.glob("constraints/*.txt"):
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"#.*|[a-z0-9._-]+==[\w.+!]+( ; .*)?", line), f"{path.name}: {line}"
        assert "://" not in path.read_text()


@pytest.mark.pure
def test_the_changelog_has_a_section_for_this_version() -> None:
    heading = rf"^## {re.escape(airflow_provider_aimlbilling.__version__)}( \(\d{{4}}-\d\d-\d\d\))?$"
    assert re.search(heading, (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
