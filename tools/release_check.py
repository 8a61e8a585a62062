"""
Check what would be published: build it, inspect it, install it, and run the demo from the source distribution.

usage: python3 tools/release_check.py AIRFLOW_VERSION
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import check_wheel
import sbom
from distributions import DIST, build, checksums, git
from environment import ROOT, make, run, tools

BUILD = ROOT / ".build" / "release"

# Outside the checkout, so that Python imports what is installed.
PROBE = """
import importlib.metadata, pathlib, sys
import airflow_provider_aimlbilling as package
from airflow_provider_aimlbilling.operators.balance import BalanceCheckOperator
from airflow.providers_manager import ProvidersManager
assert pathlib.Path(package.__file__).is_relative_to(sys.prefix), package.__file__
assert importlib.metadata.version("airflow-provider-aimlbilling") == package.__version__
provider = ProvidersManager().providers["airflow-provider-aimlbilling"]
assert provider.version == package.__version__, provider
"""


def compare_with_the_tree(sdist: Path) -> None:
    """Exit unless the source distribution holds every tracked file, unchanged, and nothing but its metadata besides."""
    tracked = set(git("ls-files").splitlines())
    with tarfile.open(sdist) as archive:
        files = {member.name.partition("/")[2]: member for member in archive.getmembers() if member.isfile()}
        changed = {
            name
            for name in tracked & files.keys()
            if archive.extractfile(files[name]).read() != (ROOT / name).read_bytes()  # type: ignore[union-attr]
        }
    found = {"missing": tracked - files.keys(), "changed": changed, "added": files.keys() - tracked - {"PKG-INFO"}}
    for problem, names in found.items():
        if names:
            sys.exit(f"{sdist.name}: {problem}: {', '.join(sorted(names))}")
    print(f"{sdist.name}: {len(files)} files, all that are tracked, {sdist.stat().st_size:,} bytes", flush=True)


def unpack(sdist: Path) -> Path:
    """Unpack the source distribution and return its root."""
    into = BUILD / "unpacked"
    shutil.rmtree(into, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    (root,) = into.iterdir()
    return root


def install(kind: str, airflow: str, built: Path) -> Path:
    """Install a distribution into a fresh environment and return the interpreter, after a look at the provider."""
    python = make(BUILD / kind, airflow, [str(built)])
    env = {**os.environ, "AIRFLOW_HOME": str(BUILD / "airflow")}
    if subprocess.run([python, "-c", PROBE], check=False, cwd=BUILD, env=env).returncode:
        sys.exit(f"The {kind} is installed, but does not work; see the error above.")
    return python


def main() -> None:
    (airflow,) = sys.argv[1:]
    if changed := git("status", "--porcelain"):
        sys.exit(f"Commit these changes first, because a release is built from a commit:\n{changed}")
    sdist, wheel = built = build(ROOT, DIST, "--sdist", "--wheel")
    programs = tools("release")
    compare_with_the_tree(sdist)
    check_wheel.check(wheel, set(git("ls-files", check_wheel.PACKAGE).splitlines()))
    run([programs / "twine", "check", "--strict", *built])
    run([programs / "check-wheel-contents", wheel])
    print("twine check --strict and check-wheel-contents have no objections", flush=True)

    source = unpack(sdist)
    again = build(source, BUILD / "again", "--wheel")
    if checksums(again) != checksums([wheel]):
        sys.exit("The source distribution builds another wheel than the checkout.")
    print("The source distribution builds the same wheel, byte for byte.", flush=True)

    sbom.write(install("wheel", airflow, wheel), wheel)
    python = install("sdist", airflow, sdist)
    print("Running the demo from the source distribution.", flush=True)
    env = {name: value for name, value in os.environ.items() if name not in ("AIMLAPI_KEY", "PYTHONPATH")}
    if subprocess.run([python, "tools/demo.py"], check=False, cwd=source, env=env).returncode:
        sys.exit("The demo failed; see above.")
    print(f"\n{checksums(built)}Ready to publish, if this commit is.")


if __name__ == "__main__":
    main()
