"""The command: it takes store and recipients from the stack's file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml

from infra.config.load import load_file
from infra.config.model import RecordConfig, SecretStore
from infra.record.directory import DirectoryStore
from infra.secrets.catalogue import CATALOGUE, OURS
from infra.secretstore import __main__ as command
from infra.secretstore import open_store, sops
from infra.secretstore.store import OBJECT

STACK = "production"


@pytest.fixture
def recipients(identity: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Recipients of the stack's file, whose record is a directory; the first is the one who works."""
    recipients = (sops.find_identity(STACK).recipient(), sops.new_identity()[1])
    stack = load_file(STACK).model_copy(
        update={
            "record": RecordConfig(url=f"file://{tmp_path}/record"),
            "secretstore": SecretStore(recipients=recipients),
        }
    )
    monkeypatch.setattr(command, "load_stack", {STACK: stack}.__getitem__)
    return recipients


def test_set_encrypts_for_every_recipient_of_the_stack_file(
    recipients: tuple[str, ...], directory: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("value\n"))

    assert command.main(["set", "redis-password", "--stack", STACK]) == 0

    stored = yaml.safe_load(directory.get(OBJECT).data)
    assert tuple(item["recipient"] for item in stored["sops"]["age"]) == recipients


def test_generate_makes_what_we_issue_and_keeps_what_is_there(
    recipients: tuple[str, ...], directory: DirectoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store({}, STACK, record=directory)
    store.put("redis-password", "kept", by="alice")

    assert command.main(["generate", "--stack", STACK]) == 0
    said = capsys.readouterr().out
    assert command.main(["generate", "--stack", STACK]) == 0

    assert open_store({}, STACK, record=directory).get("redis-password") == "kept"
    ours = {name for name, secret in CATALOGUE.items() if secret.issuer == OURS and not secret.local}
    assert set(store.entries()) == ours
    assert "metrics-token" in said
    assert store.get("metrics-token") not in said
    assert "generated nothing, all have values" in capsys.readouterr().out


def test_an_unknown_stack_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list", "--stack", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err
