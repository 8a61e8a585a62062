"""The benchmarks can start, and their README covers every theme. The tests do not check what they measure."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from airflow_provider_aimlbilling.sandbox import Sandbox

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# At the end of the path: tools/ has modules of the same names, which other tests import.
sys.path.append(str(BENCHMARKS))

import page  # noqa: E402
import report  # noqa: E402
from peers import PEERS, connections, dag_file  # noqa: E402
from report import Table  # noqa: E402
from run import THEMES  # noqa: E402

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("peer", [None, *PEERS])
def test_every_peer_has_a_dag_file_that_compiles(peer: str | None) -> None:
    compile(dag_file(peer, [1, 10]), "dag.py", "exec")


def test_all_peers_get_the_same_account() -> None:
    with Sandbox(0, key="known") as account:
        env = connections(account)
    ours, theirs = json.loads(env["AIRFLOW_CONN_AIMLBILLING_DEFAULT"]), json.loads(env["AIRFLOW_CONN_BILLING_HTTP"])
    assert ours["host"] == theirs["host"] == env["BILLING_URL"]
    assert theirs["extra"]["Authorization"] == f"Bearer {ours['password']}" == f"Bearer {env['BILLING_KEY']}"


def test_every_theme_has_a_module_and_a_row_in_the_readme() -> None:
    readme = (BENCHMARKS / "README.md").read_text()
    for theme in THEMES:
        assert (BENCHMARKS / f"{theme}.py").exists()
        assert f"| `{theme}` |" in readme


def test_the_size_of_the_page_counts_every_file_once() -> None:
    always, for_chart = page.static_files()
    names = [file.name for file in always + for_chart]
    assert sorted(names) == sorted(file.name for file in always[0].parent.iterdir() if file.suffix != ".md")
    assert [file.name for file in for_chart] == ["chart.umd.min.js"]


def test_a_table_shows_median_and_spread_and_keeps_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PACKAGES", ["requests"])
    table = Table("speed", "How fast.", ["ms", "requests"])
    table.add("ours", [3.0, 1.0, 200.0], [1, 1, 1])
    table.add("nothing", [], "-")
    table.write(tmp_path)
    text = (tmp_path / "speed.txt").read_text()
    assert "| ours    | 3 (1\N{EN DASH}200) | 1        |" in text
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert rows[0] == {"name": "ours", "ms": [3.0, 1.0, 200.0], "requests": [1, 1, 1]}
