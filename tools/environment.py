"""
Create a virtual environment with one Airflow release, its constraints, and other packages. Standard library only.

usage: python3 tools/environment.py DIRECTORY AIRFLOW_VERSION [PACKAGE…]
       python3 tools/environment.py --tools GROUP   (install a dependency group of pyproject.toml, without Airflow)
       python3 tools/environment.py --uv            (install uv if needed, and print its path)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = "airflow-provider-aimlbilling"


def uv() -> Path:
    """Return the path of uv, after installing it into ``.build/uv`` if it is not there yet."""
    directory = ROOT / ".build" / "uv"
    program = directory / "bin" / "uv"
    if not program.exists():
        created = subprocess.run([sys.executable, "-m", "venv", directory], check=False, capture_output=True, text=True)
        if created.returncode:
            sys.exit(
                f"{created.stdout}{created.stderr}\n"
                "Cannot create a virtual environment. On Debian, run: apt install python3-venv"
            )
        pip = [directory / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "--constraint", ROOT / "tools" / "build-pins.txt", "uv"], check=False).returncode:
            sys.exit("Cannot install uv from the package index; see the error above.")
    return program


def constraints(airflow: str) -> Path:
    """Return the constraints file of a supported Airflow release."""
    return ROOT / "constraints" / f"airflow-{airflow}.txt"


def make(directory: Path, airflow: str, packages: list[str], python: str = sys.executable) -> Path:
    """
    Create the environment, replacing one that exists.

    :param directory: where to create it.
    :param airflow: version of Airflow. Its constraints apply to all packages.
    :param packages: further requirements, as for ``pip install``.
    :param python: interpreter to create it with.
    :returns: the interpreter of the new environment.
    """
    print(f"Installing Airflow {airflow} into {os.path.relpath(directory)}.", flush=True)
    began = time.monotonic()
    shutil.rmtree(directory, ignore_errors=True)
    created = directory / "bin" / "python"
    run([uv(), "venv", "--quiet", "--no-project", "--python", python, directory])
    install = [uv(), "pip", "install", "--quiet", "--python", created, "--constraint", constraints(airflow)]
    install += ["--refresh-package", PROJECT]  # uv caches builds of a local project even if its modules have changed
    install += ["--compile-bytecode"]  # once, and not in every process that imports Airflow
    run([*install, "pip", f"apache-airflow=={airflow}", *packages])
    print(f"  done after {time.monotonic() - began:.0f} s", flush=True)
    return created


def tools(group: str) -> Path:
    """
    Create ``.build/tools/GROUP`` with a dependency group of ``pyproject.toml``, unless it is up to date.

    :param group: the group's name.
    :returns: the folder of its programs.
    """
    directory = ROOT / ".build" / "tools" / group
    stamp, wanted = directory / "installed", (ROOT / "pyproject.toml").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(directory, ignore_errors=True)
        run([uv(), "venv", "--quiet", "--no-project", "--python", sys.executable, directory])
        run([uv(), "pip", "install", "--quiet", "--python", directory / "bin" / "python", "--group", group])
        stamp.write_text(wanted)
    return directory / "bin"


def wheel(into: Path) -> Path:
    """
    Build this project's wheel.

    :param into: folder for the wheel; emptied first.
    :returns: the path of the wheel.
    """
    shutil.rmtree(into, ignore_errors=True)
    run([uv(), "build", "--quiet", "--wheel", "--out-dir", into, ROOT])
    (built,) = into.glob("*.whl")
    return built


def run(command: list[str | Path]) -> None:
    """Run a command from the root of the project; exit with its output if it fails."""
    finished = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    if finished.returncode:
        sys.exit(f"{finished.stdout}\nThis command failed: {' '.join(map(str, command))}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--uv"]:
        print(uv())
    elif sys.argv[1] == "--tools":
        print(tools(sys.argv[2]))
    else:
        make(Path(sys.argv[1]).absolute(), sys.argv[2], sys.argv[3:])
