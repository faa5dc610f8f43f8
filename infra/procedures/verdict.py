"""How a procedure ended, for whoever runs it: exit code, one block of text, what to do next."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from infra.record import Result


class ExitCode(IntEnum):
    """Exit codes of `ansible-playbook` for a procedure; all others are Ansible's own."""

    OK = 0
    FAILED = 2
    ROLLED_BACK = 10
    ROLLBACK_FAILED = 11
    UNCERTAIN = 12


EXIT_CODES = {
    Result.OK: ExitCode.OK,
    Result.FAILED: ExitCode.FAILED,
    Result.ROLLED_BACK: ExitCode.ROLLED_BACK,
    Result.ROLLBACK_FAILED: ExitCode.ROLLBACK_FAILED,
    Result.UNCERTAIN: ExitCode.UNCERTAIN,
}
_NEXT = {
    Result.OK: "",
    Result.FAILED: "put right what is said above, then run the same command again",
    Result.ROLLED_BACK: "all is as before; the evidence says why, then run it again with what is put right",
    Result.ROLLBACK_FAILED: "act now: what is named above did not go back; run the same command again",
    Result.UNCERTAIN: "run the same command again: it looks at what is there, and goes on from that",
}
_REFUSED_NEXT = "nothing was changed"
_WIDTH = 110
_INDENT = "  "
_LABEL = 10


@dataclass(frozen=True)
class Summary:
    """What the block says. `result` None: refused before anything began. `took` in seconds."""

    name: str
    operation_id: str
    result: Result | None
    message: str
    done: Sequence[str]
    took: float
    next: str = ""
    check: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """Exit code that goes with the result."""
        return ExitCode.FAILED if self.result is None else EXIT_CODES[self.result]

    def render(self) -> str:
        """The block, one line a fact."""
        result = "refused" if self.result is None else self.result.value
        title = f"{self.name}: {result.upper().replace('-', ' ')}{' (check mode)' if self.check else ''}"
        following = self.next or (_REFUSED_NEXT if self.result is None else _NEXT[self.result])
        facts = [
            ("operation", self.operation_id),
            ("message", self.message),
            *((("did" if not self.check else "would do"), line) for line in self.done),
            ("took", took(self.took)),
            ("next", following),
        ]
        lines = [line for label, text in facts if text for line in _fact(label, text)]
        return "\n".join(["=" * _WIDTH, title, *lines, "=" * _WIDTH])


def took(seconds: float) -> str:
    """A duration as people read it."""
    minute = 60
    if seconds < minute:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))


def _fact(label: str, text: str) -> list[str]:
    first = f"{_INDENT}{label:<{_LABEL}}"
    return textwrap.wrap(
        " ".join(text.split()),
        width=_WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
