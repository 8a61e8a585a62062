"""
List everything that an installation of the wheel consists of, as a CycloneDX bill of materials.

It describes the newest cell of the matrix: the wheel with that Airflow under its constraints. Other installations have
other versions.

usage: python3 tools/sbom.py AIRFLOW_VERSION   (writes .build/release/sbom.cdx.json; run tools/distributions.py first)
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from distributions import DIST, use_time_of_commit
from environment import PROJECT, ROOT, make, run, tools

SBOM = ROOT / ".build" / "release" / "sbom.cdx.json"
STATIC = ROOT / "airflow_provider_aimlbilling" / "plugins" / "page" / "static"
DIRECT = {"apache-airflow", "asgiref", "jinja2", "requests", "urllib3"}
VALIDATE = """
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(pathlib.Path(sys.argv[1]).read_text()))
"""


def chart_js() -> list[dict[str, Any]]:
    """Return the components for the library that the package includes, and for the one that is bundled in that."""
    (version,) = re.findall(r"^# Chart\.js (\S+)$", (STATIC / "chart.umd.README.md").read_text(), re.MULTILINE)
    script = (STATIC / "chart.umd.min.js").read_bytes()
    (bundled,) = re.findall(r"@kurkle/color v(\S+)", script.decode())
    library, color = (
        {
            "bom-ref": purl,
            "type": "library",
            "name": name,
            "version": purl.rpartition("@")[2],
            "purl": purl,
            "licenses": [{"license": {"id": "MIT"}}],
        }
        for name, purl in (
            ("chart.js", f"pkg:npm/chart.js@{version}"),
            ("@kurkle/color", f"pkg:npm/%40kurkle/color@{bundled}"),
        )
    )
    library["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(script).hexdigest()}]
    return [library, color]


def write(environment: Path, wheel: Path) -> None:
    """
    Write the bill of materials of an environment, and check that it names the package and its dependencies.

    :param environment: the interpreter of the environment.
    :param wheel: the wheel that is installed there.
    """
    use_time_of_commit()
    options = ["--pyproject", ROOT / "pyproject.toml", "--mc-type", "library", "--output-reproducible"]
    options += ["--output-format", "JSON", "--spec-version", "1.6", "--output-file", SBOM]
    run([tools("release") / "cyclonedx-py", "environment", *options, environment])
    found = json.loads(SBOM.read_text())
    # The version is dynamic, so pyproject.toml does not name it.
    package, content = found["metadata"]["component"], hashlib.sha256(wheel.read_bytes()).hexdigest()
    version = wheel.name.split("-")[1]
    package |= {
        "version": version,
        "purl": f"pkg:pypi/{PROJECT}@{version}",
        "hashes": [{"alg": "SHA-256", "content": content}],
    }
    included = chart_js()
    found["components"] += included
    (root,) = (entry for entry in found["dependencies"] if entry["ref"] == package["bom-ref"])
    root["dependsOn"] += [component["bom-ref"] for component in included]
    SBOM.write_text(json.dumps(found, indent=2) + "\n")
    run([tools("release") / "python", "-c", VALIDATE, SBOM])
    names = {component["name"].lower() for component in found["components"]}
    if package["name"] != PROJECT or not names >= DIRECT:
        sys.exit(f"{SBOM} does not name {PROJECT} and its dependencies.")
    if "file://" in SBOM.read_text():
        sys.exit(f"{SBOM} names a file of this machine.")
    # Some packages do not name theirs in a form that CycloneDX reads.
    licensed = sum(bool(component.get("licenses")) for component in found["components"])
    print(f"{SBOM.name}: {len(names)} components, {licensed} of them with a licence", flush=True)


def main() -> None:
    (built,) = DIST.glob("*.whl")
    write(make(ROOT / ".build" / "release" / "wheel", sys.argv[1], [str(built)]), built)


if __name__ == "__main__":
    main()
