"""
Check that a tag fits its commit, and that no document still says that the package is not published.

usage: python3 tools/publishable.py TAG
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from environment import ROOT

UNPUBLISHED = re.compile(
    r"not on the package index yet|once the package is on the index|until this package is on the public one"
    r"|nothing has been published|not decided yet|none has run on GitHub yet",
    re.IGNORECASE,
)
DOCUMENTS = ("*.md", "docs/**/*.md")


def objections(root: Path, tag: str) -> list[str]:
    """
    Return what keeps a commit from being published; empty if nothing does.

    :param root: the files of the commit.
    :param tag: the tag to publish, such as ``v1.2.3``.
    """
    found = []
    package = (root / "airflow_provider_aimlbilling" / "__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.+)"$', package, re.MULTILINE)
    if tag != f"v{version}":
        found.append(f"The tag is {tag}, but the version is {version}.")
    changes = (root / "CHANGELOG.md").read_text()
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changes, re.MULTILINE):
        found.append(f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)'.")
    if not re.search(r'^Repository = "https://', (root / "pyproject.toml").read_text(), re.MULTILINE):
        found.append("pyproject.toml does not name the address of the repository.")
    for path in sorted({path for pattern in DOCUMENTS for path in root.glob(pattern)}):
        text = " ".join(path.read_text().split())
        found += [f"{path.relative_to(root)} says '{phrase}'." for phrase in UNPUBLISHED.findall(text)]
    return found


def main() -> None:
    if found := objections(ROOT, sys.argv[1]):
        sys.exit("\n".join(["This cannot be published:", *found]))
    print(f"{sys.argv[1]} can be published.")


if __name__ == "__main__":
    main()
