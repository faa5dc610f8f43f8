"""The SOPS driver, with the real `sops`."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from infra.record import NotFoundError
from infra.record.directory import DirectoryStore
from infra.secrets import generators
from infra.secretstore import (
    IdentityError,
    MissingSecretError,
    SecretConfigError,
    SecretStoreError,
    SopsStore,
    TamperedError,
    ToolError,
    UnknownSecretError,
    open_store,
    sops,
)
from infra.secretstore.store import OBJECT

STACK = "production"
CANARY = "c4n4ry-Va1ue-0f-a-s3cret"


def rewrite(directory: DirectoryStore, old: str, new: str) -> None:
    stored = directory.get(OBJECT)
    assert old.encode() in stored.data
    directory.put_if_match(OBJECT, stored.data.replace(old.encode(), new.encode(), 1), stored.version)


def test_keeps_values_of_every_kind(store: SopsStore, directory: DirectoryStore) -> None:
    values = {
        "redis-password": CANARY,
        "metrics-token": "two\nlines: 'yes' \"no\" #\n",
        "vercel-token": "0123",
        "openai-api-key": "ünïcödé ${secret:redis-password}",
    }
    store.put_many(values, by="alice")

    assert open_store({}, STACK, record=directory).get_many(values) == values


def test_shows_who_and_when_without_an_identity(
    store: SopsStore, directory: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("redis-password", CANARY, by="alice")
    monkeypatch.delenv("SOPS_AGE_KEY_FILE")

    entry = open_store({}, STACK, record=directory).entries()["redis-password"]

    assert entry.by == "alice"
    assert datetime.now(UTC) - entry.created_at < timedelta(minutes=1)
    assert CANARY.encode() not in directory.get(OBJECT).data


def test_resolves_a_text(store: SopsStore) -> None:
    store.put_many({"redis-password": "one", "otlp-token": "two"}, by="alice")

    assert store.resolve("a ${secret:redis-password} b ${secret:otlp-token}") == "a one b two"
    assert store.resolve("none") == "none"


def test_names_all_that_is_missing_and_how_to_set_it(store: SopsStore) -> None:
    store.put("redis-password", CANARY, by="alice")

    with pytest.raises(MissingSecretError) as caught:
        store.get_many(["otlp-token", "redis-password", "slack-token"])

    message = str(caught.value)
    assert message.startswith(f"no value in {store.where} for: otlp-token, slack-token")
    assert "python -m infra.secretstore set slack-token --stack production < FILE" in message
    assert "from Slack, app settings" in message
    assert CANARY not in message


def test_refuses_names_that_are_not_in_the_catalogue(store: SopsStore) -> None:
    with pytest.raises(UnknownSecretError, match="did you mean redis-password"):
        store.get("redis-pasword")
    with pytest.raises(UnknownSecretError):
        store.put("redis-pasword", CANARY, by="alice")


def test_refuses_values_that_can_not_be_right(store: SopsStore) -> None:
    with pytest.raises(SecretStoreError, match="the value of redis-password is empty"):
        store.put("redis-password", " \n", by="alice")
    with pytest.raises(SecretStoreError, match="is not what it must be: SSH key") as caught:
        store.put("operator-ssh-key", CANARY, by="alice")
    assert CANARY not in str(caught.value)
    assert store.version() is None


def test_writes_the_public_part_with_the_secret(store: SopsStore, directory: DirectoryStore) -> None:
    with pytest.raises(MissingSecretError, match=r"has no public object operator-ssh-key\.pub"):
        store.public("operator-ssh-key.pub")
    for _ in range(2):
        key = generators.ssh_key()
        store.put("operator-ssh-key", key, by="alice")
        assert store.public("operator-ssh-key.pub") == generators.ssh_public_key(key) + "\n"


def test_two_writers_lose_nothing(store: SopsStore, directory: DirectoryStore) -> None:
    names = ["redis-password", "metrics-token", "otlp-token", "vercel-token"]

    def write(name: str) -> None:
        open_store({}, STACK, record=directory).put(name, f"value of {name}", by=name)

    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.get_many(names) == {name: f"value of {name}" for name in names}


def test_generates_only_what_is_absent(store: SopsStore) -> None:
    store.put("redis-password", "kept", by="alice")

    made = store.put_absent({"redis-password": lambda: "new", "otlp-token": lambda: "made"}, by="bob")

    assert made == ["otlp-token"]
    assert store.get_many(["redis-password", "otlp-token"]) == {
        "redis-password": "kept",
        "otlp-token": "made",
    }
    version = store.version()
    assert store.put_absent({"otlp-token": lambda: "new"}, by="bob") == []
    assert store.version() == version


def test_sees_what_others_wrote_meanwhile(store: SopsStore, directory: DirectoryStore) -> None:
    store.put("redis-password", "one", by="alice")
    assert store.get("redis-password") == "one"
    open_store({}, STACK, record=directory).put("redis-password", "two", by="bob")

    assert store.get("redis-password") == "two"


def test_without_an_identity_it_says_where_it_looked(
    store: SopsStore, directory: DirectoryStore, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    store.put("redis-password", CANARY, by="alice")
    monkeypatch.delenv("SOPS_AGE_KEY_FILE")

    with pytest.raises(IdentityError) as caught:
        open_store({}, STACK, record=directory).get("redis-password")

    for place in ("SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", f"{home}/.config/sops/age/keys.txt"):
        assert place in str(caught.value)


def test_a_wrong_or_broken_identity_is_named(
    store: SopsStore, directory: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("redis-password", CANARY, by="alice")
    other = tmp_path / "other"
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(other))
    with pytest.raises(IdentityError, match="other"):
        open_store({}, STACK, record=directory).get("redis-password")
    other.write_text(sops.new_identity()[0])

    with pytest.raises(IdentityError, match=r"other is none of the file's recipients"):
        open_store({}, STACK, record=directory).get("redis-password")
    other.write_text("AGE-SECRET-KEY-1NONSENSE\n")
    with pytest.raises(IdentityError, match="not a valid X25519 identity") as caught:
        open_store({}, STACK, record=DirectoryStore(tmp_path / "new")).put("redis-password", "x", by="bob")
    assert "NONSENSE" not in str(caught.value)


def test_an_identity_may_come_in_the_environment(
    store: SopsStore, directory: DirectoryStore, identity: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("redis-password", CANARY, by="alice")
    monkeypatch.setenv("SOPS_AGE_KEY", identity.read_text())
    monkeypatch.delenv("SOPS_AGE_KEY_FILE")

    assert open_store({}, STACK, record=directory).get("redis-password") == CANARY


def test_writes_for_the_recipients_that_are_configured_and_keeps_them(
    directory: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [sops.new_identity() for _ in range(2)]
    recipients = [recipient for _, recipient in texts]
    files = []
    for number, (text, _) in enumerate(texts):
        files.append(tmp_path / f"identity-{number}")
        files[-1].write_text(text)
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(files[0]))
    open_store({"recipients": recipients}, STACK, record=directory).put("redis-password", "one", by="alice")
    open_store({}, STACK, record=directory).put("otlp-token", "two", by="alice")

    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(files[1]))

    assert open_store({}, STACK, record=directory).get("otlp-token") == "two"


def test_makes_no_file_that_its_maker_could_not_read(identity: Path, directory: DirectoryStore) -> None:
    others = open_store({"recipients": [sops.new_identity()[1]]}, STACK, record=directory)

    with pytest.raises(IdentityError, match=r"identity is none of icupa:secretstore\.recipients: .* age1"):
        others.put("redis-password", "one", by="alice")

    with pytest.raises(NotFoundError):
        directory.get(OBJECT)


def test_one_of_several_identities_may_be_the_reader(identity: Path, directory: DirectoryStore) -> None:
    text, recipient = sops.new_identity()
    identity.write_text(identity.read_text() + text)

    open_store({"recipients": [recipient]}, STACK, record=directory).put("redis-password", "one", by="alice")

    assert open_store({}, STACK, record=directory).get("redis-password") == "one"


@pytest.mark.parametrize("old", ["by: alice", "ENC[AES256_GCM,data:"])
def test_finds_a_tampered_file(store: SopsStore, directory: DirectoryStore, old: str) -> None:
    store.put("redis-password", CANARY, by="alice")
    rewrite(directory, old, "by: mallory" if old.startswith("by") else "ENC[AES256_GCM,data:QUJD")

    with pytest.raises(TamperedError, match=r"secrets\.sops\.yaml: the file was changed by something else"):
        open_store({}, STACK, record=directory).get("redis-password")


def test_writes_nothing_for_a_recipient_who_was_smuggled_in(
    store: SopsStore, directory: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("redis-password", "one", by="alice")
    text, mallory = sops.new_identity()
    stored = directory.get(OBJECT)
    document = yaml.safe_load(stored.data)
    (alice,) = document["sops"]["age"]
    document["sops"]["age"].append({**alice, "recipient": mallory})
    # In their order: the authentication code is over it.
    smuggled = yaml.safe_dump(document, sort_keys=False)
    directory.put_if_match(OBJECT, smuggled.encode(), stored.version)

    again = open_store({}, STACK, record=directory)
    with pytest.raises(
        TamperedError, match=r"list of recipients was changed .* icupa:secretstore.recipients"
    ):
        again.put("otlp-token", CANARY, by="alice")
    configured = open_store({"recipients": [alice["recipient"]]}, STACK, record=directory)
    configured.put("otlp-token", CANARY, by="alice")
    (tmp_path / "mallory").write_text(text)
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(tmp_path / "mallory"))
    with pytest.raises(IdentityError):
        open_store({}, STACK, record=directory).get("otlp-token")


def test_recipients_may_not_be_smuggled_in_by_their_own_list_either(
    store: SopsStore, directory: DirectoryStore
) -> None:
    store.put("redis-password", "one", by="alice")
    rewrite(directory, "recipients:\n    - age1", "recipients:\n    - age2")

    with pytest.raises(TamperedError, match="the file was changed by something else"):
        store.put("otlp-token", CANARY, by="alice")


def test_finds_values_that_changed_places(store: SopsStore, directory: DirectoryStore) -> None:
    store.put_many({"redis-password": "one", "metrics-token": "two"}, by="alice")
    stored = directory.get(OBJECT)
    document = yaml.safe_load(stored.data)
    secrets = document["secrets"]
    first, second = secrets["redis-password"]["value"], secrets["metrics-token"]["value"]
    secrets["redis-password"]["value"], secrets["metrics-token"]["value"] = second, first
    directory.put_if_match(OBJECT, yaml.safe_dump(document).encode(), stored.version)

    with pytest.raises(TamperedError):
        open_store({}, STACK, record=directory).get("redis-password")


def test_a_file_that_is_none_of_sops_is_refused(store: SopsStore, directory: DirectoryStore) -> None:
    directory.put_if_absent(OBJECT, b"secrets: {redis-password: {value: clear}}\n")

    with pytest.raises(TamperedError, match="is not a file of SOPS"):
        store.entries()
    with pytest.raises(TamperedError):
        store.get("redis-password")
    with pytest.raises(TamperedError):
        store.put("redis-password", CANARY, by="alice")


def test_says_that_sops_is_missing(store: SopsStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ToolError, match=r"sops is not on PATH; python -m infra\.toolchain ensure"):
        store.put("redis-password", CANARY, by="alice")


def test_refuses_a_configuration_that_it_does_not_know(home: Path) -> None:
    with pytest.raises(SecretConfigError, match=r"driver: Input should be 'sops'"):
        open_store({"driver": "vault"}, STACK)
    with pytest.raises(SecretConfigError, match="needs the record that holds its secrets"):
        open_store({}, STACK)
    assert open_store({}, "local").where == f"file://{home}/.local/state/icupa/local/record/{OBJECT}"
