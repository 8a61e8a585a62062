"""
The tests against each supported Airflow, with the built wheel, in an environment of its own. Standard library only.

usage: python3 tools/matrix.py [AIRFLOW_VERSION]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from environment import make, wheel

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build" / "matrix"

# Airflow -> Python. The cell of 3.0.6 also has the oldest libraries that pyproject.toml allows.
CELLS = {"2.11.2": "3.10", "3.0.6": "3.12", "3.1.8": "3.11", "3.2.2": "3.12", "3.3.2": "3.13"}

PROBE = """
import importlib.metadata, sys, airflow_provider_aimlbilling as package
print(importlib.metadata.version("apache-airflow"), "%d.%d" % sys.version_info[:2], package.__file__)
"""


def interpreter(version: str) -> str:
    """Find a Python of that version: on the path, or where pyenv keeps it."""
    home = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}"), *Path(home).glob(f"versions/{version}.*/bin/python")]
    for candidate in filter(None, candidates):
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip() == version:
            return str(candidate)
    sys.exit(f"The matrix needs Python {version}, and none is on the path or under {home}.")


def freeze(python: Path) -> set[str]:
    command = [python, "-m", "pip", "freeze", "--disable-pip-version-check"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def run(airflow: str, built: Path) -> str | None:
    """Run one cell, and say what is wrong with it."""
    directory = BUILD / airflow
    python = make(directory, airflow, ["pytest", "apache-airflow-providers-common-compat"], interpreter(CELLS[airflow]))
    before = freeze(python)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", built]
    subprocess.run(install, check=True)
    changed = {line for line in before ^ freeze(python) if not line.startswith("airflow-provider-aimlbilling")}
    if changed:
        return f"installing the wheel changed {', '.join(sorted(changed))}"
    # From a folder that is not the checkout's, so that the wheel is tested and not the source.
    probed = subprocess.run([python, "-c", PROBE], check=True, capture_output=True, text=True, cwd=directory)
    found = probed.stdout.strip().splitlines()[-1].split()
    if found[:2] != [airflow, CELLS[airflow]] or not found[2].startswith(str(directory)):
        return f"the cell holds {found}"
    began = time.monotonic()
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ROOT, "-c", ROOT / "pyproject.toml"]
    code = subprocess.run([*tests, ROOT / "tests"], check=False, cwd=directory).returncode
    print(
        f"Airflow {airflow} on Python {CELLS[airflow]}: {time.monotonic() - began:.0f} s, exit code {code}", flush=True
    )
    return f"the tests ended with {code}" if code else None


def main() -> None:
    wanted = sys.argv[1:] or list(CELLS)
    built = wheel(BUILD / "dist")
    wrong = {airflow: problem for airflow in wanted if (problem := run(airflow, built))}
    for airflow in wanted:
        print(f"Airflow {airflow:7} Python {CELLS[airflow]:5} {wrong.get(airflow, 'passed')}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
