"""Looks for the values of all secrets in anything that can be read as a stream."""

from __future__ import annotations

import base64
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

_LEAST = 16
"""Shorter parts of a value would be found anywhere."""
_ARMOUR = "-----"
_CHUNK = 1 << 20


class NotSearchedError(AssertionError):
    """What was to be searched could not be read, or there was nothing."""


def needles(value: str) -> set[str]:
    """Texts by which a value is known: itself, or each line of a key; and what base64 makes of them.

    The last line of a key is left out: where the key is short that is its public part, as in certificates.
    """
    lines = [line for line in value.splitlines() if not line.startswith(_ARMOUR) and len(line) >= _LEAST]
    lines = lines[:-1] or lines
    return {text for line in lines for text in (line, *_encoded(line))} | set(_encoded(value.strip()))


def _encoded(text: str) -> Iterator[str]:
    """What neighbours do not change, for each of the three places at which the text may begin."""
    for offset in range(3):
        octets = text.encode()[offset:]
        yield base64.b64encode(octets[: len(octets) - len(octets) % 3]).decode()


class Canary:
    """Says which secrets are in a stream; their values are in no argument and no message.

    `patterns` is a file that is made with mode 0600; who made the directory removes it.
    """

    def __init__(self, secrets: Mapping[str, str], patterns: Path) -> None:
        self._owner = {needle: name for name, value in secrets.items() for needle in needles(value)}
        self._patterns = patterns
        patterns.touch(mode=0o600)
        patterns.write_text("".join(f"{needle}\n" for needle in sorted(self._owner)))

    def in_chunks(self, chunks: Iterable[bytes]) -> set[str]:
        """Names of the secrets in a stream.

        Raises:
            NotSearchedError: the stream is empty.
        """
        octets = 0
        with tempfile.TemporaryFile() as found:
            with subprocess.Popen(
                ["grep", "--text", "--only-matching", "--fixed-strings", f"--file={self._patterns}"],
                stdin=subprocess.PIPE,
                stdout=found,
                env={"LC_ALL": "C"},
            ) as search:
                assert search.stdin
                for chunk in chunks:
                    octets += len(chunk)
                    search.stdin.write(chunk)
            # 1 says that nothing was found.
            if search.returncode not in (0, 1) or not octets:
                raise NotSearchedError(f"{octets} octets, grep ended with {search.returncode}")
            found.seek(0)
            return {self._owner[line.decode().rstrip("\n")] for line in found}

    def in_text(self, text: str | bytes) -> set[str]:
        """Names of the secrets in a text."""
        return self.in_chunks([text.encode() if isinstance(text, str) else text])

    def in_files(self, files: Iterable[Path]) -> dict[str, set[str]]:
        """Names of the secrets in each file that has any and has not gone meanwhile."""
        found = {}
        for file in files:
            try:
                content = file.read_bytes()
            except FileNotFoundError:
                continue
            if content and (names := self.in_text(content)):
                found[str(file)] = names
        return found

    def in_output(self, *command: str) -> set[str]:
        """Names of the secrets in what a command writes to standard output.

        Raises:
            NotSearchedError: it failed, or wrote nothing.
        """
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as source:
            assert source.stdout
            found = self.in_chunks(iter(partial(source.stdout.read, _CHUNK), b""))
        if source.returncode != 0:
            raise NotSearchedError(f"{command}: {source.returncode}")
        return found
