"""What is published: where the address stands, what the workflows run, and the licences."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT

from airflow_provider_aimlbilling.get_provider_info import get_provider_info

WORKFLOWS = ROOT / ".github" / "workflows"
# How older metadata names a licence, and its SPDX identifier.
SPDX = {"BSD License": "BSD-3-Clause", "Apache Software License": "Apache-2.0", "Apache 2.0": "Apache-2.0"}


def workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load((WORKFLOWS / name).read_text())


def licence(package: str) -> str:
    """Return the licence of an installed package, as an SPDX identifier."""
    found = metadata(package)
    classifiers = [text.rpartition(" :: ")[2] for text in found.get_all("Classifier") or [] if "License ::" in text]
    names = [found.get("License-Expression"), *classifiers, found.get("License")]
    name = next(filter(None, names))
    return SPDX.get(name, name.removesuffix(" License"))


def test_the_table_of_licences_is_what_the_packages_declare() -> None:
    page = (ROOT / "docs" / "reference" / "licences.md").read_text()
    table = dict(re.findall(r"^\| ([a-z0-9-]+) \| (\S+) \| [^|]+ \|$", page, re.MULTILINE))
    del table["package"], table["---"]
    required = metadata("airflow-provider-aimlbilling").get_all("Requires-Dist") or []
    assert table == {name: licence(name) for name in (text.partition(">=")[0] for text in required)}


@pytest.mark.pure
def test_the_licences_name_what_the_package_includes() -> None:
    from sbom import chart_js

    package = ROOT / "airflow_provider_aimlbilling"
    included = [path.relative_to(ROOT).as_posix() for path in package.rglob("*LICENSE*")]
    assert len(included) == 1, "the table, the bill of materials and the licence of the package name this one library"
    assert 'license = "Apache-2.0 AND MIT"' in (ROOT / "pyproject.toml").read_text()
    page = (ROOT / "docs" / "reference" / "licences.md").read_text()
    library, bundled = chart_js()
    assert f"| Chart.js | {library['version']} | MIT |" in page
    assert f"| @kurkle/color, bundled in Chart.js | {bundled['version']} | MIT |" in page


@pytest.mark.pure
def test_the_bill_of_materials_is_checked_for_every_dependency() -> None:
    from sbom import DIRECT

    required = metadata("airflow-provider-aimlbilling").get_all("Requires-Dist") or []
    assert {text.partition(">=")[0] for text in required} == DIRECT


@pytest.mark.pure
def test_the_public_address_stands_in_one_place() -> None:
    address = re.search(r'^Repository = "(https://[^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    policy = " ".join((ROOT / "SECURITY.md").read_text().split())
    assert "`Repository` under `[project.urls]` in `pyproject.toml`" in policy
    assert ("not decided yet" in policy) == (address is None)
    if address:
        others = [ROOT / "mkdocs.yml", *ROOT.glob("*.md"), *ROOT.glob(".github/**/*.yml"), *ROOT.glob("docs/**/*.md")]
        assert [path.name for path in others if address[1] in path.read_text()] == []


@pytest.mark.pure
def test_ci_runs_the_cells_of_the_matrix() -> None:
    from matrix import CELLS

    cells = workflow("ci.yml")["jobs"]["matrix"]["strategy"]["matrix"]["include"]
    assert {cell["airflow"]: cell["python"] for cell in cells} == CELLS


@pytest.mark.pure
def test_every_change_runs_on_each_minor_version() -> None:
    from matrix import CELLS

    (cells,) = re.findall(r'CELL="(.*?)"', (ROOT / ".ci" / "run").read_text())
    (newest,) = re.findall(r"^AIRFLOW = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(cells.split()) <= set(CELLS)
    assert {version.rpartition(".")[0] for version in [*cells.split(), newest]} == {
        version.rpartition(".")[0] for version in CELLS
    }


@pytest.mark.pure
def test_github_runs_what_every_change_must_pass() -> None:
    wanted = re.findall(r"^ *make (\S+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert {"check", "platforms", "test", "test-distributed", "matrix"} <= set(wanted)
    steps = [step.get("run", "") for job in workflow("ci.yml")["jobs"].values() for step in job["steps"]]
    missing = [
        target
        for target in wanted
        if not any(f" {target} " in f"{run} ".replace("\n", " ") or f"tools/{target}.py" in run for run in steps)
    ]
    assert missing == []


@pytest.mark.pure
def test_only_the_jobs_that_publish_have_permissions() -> None:
    for name in ("ci.yml", "release.yml"):
        assert workflow(name)["permissions"] == {"contents": "read"}
    granted = {
        (name, job): permissions
        for name in ("ci.yml", "release.yml")
        for job, settings in workflow(name)["jobs"].items()
        if (permissions := settings.get("permissions"))
    }
    assert granted == {
        ("release.yml", "publish"): {"contents": "read", "id-token": "write"},
        ("release.yml", "release"): {"contents": "write"},
    }
    needs = {job: settings.get("needs") for job, settings in workflow("release.yml")["jobs"].items()}
    assert needs["publish"] == ["audit", "test", "check"]
    assert "publish" in needs["release"]


@pytest.mark.pure
def test_the_jobs_with_permissions_install_only_what_is_pinned() -> None:
    jobs = workflow("release.yml")["jobs"]
    installs = [step["run"] for name in ("publish", "release") for step in jobs[name]["steps"] if "run" in step]
    assert [run for run in installs if "make " in run] == [], "its targets install what is not pinned"
    pip = [run for run in installs if "pip install" in run]
    assert pip == ["python3 -m pip install --no-deps --require-hashes -r tools/publish-pins.txt"]
    assert {line.partition("==")[0] for line in (ROOT / "tools" / "build-pins.txt").read_text().splitlines()[1:]} == {
        "flit_core",
        "uv",
    }


@pytest.mark.pure
def test_nothing_is_published_that_says_that_it_is_not(tmp_path: Path) -> None:
    from publishable import objections

    package = tmp_path / "airflow_provider_aimlbilling"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.3 (2026-12-01)\n")
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://example.org/project"\n')
    guide = tmp_path / "docs" / "guide.md"
    guide.parent.mkdir()
    guide.write_text("Install it from the package index.\n")
    assert objections(tmp_path, "v1.2.3") == []

    assert objections(tmp_path, "v1.2.4") == ["The tag is v1.2.4, but the version is 1.2.3."]
    guide.write_text("The package is not on the\npackage index yet.\n")
    assert objections(tmp_path, "v1.2.3") == ["docs/guide.md says 'not on the package index yet'."]
    guide.unlink()
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.3\n")
    (tmp_path / "pyproject.toml").write_text('# [project.urls]\n# Repository = "https://example.org/project"\n')
    assert len(objections(tmp_path, "v1.2.3")) == 2


@pytest.mark.pure
def test_the_release_check_knows_how_the_documents_say_that_nothing_is_published() -> None:
    """As long as the address is not decided, each document that says so is an objection to a release."""
    from publishable import objections

    text = (ROOT / "pyproject.toml").read_text()
    if re.search(r'^Repository = "', text, re.MULTILINE):
        pytest.skip("the address is decided")
    named = " ".join(objections(ROOT, "v0"))
    for document in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "get-started.md", "install.md", "pyproject.toml"):
        assert document in named


@pytest.mark.pure
def test_the_source_distribution_includes_everything_that_is_tracked() -> None:
    listed = subprocess.run(["git", "ls-files"], check=False, capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a checkout")
    block = (ROOT / "pyproject.toml").read_text().partition("[tool.flit.sdist]")[2].partition("\n]")[0]
    included = {name.rstrip("/") for name in re.findall(r'^    "(.*)",$', block, re.MULTILINE)}
    always = {"LICENSE", "pyproject.toml", "airflow_provider_aimlbilling"}
    top = {path.partition("/")[0] for path in listed.stdout.splitlines()}
    assert {name for name in top if not name.endswith(".md")} - always <= included
    assert "*.md" in included


@pytest.mark.pure
def test_the_api_reference_shows_what_users_import() -> None:
    from site_modules import API, PACKAGE

    shown = {f"{PACKAGE}.{module}" for modules in API.values() for module in modules}
    info = get_provider_info()
    named = {module for key in ("hooks", "operators", "sensors") for module in info[key][0]["python-modules"]}
    assert named <= shown
    guides = "".join(path.read_text() for path in ROOT.glob("docs/**/*.md"))
    imported = set(re.findall(rf"^ *from ({PACKAGE}\.[\w.]+) import", guides, re.MULTILINE))
    packages = {f"{PACKAGE}.client", f"{PACKAGE}.sandbox"}  # their pages show the modules that define their names
    assert imported - packages <= shown
