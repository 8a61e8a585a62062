"""
Build the source distribution and the wheel into ``.build/release/dist``, the same bytes each time for a commit.

usage: python3 tools/distributions.py [SHA256SUMS]   (compare the files with the output of another build)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from environment import ROOT, run, uv

DIST = ROOT / ".build" / "release" / "dist"
PINS = ROOT / "tools" / "build-pins.txt"


def git(*arguments: str) -> str:
    """Return the output of a git command in the root of the project."""
    finished = subprocess.run(["git", *arguments], check=False, capture_output=True, text=True, cwd=ROOT)
    if finished.returncode:
        sys.exit(f"A release is built from a git checkout, and git failed: {finished.stderr}")
    return finished.stdout.strip()


def use_time_of_commit() -> None:
    """Let archives carry the time of the last commit, which makes them reproducible."""
    os.environ["SOURCE_DATE_EPOCH"] = git("log", "-1", "--format=%ct")


def build(source: Path, into: Path, *kinds: str) -> list[Path]:
    """
    Build distributions.

    :param source: folder of the project to build.
    :param into: folder for the results; emptied first.
    :param kinds: ``--sdist`` or ``--wheel`` or both.
    :returns: the paths of the results, in the order of the kinds.
    """
    use_time_of_commit()
    shutil.rmtree(into, ignore_errors=True)
    for kind in kinds:  # each from the source; otherwise uv builds the wheel from the source distribution
        run([uv(), "build", "--quiet", "--build-constraints", PINS, kind, "--out-dir", into, source])
    patterns = {"--sdist": "*.tar.gz", "--wheel": "*.whl"}
    return [path for kind in kinds for path in into.glob(patterns[kind])]


def checksums(paths: list[Path]) -> str:
    """Return the SHA-256 of each file, as ``sha256sum`` prints them."""
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)


def main() -> None:
    if changed := git("status", "--porcelain"):
        sys.exit(f"Commit these changes first, because a release is built from a commit:\n{changed}")
    found = checksums(build(ROOT, DIST, "--sdist", "--wheel"))
    print(found, end="")
    expected = sys.argv[1].strip() if sys.argv[1:] else found.strip()
    if found.strip() != expected:
        sys.exit(f"These are not the files that were checked, which are:\n{expected}")


if __name__ == "__main__":
    main()
