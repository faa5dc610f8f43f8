"""An issuer of secrets for tests: its values are in a file, which outlives a run that is killed."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.rotation.issuers import Issued, IssuerGarbageError, IssuerRefusedError, IssuerUnavailableError

ERRORS = {
    "refused": IssuerRefusedError("OpenAI refused: 403"),
    "down": IssuerUnavailableError("OpenAI did not answer within 10 s"),
    "garbage": IssuerGarbageError("OpenAI answered with something else"),
}


@dataclass(frozen=True)
class FileIssuer:
    """Values by their ids. A call named in `fail` fails so, `lost_answers`: after it has taken effect."""

    file: Path

    def create(self, label: str) -> Issued:
        """See `Issuer.create`."""
        self._fail("create")
        keys = self.keys()
        issued = Issued(f"sk-proj-{secrets.token_hex(16)}", f"key_{len(self._all()) + 1}")
        keys[issued.id] = {"value": issued.value, "label": label}
        self._write(keys=keys, made=len(self._all()) + 1)
        self._fail("create answer")
        return issued

    def labelled(self, label: str) -> list[str]:
        """See `Issuer.labelled`."""
        self._fail("labelled")
        return [name for name, key in self.keys().items() if key["label"] == label]

    def current(self, value: str) -> str | None:
        """See `Issuer.current`."""
        self._fail("current")
        return next((name for name, key in self.keys().items() if key["value"] == value), None)

    def accepts(self, value: str) -> bool:
        """See `Checker.accepts`."""
        self._fail("accepts")
        sticky = self._read().get("sticky", [])
        return value in sticky or any(key["value"] == value for key in self.keys().values())

    def revoke(self, id: str) -> None:  # noqa: A002 - the contract's word
        """See `Issuer.revoke`."""
        self._fail("revoke")
        keys = self.keys()
        keys.pop(id, None)
        self._write(keys=keys)

    def keys(self) -> dict[str, dict[str, str]]:
        """Valid values by id, with their labels."""
        found: dict[str, dict[str, str]] = self._read()["keys"]
        return found

    def put(self, value: str, name: str = "key_1") -> None:
        """A value that was made by hand."""
        self._write(keys={**self.keys(), name: {"value": value, "label": "by hand"}}, made=1)

    def failing(self, **fail: str) -> None:
        """Have calls fail from now on: `create="down"`; `create_answer`: once it has taken effect."""
        self._write(fail={name.replace("_", " "): how for name, how in fail.items()})

    def sticky(self, *values: str) -> None:
        """Values that stay accepted although they are revoked."""
        self._write(sticky=list(values))

    def _all(self) -> range:
        return range(self._read().get("made", 0))

    def _fail(self, call: str) -> None:
        if how := self._read().get("fail", {}).get(call):
            raise ERRORS[how]

    def _read(self) -> dict[str, Any]:
        if not self.file.exists():
            return {"keys": {}}
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def _write(self, **changes: Any) -> None:
        self.file.write_text(json.dumps({**self._read(), **changes}))
