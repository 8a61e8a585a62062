"""
Look for known vulnerabilities in the oldest dependencies that pyproject.toml allows.

Those that SECURITY.md explains are left out.

It needs pip-audit, and access to the advisory data of the package index.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADVISORY = re.compile(r"^\| ((?:CVE|GHSA|PYSEC)-[\w-]+) \|", re.MULTILINE)
FLOOR = re.compile(r'^ +"(?!apache-airflow)([\w.-]+)>=([\w.]+)"', re.MULTILINE)


def floors() -> list[str]:
    """Return the lower bounds of the dependencies as pins, without Airflow, whose users follow its own advisories."""
    declared = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("]")[0]
    return [f"{name}=={version}" for name, version in FLOOR.findall(declared)]


def explained() -> list[str]:
    """Return the advisories that SECURITY.md lists, with the reason why each does not apply."""
    return ADVISORY.findall((ROOT / "SECURITY.md").read_text())


def main() -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(floors()) + "\n")
        requirements.flush()
        audit = [sys.executable, "-m", "pip_audit", "--strict", "--no-deps", "--disable-pip", "-r", requirements.name]
        ignored = [option for advisory in explained() for option in ("--ignore-vuln", advisory)]
        sys.exit(subprocess.run([*audit, *ignored], check=False).returncode)


if __name__ == "__main__":
    main()
