"""
Measure the gates beside what would be used in their place. Ends by itself, and leaves nothing running.

usage: make bench                                  all themes; the last one takes about an hour
       make bench THEME="parse poke"               some
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

THEMES = {"parse": 9, "poke": 30, "triggerer": 2, "faults": 1, "deployment": 2}  # and how often each is repeated
RESULTS = Path(__file__).parents[1] / ".build" / "bench" / "results"


def main() -> None:
    """Run the themes and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("themes", nargs="*", metavar="THEME", help=", ".join(THEMES))
    parser.add_argument("--repeats", type=int, help="how often everything is repeated")
    parser.add_argument("--gates", type=int, nargs="+", help="how many gates wait (triggerer, deployment)")
    parser.add_argument("--peers", nargs="+", help="whose gates, by a part of their names (faults, deployment)")
    parser.add_argument("--seconds", type=float, help="how long gates wait (faults)")
    options = parser.parse_args()
    if unknown := set(options.themes) - set(THEMES):
        parser.error(f"no theme {', '.join(sorted(unknown))}; there are {', '.join(THEMES)}")
    # Stopped from outside, it still stops what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"  # of what is loaded here; services log as they always do
    for theme in options.themes or THEMES:
        module = importlib.import_module(theme)
        takes = inspect.signature(module.run).parameters
        given = {name: getattr(options, name) for name in ("gates", "peers", "seconds") if getattr(options, name)}
        began = time.monotonic()
        for table in module.run(options.repeats or THEMES[theme], **{k: v for k, v in given.items() if k in takes}):
            table.write(RESULTS)
            print(f"\n{table.text()}", flush=True)
        print(f"{theme}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
