"""
A hook of MkDocs: adds the pages that are not in ``docs/``, and points the links of ``docs/`` at them.

The documentation is written to be read in the repository, so its links lead to files there. On the site, the documents
of the repository's root, the benchmarks and the Python files that are linked are pages as well.
"""

from __future__ import annotations

import ast
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from site_modules import API, PACKAGE

ROOT = Path(__file__).resolve().parents[1]
PROJECT = {
    "CHANGELOG.md": "project/changes.md",
    "SECURITY.md": "project/security.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "benchmarks/README.md": "project/benchmarks.md",
}
EXAMPLES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("example_dags/*.py"))
OTHER_CODE = ("benchmarks/typical_sensor.py", "benchmarks/baseline.py", "tests/runway_simulation.py")
NOT_ON_THE_SITE = ("docs/package-index.md",)

# Where each file of the repository is on the site.
PLACES = {
    **PROJECT,
    "README.md": "index.md",
    "example_dags": "examples/index.md",
    **{path: f"examples/{Path(path).stem}.md" for path in EXAMPLES},
    **{path: f"source/{Path(path).stem}.md" for path in OTHER_CODE},
}
ORIGINS = {place: path for path, place in PLACES.items() if path != "README.md"}
# Names of Airflow that compat.py provides, by the page of Airflow's documentation that has them. The build cannot read
# Airflow's inventory, because it reaches no other address.
AIRFLOW = "https://airflow.apache.org/docs"
AIRFLOW_NAMES = {
    f"{AIRFLOW}/task-sdk/stable/api.html#airflow.sdk.": (
        "BaseHook",
        "BaseOperator",
        "BaseOperatorLink",
        "BaseSensorOperator",
        "Connection",
        "Context",
        "PokeReturnValue",
        "RetryDecision",
        "RetryPolicy",
        "SkipMixin",
    ),
    f"{AIRFLOW}/apache-airflow/stable/_api/airflow/triggers/base/index.html#airflow.triggers.base.": (
        "BaseEventTrigger",
        "BaseTrigger",
        "TriggerEvent",
    ),
}
# A picture for each colour mode, as GitHub shows it.
PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*'
    r'<img alt="([^"]+)"\s+src="([^"]+)">\s*</picture>'
)
# The same with the theme's switch, and with paths that MkDocs finds.
PICTURES = r"![\2](\3#only-light)\n![\2](\1#only-dark)"
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def python_page(path: str) -> str:
    """Return a page with a Python file: its docstring as text, then the code."""
    text = (ROOT / path).read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    title, _, rest = docstring.partition("\n")
    title = title.removeprefix("# ") if title.startswith("# ") else Path(path).name
    introduction = rest if docstring.startswith("# ") else docstring
    code = re.sub(r'\A""".*?"""\n+', "", text, count=1, flags=re.DOTALL)
    return f"# {title}\n\n{introduction.strip()}\n\n`{path}`:\n\n```python\n{code}```\n"


def titles(paths: list[str]) -> list[tuple[str, str]]:
    """Return the title and the place of each example."""
    return [(python_page(path).splitlines()[0].removeprefix("# "), PLACES[path]) for path in paths]


def generated() -> dict[str, str]:
    """Return the text of each page that is not in ``docs/``, by its place."""
    pages = {place: (ROOT / path).read_text() for path, place in PROJECT.items()}
    pages |= {PLACES[path]: python_page(path) for path in (*EXAMPLES, *OTHER_CODE)}
    listed = "\n".join(f"- [{title}]({Path(place).name})" for title, place in titles(EXAMPLES))
    pages["examples/index.md"] = f"# Example DAGs\n\nComplete DAGs, each run by a test.\n\n{listed}\n"
    for title, modules in API.items():
        blocks = "\n".join(f"::: {PACKAGE}.{module}\n" for module in modules)
        pages[api_place(title)] = f"# {title}\n\n{blocks}"
    return pages


def api_place(title: str) -> str:
    return f"api/{title.lower().replace(' ', '-')}.md"


def on_config(config: Any) -> Any:
    """Add the generated pages to the navigation, before the decisions."""
    sections: list[Any] = [
        {"API": [api_place(title) for title in API]},
        {"Example DAGs": ["examples/index.md", *(place for _, place in titles(EXAMPLES))]},
        {"Project": list(PROJECT.values())},
    ]
    config.nav[-1:-1] = sections
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and make the names of Airflow known."""
    for page, names in AIRFLOW_NAMES.items():
        for name in names:
            config.plugins["autorefs"].register_url(f"{PACKAGE}.compat.{name}", page + name)
    for place, text in generated().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links at the pages of the site."""
    place = page.file.src_uri
    origin = ORIGINS.get(place, f"docs/{place}")
    if place == "examples/index.md" or place.startswith("api/"):
        return markdown

    def replace(match: re.Match[str]) -> str:
        return f"]({relocate(match[1], origin, place)}{match[2] or ''})"

    # A page that is not on the site is only listed, as an item of its own.
    lines = [line for line in markdown.splitlines() if not line.startswith("- ") or not hidden(line, origin)]
    text = PICTURE.sub(PICTURES, "\n".join(lines))
    if "<picture>" in text:
        raise PluginError(f"{origin} has a picture in another form than PICTURE in tools/site_pages.py")
    return LINK.sub(replace, text)


def hidden(line: str, origin: str) -> bool:
    """Return whether a line links a page that is not on the site."""
    return any(absolute(target, origin) in NOT_ON_THE_SITE for target, _ in LINK.findall(line))


def absolute(target: str, origin: str) -> str:
    """Return the path of a link's target in the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))


def relocate(target: str, origin: str, place: str) -> str:
    """
    Return a link as it has to be on the site.

    :param target: the link in the repository.
    :param origin: the file that has it, in the repository.
    :param place: the page that has it, on the site.
    :raises PluginError: it leads to a file that is not on the site.
    """
    if "://" in target or target.startswith("mailto:"):
        return target
    path = absolute(target, origin)
    found = PLACES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if found is None or path in NOT_ON_THE_SITE:
        raise PluginError(f"{origin} links {path}, which is not on the site: see PLACES in tools/site_pages.py")
    return posixpath.relpath(found, posixpath.dirname(place) or ".")
