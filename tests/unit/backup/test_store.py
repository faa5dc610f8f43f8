"""Backups in the record's store: complete or not there, and any change of them is found."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.backup import (
    BackupError,
    Manifest,
    backup_id,
    check,
    drop_unfinished,
    listed,
    load,
    prune,
    put_part,
    save,
)
from infra.backup import __main__ as command
from infra.record.store import Store
from infra.secrets import generators
from tests.unit.backup.conftest import NAME, PLAIN, Backup, made, manifest


def whats(store: Store, backup: Backup, identity: str | None = None) -> list[str]:
    return [problem.what for problem in check(store, backup.manifest, identity or backup.identity)]


def test_a_stored_backup_is_sound_and_is_read_back(store: Store, backup: Backup) -> None:
    backup.store(store)
    assert len(backup.parts) > 10
    assert listed(store) == [NAME]
    assert load(store, NAME) == backup.manifest
    assert whats(store, backup) == []
    assert not any(PLAIN[:20] in path.read_bytes() for path in files(store))


def files(store: Store) -> list[Path]:
    return [path for path in Path(store.url.removeprefix("file://")).rglob("part-*") if path.is_file()]


@pytest.mark.parametrize("number", [0, 5, -1])
def test_a_changed_octet_is_found(store: Store, backup: Backup, number: int) -> None:
    backup.store(store)
    path = sorted(files(store))[number]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = whats(store, backup)
    assert f"backups/{NAME}/{path.name} was changed: its checksum does not fit" in found


def test_a_missing_part_is_found(store: Store, backup: Backup) -> None:
    backup.store(store)
    store.delete(f"backups/{NAME}/part-00003")
    assert f"backups/{NAME}/part-00003 is missing" in whats(store, backup)


def test_every_changed_part_is_named(store: Store, backup: Backup) -> None:
    backup.store(store)
    for path in sorted(files(store)):
        path.write_bytes(b"x" * len(path.read_bytes()))
    found = whats(store, backup)
    assert len([what for what in found if "checksum does not fit" in what]) == len(backup.parts)


def test_an_identity_that_opens_nothing_is_found(store: Store, backup: Backup) -> None:
    backup.store(store)
    (said,) = whats(store, backup, generators.age_identity())
    assert said.startswith("it can't be decrypted")
    assert whats(store, backup, "AGE-SECRET-KEY-1CANARY")[0].startswith("it can't be decrypted")


def test_contents_that_were_not_dumped_are_found(store: Store) -> None:
    other = made(plain_sha256="0" * 64)
    other.store(store)
    assert whats(store, other) == ["what is in it is not what was dumped"]


def test_a_part_that_was_changed_on_its_way_is_not_stored(store: Store, backup: Backup) -> None:
    with pytest.raises(BackupError, match="part 0 was changed on its way"):
        put_part(store, backup.manifest, 0, b"x" * len(backup.parts[0]))
    assert files(store) == []


def test_what_was_copied_before_a_kill_is_copied_again(store: Store, backup: Backup) -> None:
    put_part(store, backup.manifest, 0, backup.parts[0])
    backup.store(store)
    assert whats(store, backup) == []


def test_what_a_kill_left_is_no_backup_and_is_removed(store: Store, backup: Backup) -> None:
    backup.store(store)
    other = made(id="20261121T020000Z-primary")
    put_part(store, other.manifest, 0, other.parts[0])
    assert listed(store) == [NAME]
    assert drop_unfinished(store) == ["20261121T020000Z-primary"]
    assert len(files(store)) == len(backup.parts)
    assert drop_unfinished(store) == []


def test_the_newest_are_kept(store: Store) -> None:
    names = [f"2026112{day}T020000Z-primary" for day in range(4)]
    for name in names:
        made(id=name).store(store)
    assert prune(store, 2) == names[:2]
    assert listed(store) == names[2:]
    assert {path.parent.name for path in files(store)} == set(names[2:])
    assert prune(store, 2) == []


def test_an_unknown_backup_names_those_that_there_are(store: Store, backup: Backup) -> None:
    backup.store(store)
    with pytest.raises(BackupError, match=f"there are: {NAME}"):
        load(store, "20261101T020000Z-primary")
    with pytest.raises(BackupError, match=r"'\.\./state' is not the name of a backup"):
        load(store, "../state")


def test_a_manifest_that_does_not_add_up_is_refused(backup: Backup) -> None:
    raw = manifest(b"".join(backup.parts), backup.manifest.recipient)
    assert Manifest.parse(raw).digest == backup.manifest.digest
    with pytest.raises(BackupError, match="the parts do not add up to the size"):
        Manifest.parse({**raw, "size": 1})
    with pytest.raises(BackupError, match="sha256"):
        Manifest.parse({**raw, "sha256": "none"})


def test_names_sort_by_time() -> None:
    moments = [datetime(2026, 11, 20, hour, tzinfo=UTC) for hour in (2, 13)]
    names = [backup_id(moment, "fra-1") for moment in moments]
    assert names == ["20261120T020000Z-fra-1", "20261120T130000Z-fra-1"] == sorted(names)
    with pytest.raises(ValueError, match="is not the name of a backup"):
        backup_id(moments[0], "../x")


def test_the_command_lists_them_newest_first(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "open_store", lambda _: store)
    assert command.main(["--stack", "local"]) == 0
    assert "stack local has no backup" in capsys.readouterr().out
    for day in (1, 2):
        made(id=f"2026112{day}T020000Z-primary").store(store)
    assert command.main(["--stack", "local"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("20261122T020000Z-primary") < shown.index("20261121T020000Z-primary")
    assert "restored, 1 tables the same" in shown
    assert command.main(["--stack", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_only_the_manifest_makes_a_backup(store: Store, backup: Backup) -> None:
    save(store, backup.manifest)
    assert listed(store) == [NAME]
    assert len(whats(store, backup)) == len(backup.parts) + 1


def test_the_manifest_of_another_backup_is_found(store: Store, backup: Backup) -> None:
    backup.store(store)
    other = "20261119T020000Z-primary"
    store.put_if_absent(f"backups/{other}/manifest.json", backup.manifest.encode())
    with pytest.raises(BackupError, match=f"no backup {other} in .*its manifest is that of {NAME}"):
        load(store, other)


@pytest.mark.parametrize(("name", "value"), [("id", "99991231T000000Z-primary"), ("recipient", "age1other")])
def test_a_host_that_answers_with_another_backup_is_refused(backup: Backup, name: str, value: str) -> None:
    asked = {"id": NAME, "database": backup.manifest.database, "recipient": backup.manifest.recipient}
    raw = backup.manifest.model_dump(mode="json", by_alias=True)
    assert Manifest.answered(raw, **asked) == backup.manifest
    with pytest.raises(BackupError, match=f"a backup whose {name} is not"):
        Manifest.answered({**raw, name: value}, **asked)
