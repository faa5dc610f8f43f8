"""Test only: the real steps, with issuers whose values are in files, and functions that are a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.rotation.issuers import Issuer, NoIssuerError, issuer
from infra.supabase import SupabaseError
from tests.issuing import FileIssuer
from tests.playbooks.rotate.simulated import real

_real = real("rotate")

DATABASES = ("postgres-app-password", "redis-password")


def _issuer(name: str, *known: Any) -> Issuer:
    if name in DATABASES:
        return issuer(name, *known)
    file = Path.home() / "issuers" / f"{name}.json"
    if not file.exists():
        raise NoIssuerError(name, "test", "ask somebody")
    return FileIssuer(file)


class _Functions:
    def ensure(self, project: str, secrets: Mapping[str, str]) -> list[str]:
        if (Path.home() / "functions.fails").exists():
            raise SupabaseError(f"{project}: the API answered 503")
        (Path.home() / "functions.json").write_text(json.dumps(dict(secrets)))
        return list(secrets)


@contextmanager
def _management(*_: object) -> Iterator[_Functions]:
    yield _Functions()


_real.management = _management  # type: ignore[attr-defined]


class ActionModule(_real.ActionModule):  # type: ignore[misc, name-defined]
    """The real one."""

    issuer: Any = staticmethod(_issuer)
    checker: Any = staticmethod(_issuer)
