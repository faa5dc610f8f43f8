"""`python -m tests.bench NAME [--short]`: run one benchmark; exit 1 when a bar does not hold."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from tests.bench.harness import publish

NOT_BENCHMARKS = {"__init__", "__main__", "harness"}


def names() -> list[str]:
    """Benchmarks that exist."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in NOT_BENCHMARKS)


def main() -> int:
    """Parse, run, publish."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("name", choices=names(), metavar="NAME", help=f"one of: {', '.join(names())}")
    parser.add_argument("--short", action="store_true", help="the short form that the tests run")
    options = parser.parse_args()
    module = importlib.import_module(f"tests.bench.{options.name}")
    return 0 if publish(options.name, module.run(short=options.short)) else 1


if __name__ == "__main__":
    sys.exit(main())
