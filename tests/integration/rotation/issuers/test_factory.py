"""Every secret has a driver, or an error that says what an operator does."""

from __future__ import annotations

from infra.rotation.issuers import Issued


def test_a_value_is_in_no_representation() -> None:
    issued = Issued(value="sk-proj-canary", id="key_1")
    assert "canary" not in f"{issued!r} {issued}"
