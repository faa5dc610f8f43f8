"""The contract that both drivers honour."""

from __future__ import annotations

import threading

import pytest

from infra.record import ConflictError, NotFoundError, Store


def test_reads_what_was_created(store: Store) -> None:
    version = store.put_if_absent("folder/key.json", b"\x00data\n")

    found = store.get("folder/key.json")

    assert found.data == b"\x00data\n"
    assert found.version == version


def test_creates_once(store: Store) -> None:
    store.put_if_absent("key", b"first")

    with pytest.raises(ConflictError, match="key exists already in"):
        store.put_if_absent("key", b"second")

    assert store.get("key").data == b"first"


def test_replaces_the_version_that_was_read_and_no_other(store: Store) -> None:
    first = store.put_if_absent("key", b"first")
    second = store.put_if_match("key", b"second", first)

    with pytest.raises(ConflictError, match="no longer the version that was read"):
        store.put_if_match("key", b"third", first)

    assert store.get("key").data == b"second"
    store.put_if_match("key", b"third", second)
    assert store.get("key").data == b"third"


def test_does_not_replace_what_is_not_there(store: Store) -> None:
    version = store.put_if_absent("key", b"first")

    with pytest.raises(ConflictError):
        store.put_if_match("other", b"second", version)

    with pytest.raises(NotFoundError, match="has no object other"):
        store.get("other")


def test_removes_one_object_and_that_it_is_gone_already_is_no_error(store: Store) -> None:
    for key in ("folder/a", "folder/b"):
        store.put_if_absent(key, b"x")

    store.delete("folder/a")
    store.delete("folder/a")
    store.delete("nowhere/a")

    assert store.list("") == ["folder/b"]
    store.put_if_absent("folder/a", b"again")
    assert store.get("folder/a").data == b"again"


def test_lists_a_folder_sorted_and_nothing_beside_it(store: Store) -> None:
    for key in ("events/2", "events/1", "events2/1", "state"):
        store.put_if_absent(key, b"x")

    assert store.list("events") == ["events/1", "events/2"]
    assert store.list("nothing") == []
    assert store.list("") == ["events/1", "events/2", "events2/1", "state"]


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a/.b", "a b", "a\n"])
def test_refuses_keys_that_are_no_plain_paths(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        store.get(key)
    with pytest.raises(ValueError, match="is not a key"):
        store.put_if_absent(key, b"x")


def test_one_of_many_threads_wins(store: Store) -> None:
    version = store.put_if_absent("key", b"start")
    barrier, won = threading.Barrier(8), []

    def race(number: int) -> None:
        barrier.wait()
        try:
            store.put_if_match("key", str(number).encode(), version)
        except ConflictError:
            return
        won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert store.get("key").data == str(won[0]).encode()
