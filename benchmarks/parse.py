"""What a gate adds to the cold load of a DAG file: time, modules and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import PEERS, dag_file
from report import Table

HERE = Path(__file__).parent

# Runs in a fresh interpreter: loads what a DAG processor has loaded already, then measures the load of one file.
LOAD = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, task
import psutil
memory = psutil.Process().memory_info().rss
modules = set(sys.modules)
started = time.perf_counter()
bag = DagBag(sys.argv[1])
took = time.perf_counter() - started
assert len(bag.dags) == 1 and not bag.import_errors, bag.import_errors
added = set(sys.modules) - modules
print(json.dumps({"ms": took * 1e3, "modules": len(added), "mb": (psutil.Process().memory_info().rss - memory) / 1e6}))
"""

EMPTY_SENSOR = """
from airflow.sdk import BaseSensorOperator
class EmptySensor(BaseSensorOperator):
    pass
"""


def run(repeats: int) -> list[Table]:
    """Load the files in turn, so that other load on the machine affects all of them alike."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        files = {"a DAG file without a gate": dag_file(None, [1])}
        empty = dag_file(None, [1]).replace("for gates", f"{EMPTY_SENSOR}for gates", 1)
        files["an empty sensor class"] = empty.replace("            None", "            EmptySensor(task_id=name)")
        files |= {peer: dag_file(peer, [1]) for peer in PEERS if not peer.startswith("baseline")}
        results: dict[str, list[dict[str, float]]] = {name: [] for name in files}
        for number, source in enumerate(files.values()):
            (home / f"dag_{number}.py").write_text(source)
        env = os.environ | {
            "AIRFLOW_HOME": folder,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PYTHONPATH": str(HERE),
            "BILLING_URL": "",
            "BILLING_KEY": "",
        }
        for repeat in range(repeats + 1):
            for number, name in enumerate(files):
                command = [sys.executable, "-c", LOAD, home / f"dag_{number}.py"]
                out = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout
                if repeat:  # the first round only writes the bytecode
                    results[name].append(json.loads(out.strip().splitlines()[-1]))
    without_gate = results["a DAG file without a gate"]
    table = Table(
        "parse",
        "Cold load of a DAG file with one gate, in a fresh interpreter that has already loaded Airflow's SDK.",
        ["load (ms)", "added by the gate (ms)", "modules added", "memory added (MB)"],
    )
    for name, runs in results.items():
        added = [one["ms"] - other["ms"] for one, other in zip(runs, without_gate, strict=True)]
        modules = [one["modules"] - other["modules"] for one, other in zip(runs, without_gate, strict=True)]
        memory = [one["mb"] - other["mb"] for one, other in zip(runs, without_gate, strict=True)]
        table.add(name, [one["ms"] for one in runs], added, modules, memory)
    return [table]
