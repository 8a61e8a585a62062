"""
Resolve the wheel under the constraints of managed platforms and of the matrix's cells.

A target passes if the wheel resolves together with Airflow, every pin is kept, and the wheel adds no package to those
that Airflow installs anyway. ``constraints/platforms/NAME-AIRFLOW-pyXY.txt`` is what an image of a platform pins.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from environment import PROJECT, constraints, uv, wheel
from matrix import CELLS
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = ROOT / "constraints" / "platforms"
FILE_NAME = re.compile(r".+-(?P<airflow>\d+\.\d+\.\d+)-py(?P<major>\d)(?P<minor>\d+)\.txt")

Versions = dict[str, str]


class Target(NamedTuple):
    """One set of constraints, and the Airflow and the Python that it is for."""

    file: Path
    airflow: str
    python: str


class ResolutionError(Exception):
    """The wheel does not fit into a target."""


def find_targets() -> list[Target]:
    """Return the platforms and the cells."""
    found = []
    for file in sorted(PLATFORMS.glob("*.txt")):
        name = FILE_NAME.fullmatch(file.name)
        if name is None:
            sys.exit(f"{file.name} does not name its Airflow and Python as in mwaa-2.11.0-py312.txt.")
        found.append(Target(file, name["airflow"], f"{name['major']}.{name['minor']}"))
    return found + [Target(constraints(airflow), airflow, python) for airflow, python in CELLS.items()]


def resolve(target: Target, *requirements: str) -> Versions:
    """Return the version of each package that pip would install."""
    command = [uv(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--constraint", target.file]
    command += ["--python-version", target.python, "--python-platform", "linux", "-"]
    wanted = "\n".join([f"apache-airflow=={target.airflow}", *requirements])
    finished = subprocess.run(command, input=wanted, check=False, capture_output=True, text=True)
    if finished.returncode:
        raise ResolutionError(finished.stderr.strip())
    pins = (line.split("==") for line in finished.stdout.splitlines() if "==" in line)
    return {canonicalize_name(name.partition("[")[0]): version for name, version in pins}


def read_pins(target: Target) -> Versions:
    """Return the versions that the constraints pin on the target's Python."""
    environment = {
        "python_version": target.python,
        "python_full_version": f"{target.python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
    pins = {}
    for line in target.file.read_text().splitlines():
        if "==" not in line.partition("#")[0]:
            continue
        requirement = Requirement(line.partition("#")[0])
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (specifier,) = requirement.specifier
            pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


def check(target: Target, built: Path) -> Versions:
    """
    Resolve the wheel under the constraints of a target.

    :returns: the version of each package.
    :raises ResolutionError: there is no solution, or it deviates from the constraints, or it adds packages.
    """
    with_wheel = resolve(target, f"{PROJECT} @ {built.as_uri()}")
    pins = read_pins(target)
    if moved := [name for name in with_wheel.keys() & pins if with_wheel[name] != pins[name]]:
        changes = (f"{name} {pins[name]} -> {with_wheel[name]}" for name in sorted(moved))
        raise ResolutionError(f"The resolution deviates from the constraints: {', '.join(changes)}")
    if added := with_wheel.items() - resolve(target).items():
        packages = (f"{name} {version}" for name, version in sorted(added))
        raise ResolutionError(f"The wheel adds to what Airflow installs: {', '.join(packages)}")
    return with_wheel


def read_requirements(built: Path) -> list[str]:
    """Return the names of the packages that the wheel requires, except for Airflow."""
    with zipfile.ZipFile(built) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        requires = Metadata.from_email(archive.read(name), validate=False).requires_dist or []
    return [canonicalize_name(requirement.name) for requirement in requires if requirement.name != "apache-airflow"]


def main() -> None:
    targets, built = find_targets(), wheel(ROOT / ".build" / "platforms")
    requirements = read_requirements(built)
    failures = {}
    print(f"{'constraints':26} Airflow Python result packages  {'  '.join(requirements)}", flush=True)
    # Side by side, because they mostly wait for the package index.
    pool = ThreadPoolExecutor(max_workers=4)
    checks = [pool.submit(check, target, built) for target in targets]
    for target, checked in zip(targets, checks, strict=True):
        row = f"{target.file.name:26} {target.airflow:7} {target.python:6}"
        try:
            versions = checked.result()
        except ResolutionError as error:
            failures[target.file.name] = str(error)
            print(row, "FAILED", flush=True)
        else:
            chosen = (f"{versions.get(name, '?'):{len(name)}}" for name in requirements)
            print(row, f"passed {len(versions):8}  {'  '.join(chosen)}", flush=True)
    for name, failure in failures.items():
        print(f"\n{name}: {failure}")
    print(f"\n{len(targets) - len(failures)} passed, {len(failures)} failed")
    sys.exit(bool(failures) or not targets)


if __name__ == "__main__":
    main()
