"""The files of the billing page, as they are: no address elsewhere, no HTML from text, short, licensed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_server import STATIC

pytestmark = pytest.mark.pure

OURS = sorted(path for path in STATIC.iterdir() if not path.name.startswith("chart.umd."))


def test_the_page_is_made_of_short_files() -> None:
    assert {path.suffix for path in OURS} == {".html", ".css", ".js"}
    assert [path.name for path in OURS if len(path.read_text().splitlines()) > 300] == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_file_names_an_address_elsewhere_or_makes_html_of_text(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"https?://|[\"'(]//\w", text)
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", "onclick="):
        assert forbidden not in text


def test_every_file_is_used() -> None:
    text = "".join(path.read_text() for path in OURS)
    assert [path.name for path in OURS if path.name != "index.html" and f"/{path.name}" not in text] == []
    assert "./chart.umd.min.js" in text


def test_the_chart_library_comes_with_its_licence_and_version() -> None:
    version = re.match(r"/\*!\s+\* Chart\.js v([\d.]+)", (STATIC / "chart.umd.min.js").read_text())
    assert version
    assert (STATIC / "chart.umd.README.md").read_text().startswith(f"# Chart.js {version[1]}\n")
    assert "The MIT License" in (STATIC / "chart.umd.LICENSE.md").read_text()
