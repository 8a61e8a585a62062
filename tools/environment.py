"""
Make a virtual environment with one Airflow, its constraints, and this package. Standard library only.

usage: python3 tools/environment.py DIRECTORY AIRFLOW_VERSION [PACKAGE…]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def make(directory: Path, airflow: str, packages: list[str], python: str = sys.executable) -> Path:
    """Make the environment anew and give its interpreter."""
    print(f"Installing Airflow {airflow} into {os.path.relpath(directory)}: a minute or two.", flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    made = subprocess.run([python, "-m", "venv", directory], check=False, capture_output=True, text=True)
    if made.returncode:
        sys.exit(f"{made.stdout}{made.stderr}\nCannot make a virtual environment. On Debian: apt install python3-venv")
    constraints = ROOT / "constraints" / f"airflow-{airflow}.txt"
    command = [directory / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    install([*command, f"apache-airflow=={airflow}", "--constraint", constraints, *packages])
    return directory / "bin" / "python"


def install(command: list[str | Path]) -> None:
    """Run pip, and show that it moves: how many packages it has looked at, not each of their lines."""
    began, count, lines = time.monotonic(), 0, []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(line)
            if line.startswith("Collecting"):
                count += 1
                if count % 25 == 0:
                    print(f"  {count} packages, {time.monotonic() - began:.0f} s", flush=True)
            elif line.startswith("Installing collected"):
                print(f"  {count} packages found, unpacking them", flush=True)
    if pip.returncode:
        sys.exit("".join(lines[-40:]) + "\npip failed; see above.")
    print(f"  done after {time.monotonic() - began:.0f} s", flush=True)


def wheel(into: Path) -> Path:
    """Build this project's wheel and give its path."""
    shutil.rmtree(into, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", into, ROOT], check=True)
    (built,) = into.glob("*.whl")
    return built


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
