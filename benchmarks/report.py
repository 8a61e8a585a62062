"""Tables of results: medians and spread as text, and every individual figure as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ["apache-airflow", "airflow-provider-aimlbilling", "apache-airflow-providers-http", "requests", "aiohttp"]


class Table:
    """
    The results of one theme: one row per peer, one or several figures per cell.

    :param theme: name of the theme.
    :param title: what was measured, in one sentence.
    :param columns: column headings.
    """

    def __init__(self, theme: str, title: str, columns: Sequence[str]) -> None:
        self.theme, self.title, self.columns = theme, title, list(columns)
        self.rows: list[tuple[str, list[Any]]] = []

    def add(self, name: str, *cells: Any) -> None:
        """Add a row. Lists of numbers are shown as median and spread, everything else as it is."""
        self.rows.append((name, list(cells)))

    def text(self) -> str:
        """Return the table as Markdown."""
        lines = [[self.theme, *self.columns], *([name, *map(_cell, cells)] for name, cells in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        texts = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        ]
        texts.insert(1, "| " + " | ".join("-" * width for width in widths))
        return f"{self.title}\n\n" + "\n".join(f"{text} |" for text in texts) + "\n"

    def write(self, folder: Path) -> None:
        """Write ``THEME.json`` and ``THEME.txt``."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{"name": name, **dict(zip(self.columns, cells, strict=True))} for name, cells in self.rows]
        result = {"theme": self.theme, "title": self.title, "machine": machine(), "rows": rows}
        (folder / f"{self.theme}.json").write_text(json.dumps(result, indent=1) + "\n")
        (folder / f"{self.theme}.txt").write_text(self.text())


def machine() -> dict[str, Any]:
    """Return what the figures were measured on: time, machine, Python and packages."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in PACKAGES},
    }


def _cell(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    if not value:
        return "–"
    median, low, high = statistics.median(value), min(value), max(value)
    spread = f" ({_number(low)}–{_number(high)})" if _number(low) != _number(high) else ""
    return _number(median) + spread


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2g}"
