"""The benchmarks start, and say what they hold. What they measure is no matter of the tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import report  # noqa: E402
from peers import PEERS, connections, dag_file  # noqa: E402
from report import Table  # noqa: E402
from run import THEMES  # noqa: E402

from airflow_provider_aimlbilling.sandbox import Sandbox  # noqa: E402


@pytest.mark.parametrize("peer", [None, *PEERS])
def test_each_peer_writes_a_dag_file(peer: str | None) -> None:
    compile(dag_file(peer, [1, 10]), "dag.py", "exec")


def test_the_same_account_is_named_to_all_peers() -> None:
    with Sandbox(0, key="known") as account:
        env = connections(account)
    ours, theirs = json.loads(env["AIRFLOW_CONN_AIMLBILLING_DEFAULT"]), json.loads(env["AIRFLOW_CONN_BILLING_HTTP"])
    assert ours["host"] == theirs["host"] == env["BILLING_URL"]
    assert theirs["extra"]["Authorization"] == f"Bearer {ours['password']}" == f"Bearer {env['BILLING_KEY']}"


def test_each_theme_is_there_and_told_of() -> None:
    told = (BENCHMARKS / "README.md").read_text()
    for theme in THEMES:
        assert (BENCHMARKS / f"{theme}.py").exists()
        assert f"| `{theme}` |" in told


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
