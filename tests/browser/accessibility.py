"""What axe finds in a page."""

from __future__ import annotations

from typing import Any

import pytest


def serious_findings(page: Any) -> list[str]:
    """Return the findings that are worse than moderate. Skip the test if axe is not installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    violations = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:120]}"
        for violation in violations
        for node in violation["nodes"]
        if violation["impact"] not in ("minor", "moderate")
    ]
