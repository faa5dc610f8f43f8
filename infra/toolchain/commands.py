"""Runs commands whose output goes to a log of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra import paths
from infra.toolchain.errors import ToolchainError

_TAIL = 20


def log_file(name: str) -> Path:
    """Return where the output of the job `name` goes."""
    return paths.cache_home() / "logs" / f"{name}.log"


def logged(
    name: str,
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    each: Callable[[str], None] = lambda line: None,
) -> str:
    """Run `command`, give each line to `each`, append all to the log of `name` and return it.

    Raises:
        ToolchainError: if it can't be started or fails; holds the last lines and the log's place.
    """
    log = log_file(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    words = [str(word) for word in command]
    try:
        with (
            log.open("a", encoding="utf-8") as file,
            subprocess.Popen(
                words,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            file.write(f"$ {' '.join(words)}\n")
            for line in process.stdout or ():
                file.write(line)
                lines.append(line)
                each(line.rstrip("\n"))
    except OSError as error:
        raise ToolchainError(f"{name}: can't run {words[0]}: {error.strerror}") from error
    if process.returncode:
        tail = "".join(lines[-_TAIL:]).rstrip()
        raise ToolchainError(f"{name}: {words[0]} ended with {process.returncode}, see {log}:\n{tail}")
    return "".join(lines)
