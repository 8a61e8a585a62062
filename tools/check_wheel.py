"""Check that the wheel holds the package and nothing else, and that no link of its long description is broken."""

from __future__ import annotations

import email
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from environment import wheel

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "airflow_provider_aimlbilling"
STATIC = f"{PACKAGE}/plugins/page/static"
REQUIRED = {
    f"{PACKAGE}/py.typed",
    f"{STATIC}/index.html",
    f"{STATIC}/page.js",
    f"{STATIC}/chart.umd.min.js",
    f"{STATIC}/chart.umd.LICENSE.md",
}

CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINKS = re.compile(r"\]\(\s*<?([^\s)>]+)|^\s*\[[^\]]+\]:\s*(\S+)|\b(?:href|src)\s*=\s*[\"']?([^\"'\s>]+)", re.MULTILINE)


def broken_links(description: str) -> Iterator[str]:
    """Yield the links that do not work on the package index: relative ones, and anchors, since headings get no ids."""
    for groups in LINKS.findall(CODE.sub("", description)):
        target = "".join(groups)
        if not target.startswith(("https://", "mailto:")):
            yield target


def check(built: Path, source: set[str]) -> None:
    """
    Print what a wheel holds; exit if that is wrong.

    :param built: the wheel.
    :param source: the files of the package, relative to the root of the project.
    """
    with zipfile.ZipFile(built) as archive:
        names = set(archive.namelist())
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(metadata_name))
        changed = {name for name in source & names if archive.read(name) != (ROOT / name).read_bytes()}
    package = {name for name in names if name.startswith(f"{PACKAGE}/")}
    problems = {
        "missing": source - package,
        "not in the source": package - source,
        "other than in the source": changed,
        "outside the package": {name for name in names - package if ".dist-info/" not in name},
        "required, but missing": REQUIRED - package,
        "links that break on the package index": set(broken_links(str(metadata.get_payload()))),
    }
    for problem, found in problems.items():
        if found:
            sys.exit(f"{built.name}: {problem}: {', '.join(sorted(found))}")
    if metadata.get_all("License-File") != ["LICENSE"]:
        sys.exit(f"{built.name} declares these licence files: {metadata.get_all('License-File')}")
    if metadata["Description-Content-Type"] != "text/markdown":
        sys.exit(f"{built.name}: the long description is not Markdown")
    print(f"{built.name}: {len(package)} files of the package, {built.stat().st_size:,} bytes")
    print(f"Requires: {', '.join(metadata.get_all('Requires-Dist', []))}", flush=True)


def main() -> None:
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    check(wheel(ROOT / ".build" / "dist"), source)


if __name__ == "__main__":
    main()
