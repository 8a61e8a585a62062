"""
Run the tests against each supported Airflow, with the built wheel in a separate environment. Standard library only.

usage: python3 tools/matrix.py [--sample N] [AIRFLOW_VERSION…]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from environment import PROJECT, constraints, make, wheel

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build" / "matrix"

# Airflow -> Python. Each cell has the libraries of its Airflow's release day; see constraints/update.sh.
CELLS = {"2.11.0": "3.11", "2.11.2": "3.12", "3.0.6": "3.10", "3.1.8": "3.11", "3.2.2": "3.12", "3.3.2": "3.13"}

# This cell has the oldest Python and the oldest libraries that pyproject.toml allows. Pure tests, which need no
# Airflow, only run here.
FLOORS = "3.0.6"

SAMPLE = "run at most N sets of parameters of each test, and system tests only on the oldest cell of each major version"

PROBE = """
import importlib.metadata, sys, airflow_provider_aimlbilling as package
print(importlib.metadata.version("apache-airflow"), "%d.%d" % sys.version_info[:2], package.__file__)
"""


def interpreter(version: str) -> str:
    """Find a Python of that version: on the path, or among those of pyenv."""
    home = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}"), *Path(home).glob(f"versions/{version}.*/bin/python")]
    for candidate in filter(None, candidates):
        probe = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"]
        found = subprocess.run(probe, check=False, capture_output=True, text=True).stdout.split()
        if found[:1] == [version]:
            return found[1]
    sys.exit(f"The matrix needs Python {version}. It is neither on the path nor under {home}.")


def freeze(python: Path) -> set[str]:
    command = [python, "-m", "pip", "freeze", "--disable-pip-version-check"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def install_wheel(python: Path, airflow: str, built: Path) -> str | None:
    """Install the wheel as users do: with pip, under constraints. Return what is wrong with the result, if anything."""
    before = freeze(python)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", constraints(airflow), built], check=True)
    changed = {line for line in before ^ freeze(python) if not line.startswith(PROJECT)}
    if changed:
        return f"installing the wheel changed {', '.join(sorted(changed))}"
    # Outside the checkout, so that Python imports the wheel and not the source.
    home = python.parents[1]
    probe = subprocess.run([python, "-c", PROBE], check=True, capture_output=True, text=True, cwd=home)
    version, python_version, package = probe.stdout.strip().splitlines()[-1].split()
    if (version, python_version) != (airflow, CELLS[airflow]):
        return f"the cell has Airflow {version} on Python {python_version}"
    if not package.startswith(str(home)):
        return f"the cell imports the package from {package}"
    return None


def is_oldest_of_its_major(airflow: str) -> bool:
    """Return whether a cell has the oldest release of its major version."""
    major = airflow.partition(".")[0]
    return airflow == next(version for version in CELLS if version.partition(".")[0] == major)


def run(airflow: str, built: Path, sample: list[str]) -> str | None:
    """
    Run one cell. Return what is wrong with it, if anything.

    :param sample: options for a sample of the tests; empty to run all of them.
    """
    started = time.monotonic()
    packages = ["pytest", "pytest-xdist", "psycopg2-binary", *([] if airflow.startswith("2.") else ["asyncpg"])]
    python = make(BUILD / airflow, airflow, packages, interpreter(CELLS[airflow]))
    if problem := install_wheel(python, airflow, built):
        return problem
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ROOT, "-c", ROOT / "pyproject.toml"]
    system, browser = ROOT / "tests" / "system", ROOT / "tests" / "browser"
    parallel = ["-n", "4", "--dist", "loadgroup", *([] if airflow == FLOORS else ["-m", "not pure"])]
    others = [*parallel, *sample, f"--ignore={system}", f"--ignore={browser}", ROOT / "tests"]
    # The system tests start real services, which lose tasks on a machine that is busy with other tests.
    calls = [others] if sample and not is_oldest_of_its_major(airflow) else [others, [system]]
    codes = [subprocess.run([*tests, *arguments], check=False, cwd=python.parents[1]).returncode for arguments in calls]
    code = next((code for code in codes if code), 0)
    seconds = time.monotonic() - started
    print(f"Airflow {airflow} on Python {CELLS[airflow]}: {seconds:.0f} s, exit code {code}", flush=True)
    return f"the tests ended with exit code {code}" if code else None


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the tests against each supported Airflow.")
    parser.add_argument("--sample", metavar="N", help=SAMPLE)
    parser.add_argument("cells", nargs="*", metavar="AIRFLOW_VERSION", help=f"some of {', '.join(CELLS)}")
    arguments = parser.parse_args()
    wanted = arguments.cells or list(CELLS)
    sample = [f"--sample={arguments.sample}"] if arguments.sample else []
    if unknown := set(wanted) - set(CELLS):
        sys.exit(f"There is no cell {', '.join(sorted(unknown))}. The cells are {', '.join(CELLS)}.")
    built = wheel(BUILD / "dist")
    problems = {airflow: problem for airflow in wanted if (problem := run(airflow, built, sample))}
    for airflow in wanted:
        print(f"Airflow {airflow:7} Python {CELLS[airflow]:5} {problems.get(airflow, 'passed')}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
