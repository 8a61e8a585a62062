"""
Measure what gates and guards cost, beside the alternatives. Stops by itself and leaves no processes behind.

usage: make bench                                  all themes; the last one takes about an hour
       make bench THEME="parse poke"               some themes
       make bench THEME=deployment ARGS="--gates 10 --repeats 1"
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import signal
import sys
import time
from pathlib import Path

THEMES = {
    "parse": 9,
    "poke": 30,
    "triggerer": 2,
    "faults": 1,
    "guard": 3,
    "request_log": 5,
    "page": 3,
    "deployment": 2,
}  # theme: default number of repeats
RESULTS = Path(__file__).parents[1] / ".build" / "bench" / "results"


def main() -> None:
    """Run the themes and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("themes", nargs="*", metavar="THEME", help=", ".join(THEMES))
    parser.add_argument("--repeats", type=int, help="how often to repeat each measurement")
    parser.add_argument("--gates", type=int, nargs="+", help="how many gates wait (triggerer, deployment)")
    parser.add_argument("--peers", nargs="+", help="which gates to measure, by part of the name (faults, deployment)")
    parser.add_argument("--seconds", type=float, help="how long the gates wait (faults)")
    options = parser.parse_args()
    if unknown := set(options.themes) - set(THEMES):
        parser.error(f"unknown theme {', '.join(sorted(unknown))}; choose from {', '.join(THEMES)}")
    # On SIGTERM, still clean up: exiting stops every process that a theme has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # For code that runs in this process. The services log as usual.
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"
    for theme in options.themes or THEMES:
        module = importlib.import_module(theme)
        parameters = inspect.signature(module.run).parameters
        given = {name: getattr(options, name) for name in ("gates", "peers", "seconds") if getattr(options, name)}
        arguments = {name: value for name, value in given.items() if name in parameters}
        started = time.monotonic()
        for table in module.run(options.repeats or THEMES[theme], **arguments):
            table.write(RESULTS)
            print(f"\n{table.text()}", flush=True)
        print(f"{theme}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
