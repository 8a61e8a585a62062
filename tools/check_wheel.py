"""The wheel holds the package and its metadata, and nothing of the workshop around it."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from environment import wheel

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "airflow_provider_aimlbilling"


def main() -> None:
    built = wheel(ROOT / ".build" / "dist")
    with zipfile.ZipFile(built) as archive:
        names = set(archive.namelist())
    package = {name for name in names if name.startswith(f"{PACKAGE}/")}
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    other = {name for name in names - package if ".dist-info/" not in name}
    problems = {
        "missing": source - package,
        "not in the source": package - source,
        "outside the package": other,
        "needed": {f"{PACKAGE}/py.typed"} - package,
    }
    for problem, files in problems.items():
        if files:
            sys.exit(f"{built.name}: {problem}: {', '.join(sorted(files))}")
    if not any(name.endswith("LICENSE") for name in names):
        sys.exit(f"{built.name} holds no licence")
    print(f"{built.name}: {len(package)} files, {built.stat().st_size:,} bytes, nothing else")


if __name__ == "__main__":
    main()
