"""A value beside the one in use, promoted and forgotten: killed anywhere, one of the two stands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from infra.record.directory import DirectoryStore
from infra.secrets import generators
from infra.secretstore import MissingSecretError, SecretStoreError, SopsStore, Staged, open_store
from infra.secretstore import store as store_module
from infra.secretstore.redaction import redaction_of
from infra.secretstore.store import OBJECT
from tests.integration.secretstore.conftest import STACK

NAME = "openai-api-key"
OLD, NEW, OTHER = "sk-proj-the-old-one", "sk-proj-the-new-one", "sk-proj-another-one"
STAGED = Staged(NEW, "key_2")


class Clock:
    """Moments that the store writes down, a day apart."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def tick(self) -> None:
        self.now += timedelta(days=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(store_module, "_now", lambda: clock.now.isoformat(timespec="seconds"))
    yield clock


@pytest.fixture
def held(store: SopsStore, clock: Clock) -> SopsStore:
    store.put(NAME, OLD, by="alice")
    clock.tick()
    return store


def anew(directory: DirectoryStore) -> SopsStore:
    """The store as another process opens it."""
    return open_store({}, STACK, record=directory)


def test_a_staged_value_is_not_in_use(held: SopsStore, directory: DirectoryStore) -> None:
    held.stage(NAME, STAGED, by="bob")
    found = anew(directory)
    assert (found.get(NAME), found.next(NAME), found.previous(NAME)) == (OLD, STAGED, None)
    entry = found.entries()[NAME]
    assert (entry.by, entry.issued, entry.next, entry.previous) == ("alice", None, "key_2", None)


def test_a_promoted_one_is_as_old_as_itself_and_the_former_stays(
    held: SopsStore, directory: DirectoryStore, clock: Clock
) -> None:
    held.stage(NAME, STAGED, by="bob")
    staged_at = clock.now
    clock.tick()
    held.promote({NAME: "key_2"})
    found = anew(directory)
    assert (found.get(NAME), found.next(NAME), found.previous(NAME)) == (NEW, None, Staged(OLD, ""))
    entry = found.entries()[NAME]
    assert (entry.created_at, entry.by, entry.issued) == (staged_at, "bob", "key_2")
    held.forget(NAME)
    assert anew(directory).previous(NAME) is None
    assert OLD not in str(anew(directory).values())


def test_the_former_keeps_the_name_that_its_issuer_gave_it(held: SopsStore) -> None:
    for value, issued in ((NEW, "key_2"), (OTHER, "key_3")):
        held.stage(NAME, Staged(value, issued), by="bob")
        held.promote({NAME: issued})
        previous, entry = held.previous(NAME), held.entries()[NAME]
        held.forget(NAME)
    assert previous == STAGED
    assert (entry.issued, entry.previous) == ("key_3", "key_2")


def test_each_step_again_writes_nothing(held: SopsStore) -> None:
    steps: list[Callable[[], None]] = [
        lambda: held.stage(NAME, STAGED, by="bob"),
        lambda: held.promote({NAME: "key_2"}),
        lambda: held.forget(NAME),
        lambda: held.unstage(NAME),
    ]
    for step in steps:
        step()
        version = held.version()
        step()
        assert held.version() == version
    assert held.get(NAME) == NEW


def test_what_was_staged_can_be_dropped(held: SopsStore) -> None:
    held.stage(NAME, STAGED, by="bob")
    held.unstage(NAME)
    assert (held.get(NAME), held.next(NAME)) == (OLD, None)
    with pytest.raises(SecretStoreError, match="key_2 is not the value of openai-api-key that is staged"):
        held.promote({NAME: "key_2"})
    assert held.get(NAME) == OLD


def test_several_are_promoted_together_or_none(held: SopsStore) -> None:
    held.put("metrics-token", "old-metrics", by="alice")
    held.stage(NAME, STAGED, by="bob")
    with pytest.raises(SecretStoreError, match="of metrics-token that is staged"):
        held.promote({NAME: "key_2", "metrics-token": "m_2"})
    assert held.get(NAME) == OLD
    held.stage("metrics-token", Staged("new-metrics", "m_2"), by="bob")
    held.promote({NAME: "key_2", "metrics-token": "m_2"})
    assert held.get_many([NAME, "metrics-token"]) == {NAME: NEW, "metrics-token": "new-metrics"}


def test_nothing_takes_the_place_of_what_is_being_rotated(held: SopsStore) -> None:
    held.stage(NAME, STAGED, by="bob")
    writes: list[Callable[[], None]] = [
        lambda: held.put(NAME, OTHER, by="carol"),
        lambda: held.stage(NAME, Staged(OTHER, "key_3"), by="carol"),
    ]
    for refused in writes:
        with pytest.raises(SecretStoreError, match=r"is being rotated; .* -e secret=openai-api-key"):
            refused()
    held.promote({NAME: "key_2"})
    with pytest.raises(SecretStoreError, match="is being rotated"):
        held.stage(NAME, Staged(OTHER, "key_3"), by="carol")
    # Set again to what it is: how a file is encrypted for others, also in the middle.
    held.put(NAME, NEW, by="carol")
    assert held.previous(NAME) == Staged(OLD, "")


def test_writers_of_other_secrets_lose_nothing(held: SopsStore, directory: DirectoryStore) -> None:
    held.stage(NAME, STAGED, by="bob")
    steps = [
        lambda: anew(directory).promote({NAME: "key_2"}),
        *(
            lambda name=name: anew(directory).put(name, f"value of {name}", by="dave")
            for name in ("redis-password", "vercel-token", "otlp-token")
        ),
    ]
    threads = [threading.Thread(target=step) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = anew(directory)
    assert (found.get(NAME), found.previous(NAME)) == (NEW, Staged(OLD, ""))
    assert found.get("otlp-token") == "value of otlp-token"


@pytest.mark.parametrize("step", ["stage", "promote", "forget"])
def test_a_writer_that_is_killed_at_the_write_has_changed_nothing(
    held: SopsStore, directory: DirectoryStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    steps: dict[str, Callable[[SopsStore], None]] = {
        "stage": lambda store: store.stage(NAME, STAGED, by="bob"),
        "promote": lambda store: store.promote({NAME: "key_2"}),
        "forget": lambda store: store.forget(NAME),
    }
    for name, take in steps.items():
        if name == step:
            break
        take(held)
    before = anew(directory).values()

    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStore, "put_if_match", killed)
        with pytest.raises(KilledError):
            steps[step](anew(directory))
    assert anew(directory).values() == before
    steps[step](anew(directory))
    assert anew(directory).values() != before


def test_only_names_stand_in_clear(held: SopsStore, directory: DirectoryStore) -> None:
    for promoted in (False, True):
        if promoted:
            held.promote({NAME: "key_2"})
        else:
            held.stage(NAME, STAGED, by="bob")
        data = directory.get(OBJECT).data
        assert OLD.encode() not in data
        assert NEW.encode() not in data
        item = yaml.safe_load(data)["secrets"][NAME]
        other = item["previous" if promoted else "next"]
        assert item["value"].startswith("ENC[")
        assert other["value"].startswith("ENC[")
    assert item["issued"] == "key_2"


def test_values_before_and_after_are_taken_out_of_texts_too(held: SopsStore) -> None:
    held.stage(NAME, STAGED, by="bob")
    said = f"refused {OLD}, {NEW}"
    assert redaction_of(held)(said) == f"refused (secret {NAME}), (secret {NAME})"
    held.promote({NAME: "key_2"})
    assert redaction_of(held)(said) == f"refused (secret {NAME}), (secret {NAME})"


def test_public_parts_follow_what_is_promoted(store: SopsStore) -> None:
    old, new = generators.ssh_key(), generators.ssh_key()
    store.put("operator-ssh-key", old, by="alice")
    store.stage("operator-ssh-key", Staged(new, "2"), by="bob")
    assert store.public("operator-ssh-key.pub") == generators.ssh_public_key(old) + "\n"
    store.promote({"operator-ssh-key": "2"})
    assert store.public("operator-ssh-key.pub") == generators.ssh_public_key(new) + "\n"


def test_a_value_that_can_not_be_right_is_not_staged(held: SopsStore) -> None:
    with pytest.raises(SecretStoreError, match="the value of openai-api-key is empty"):
        held.stage(NAME, Staged(" ", "key_2"), by="bob")
    with pytest.raises(MissingSecretError, match="vercel-token"):
        held.stage("vercel-token", STAGED, by="bob")
    assert held.next(NAME) is None
