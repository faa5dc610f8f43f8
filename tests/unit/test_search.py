"""The search for secrets in streams finds them in every form that it promises."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from infra.secrets import generators
from tests.canary import Canary, NotSearchedError

VALUE = "a-value-of-some-twenty-characters"


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary({"known": VALUE, "key": generators.ec_key()}, tmp_path / "patterns")


def test_a_value_is_found_between_others(canary: Canary) -> None:
    assert canary.in_text(f"x={VALUE};y=1") == {"known"}
    assert canary.in_text("x=another-value-of-some-length") == set()


@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_a_value_is_found_in_base64_wherever_it_begins(canary: Canary, before: str) -> None:
    assert canary.in_text(base64.b64encode(f"{before}{VALUE} and more".encode())) == {"known"}


def test_a_key_is_found_by_a_line_but_not_by_what_is_public(tmp_path: Path) -> None:
    key = generators.ec_key()
    canary = Canary({"key": key}, tmp_path / "patterns")
    assert canary.in_text(key.splitlines()[1]) == {"key"}
    assert canary.in_text(key.replace("\n", "\\n")) == {"key"}
    assert canary.in_text(generators.public_key_pem(key)) == set()


def test_nothing_read_is_no_proof(canary: Canary) -> None:
    with pytest.raises(NotSearchedError):
        canary.in_text("")
    with pytest.raises(NotSearchedError):
        canary.in_output("false")


def test_patterns_are_private(canary: Canary, tmp_path: Path) -> None:
    assert (tmp_path / "patterns").stat().st_mode & 0o777 == 0o600
