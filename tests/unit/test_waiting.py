"""Waiting ends when the condition holds, and says what did not."""

from __future__ import annotations

import pytest

from tests.waiting import eventually


class Slow:
    """Holds at the third question; before that it answers no, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self.error = error

    def __call__(self) -> bool:
        self.asked += 1
        if self.error and self.asked < 3:
            raise self.error
        return self.asked >= 3


def test_it_asks_until_the_condition_holds() -> None:
    slow = Slow()
    eventually(slow, "three", interval=0.001)
    assert slow.asked == 3


def test_what_is_pardoned_is_waited_out() -> None:
    slow = Slow(OSError("not yet"))
    eventually(slow, "three", interval=0.001, pardoned=(OSError,))
    assert slow.asked == 3


def test_what_is_not_pardoned_goes_on_at_once() -> None:
    slow = Slow(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        eventually(slow, "three", interval=0.001, pardoned=(OSError,))
    assert slow.asked == 1


def test_it_says_what_did_not_happen() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: it runs\nlast line"):
        eventually(lambda: False, "it runs", 0.01, interval=0.001, details=lambda: "last line")


def test_it_repeats_the_last_error() -> None:
    def refuse() -> bool:
        raise OSError("refused")

    with pytest.raises(AssertionError, match=r"it answers \(refused\)"):
        eventually(refuse, "it answers", 0.01, interval=0.001, pardoned=(OSError,))
