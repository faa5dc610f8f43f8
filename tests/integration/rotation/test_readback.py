"""A process that was just started reads what the store has, and says so without a value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra.paths import REPOSITORY
from infra.record.directory import DirectoryStore
from infra.rotation import readback
from infra.rotation.readback import Question, differing, proof
from infra.secretstore import SecretStoreError, open_store, sops

STACK, VALUE = "production", "sk-proj-canary-0123456789"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SOPS_AGE_KEY", sops.new_identity()[0])
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    directory = DirectoryStore(tmp_path / "record")
    open_store({}, STACK, record=directory).put_many(
        {"openai-api-key": VALUE, "metrics-token": "other"}, by="ada"
    )
    return {"url": directory.url}


def test_it_tells_values_that_it_reads_from_others(record: dict[str, str]) -> None:
    right = {"openai-api-key": VALUE, "metrics-token": "other"}
    assert differing(right, {"driver": "sops"}, STACK, record) == []
    assert differing({**right, "metrics-token": "else"}, {"driver": "sops"}, STACK, record) == [
        "metrics-token"
    ]


def test_it_prints_no_value(record: dict[str, str]) -> None:
    question = Question(
        secretstore={"driver": "sops"}, record=record, stack=STACK, names=("openai-api-key",), nonce="1"
    )
    done = subprocess.run(
        [sys.executable, "-m", readback.__name__],
        input=question.model_dump_json(),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert VALUE not in done.stdout + done.stderr
    assert proof("1", VALUE) in done.stdout
    assert proof("2", VALUE) != proof("1", VALUE)


def test_what_it_can_not_read_is_an_error(record: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOPS_AGE_KEY", sops.new_identity()[0])
    with pytest.raises(SecretStoreError, match=r"a fresh process can't read it back: .*none of the file's"):
        differing({"openai-api-key": VALUE}, {"driver": "sops"}, STACK, record)
