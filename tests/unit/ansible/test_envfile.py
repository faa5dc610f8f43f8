"""Env files. What a real Compose reads back: tests/system/test_envfile.py."""

from __future__ import annotations

import pytest

from infra.site import envfile


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a b # c", "'a b # c'"),
        ("$HOME ${X} $$", "'$HOME ${X} $$'"),
        ('say "hi"', "'say \"hi\"'"),
        ("it's", '"it\'s"'),
        ("it's $X", '"it\'s \\$X"'),
        ("it's \"\\", '"it\'s \\"\\\\"'),
        ("back\\", '"back\\\\"'),
        ("\\n", "'\\n'"),
    ],
)
def test_quotes_what_compose_would_change(value: str, quoted: str) -> None:
    assert envfile.quote(value) == quoted


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_refuses_what_no_env_file_can_hold_without_showing_it(value: str) -> None:
    with pytest.raises(ValueError, match=r"^KEY: line breaks and NUL") as caught:
        envfile.render({"KEY": value})
    assert value not in str(caught.value)


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "A-B"])
def test_refuses_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="no name of an environment variable"):
        envfile.render({name: "value"})


def test_sorts_variables() -> None:
    assert envfile.render({"B": "2", "A": "1 2"}) == "A='1 2'\nB=2\n"
