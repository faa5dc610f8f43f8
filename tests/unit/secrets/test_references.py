from __future__ import annotations

import pytest

from infra.secrets import references


def test_finds_each_name_once_in_order() -> None:
    text = "a=${secret:redis-password} b=$X ${Y} ${secret:otlp-token}${secret:redis-password}"

    assert references.find(text) == ("redis-password", "otlp-token")
    assert references.find("nothing, ${HOME}, $${x}") == ()


@pytest.mark.parametrize(
    "text", ["${secret:}", "${secret:Upper}", "${secret:a_b}", "${secret:a", "${secret: a}"]
)
def test_refuses_what_only_looks_like_a_reference(text: str) -> None:
    with pytest.raises(ValueError, match="is not a reference"):
        references.find(f"key: {text}")
    with pytest.raises(ValueError, match="is not a reference"):
        references.resolve(text, lambda name: name)


def test_resolves_every_reference_and_nothing_in_values() -> None:
    values = {"a": r"\1 ${secret:b} $&", "b": "B"}

    text = references.resolve("x ${secret:a} ${secret:b} y ${secret:a}", values.__getitem__)

    assert text == r"x \1 ${secret:b} $& B y \1 ${secret:b} $&"


def test_a_reference_is_parsed_and_made() -> None:
    assert references.parse("${secret:otlp-token}") == "otlp-token"
    assert references.reference("otlp-token") == "${secret:otlp-token}"
    with pytest.raises(ValueError, match="not a reference") as caught:
        references.parse("hunter2")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="is not a name"):
        references.reference("Not a name")


def test_a_side_follows_from_a_value() -> None:
    text = "agents_${secret:a.side} ${secret:a}"
    values = {"a": "pencil"}
    assert references.find(text) == ("a",)
    assert references.side_of("a") == "${secret:a.side}"
    assert references.resolve(text, values.__getitem__) == f"agents_{references.side('pencil')} pencil"
    assert references.side("pencil") in "ab"
    with pytest.raises(ValueError, match="not a reference"):
        references.parse("${secret:a.side}")
    with pytest.raises(ValueError, match="is not a reference"):
        references.find("${secret:a.other}")
