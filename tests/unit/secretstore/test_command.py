"""The command: it takes store and recipients from the stack's file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml

from infra.config.load import load_file
from infra.config.model import Record, SecretStore
from infra.record.directory import DirectoryStore
from infra.secretstore import __main__ as command
from infra.secretstore import sops
from infra.secretstore.store import OBJECT

STACK = "production"


def test_set_encrypts_for_every_recipient_of_the_stack_file(
    identity: Path, directory: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = sops.find_identity(STACK).recipient()
    recipients = (own, sops.new_identity()[1])
    stack = load_file(STACK).model_copy(
        update={
            "record": Record(url=f"file://{tmp_path}/record"),
            "secretstore": SecretStore(recipients=recipients),
        }
    )
    monkeypatch.setattr(command, "load_stack", {STACK: stack}.__getitem__)
    monkeypatch.setattr("sys.stdin", io.StringIO("value\n"))

    assert command.main(["set", "redis-password", "--stack", STACK]) == 0

    stored = yaml.safe_load(directory.get(OBJECT).data)
    assert tuple(item["recipient"] for item in stored["sops"]["age"]) == recipients


def test_an_unknown_stack_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list", "--stack", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err
