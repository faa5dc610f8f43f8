"""`python -m tests.molecule.project MACHINE` makes the doubles' image in a machine's own engine."""

from __future__ import annotations

import sys

from tests.molecule.machine import Machine

if __name__ == "__main__":
    Machine(sys.argv[1]).probe_image()
