"""`python -m infra.smoke --stack local [--region fra1]`: checks an environment from outside."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from infra.outputs.model import StackError
from infra.outputs.read import FILE_ENV, read_outputs
from infra.paths import STACK_ENV
from infra.smoke import report
from infra.smoke.checks import Smoke
from infra.smoke.target import TargetError, find_target


def main(arguments: list[str] | None = None) -> int:
    """Run all checks; 0 if none failed, 1 if one did, 2 if the environment can't be checked."""
    parser = argparse.ArgumentParser(prog="python -m infra.smoke", description=__doc__)
    parser.add_argument(
        "--stack", default=os.environ.get(STACK_ENV), help=f"name of the stack (or {STACK_ENV})"
    )
    parser.add_argument("--region", help="check this region's name, not the public one")
    parser.add_argument("--report", type=Path, help="where the JSON report goes")
    given = parser.parse_args(arguments)
    if not given.stack:
        parser.error(f"no stack named: add --stack <name> or set {STACK_ENV}")
    file = os.environ.get(FILE_ENV)
    try:
        outputs = read_outputs(given.stack, Path(file) if file else None)
        target = find_target(outputs, given.stack, given.region)
    except (StackError, TargetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results = []
    for result in report.run(Smoke(target).checks()):
        print(result.line, flush=True)
        results.append(result)
    path = given.report or target.report
    report.write(path, target.name, results)
    bad = report.failed(results)
    print(f"{target.name}: {len(results) - len(bad)} of {len(results)} not failed; report: {path}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
