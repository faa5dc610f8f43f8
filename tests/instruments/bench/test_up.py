"""What the benchmark of `make up` reads from the tools' output."""

from __future__ import annotations

import pytest

from tests.bench.up import Recap, duration, recap, resources_changed

PLAY = """
PLAY RECAP *********************************************************************
localhost                  : ok=1    changed=0    unreachable=0    failed=0    skipped=0    rescued=0
primary                    : ok=34   changed=15   unreachable=0    failed=0    skipped=10   rescued=0
"""
SMOKE = """
PLAY RECAP *********************************************************************
localhost                  : ok=1    changed=1    unreachable=0    failed=0    skipped=0    rescued=0
"""


def test_recaps_of_all_plays_are_summed_up() -> None:
    assert recap(PLAY + SMOKE) == Recap(ran=36, changed=16)


def test_an_output_without_a_recap_is_not_a_play_without_changes() -> None:
    with pytest.raises(ValueError, match="no recap"):
        recap("ERROR! the playbook could not be found")


@pytest.mark.parametrize(
    ("summary", "changed"),
    [
        ("    43 unchanged\n", 0),
        ("    +-2 replaced\n    41 unchanged\n", 2),
        ("    + 3 created\n    ~ 1 updated\n    - 2 deleted\n    6 changes. 37 unchanged\n", 6),
        ("    + 43 created\n", 43),
    ],
)
def test_resources_that_changed_are_counted(summary: str, changed: int) -> None:
    output = f"Outputs:\n    domain: 7 created\n\nResources:\n{summary}\nDuration: 5s\n"
    assert resources_changed(output) == changed


@pytest.mark.parametrize("output", ["error: the stack is locked\n", "Resources:\n    nothing to say\n"])
def test_an_output_without_a_summary_is_not_an_up_without_changes(output: str) -> None:
    with pytest.raises(ValueError, match="summar"):
        resources_changed(output)


@pytest.mark.parametrize(("said", "seconds"), [("3s", 3), ("1m5s", 65)])
def test_the_duration_is_read(said: str, seconds: float) -> None:
    assert duration(f"Resources:\n    43 unchanged\n\nDuration: {said}\n") == seconds
