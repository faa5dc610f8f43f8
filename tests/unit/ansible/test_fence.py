"""Fencing on a host: whoever comes late is refused, whoever comes while another changes it waits."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from tests.unit.ansible.conftest import load_plugin

fence = load_plugin("module_utils", "fence")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "icupa" / "fence"


def enter(file: Path, token: int, patience: float = 0.3) -> None:
    with fence.fenced(token, str(file), patience):
        pass


def test_the_highest_token_is_remembered(file: Path) -> None:
    for token in (9, 9, 10, 1234):
        enter(file, token)
        assert file.read_text() == f"{token}\n"


def test_a_lower_token_is_refused_and_the_way_out_is_named(file: Path) -> None:
    enter(file, 10)
    with pytest.raises(fence.FencedError, match=rf"token 10 .* this one has 9 .* remove {file}"):
        enter(file, 9)
    assert file.read_text() == "10\n"


def test_no_operation_is_kept_from_nothing(file: Path) -> None:
    enter(file, 0)
    assert not file.exists()


def test_a_change_under_way_is_waited_for(file: Path) -> None:
    enter(file, 1)
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(fence.FencedError, match="another operation has been changing this host"):
            enter(file, 2)
        timer = threading.Timer(0.2, lambda: fcntl.flock(other, fcntl.LOCK_UN))
        timer.start()
        enter(file, 2, patience=10)
        timer.join()
    assert file.read_text() == "2\n"


def test_the_block_holds_the_host(file: Path) -> None:
    with (
        fence.fenced(3, str(file), 0.3),
        pytest.raises(fence.FencedError, match="another operation"),
        fence.fenced(4, str(file), 0.3),
    ):
        pass
