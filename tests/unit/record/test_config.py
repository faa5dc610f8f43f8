"""Configuration of a record: what is accepted, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.record import ConfigError, RecordConfig, StoreUnavailableError, open_store
from infra.record.objects import ObjectStoreDriver


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "url: Field required"),
        ({"url": "ftp://host/path"}, "one of file://, s3://, gs://, az://"),
        ({"url": "file://relative/path"}, "file:///absolute/path or file://~/path"),
        ({"url": "file:///"}, "file:///absolute/path or file://~/path"),
        ({"url": "s3:///prefix"}, "must name a bucket"),
        ({"url": "s3://bucket/p", "endpoint": "host:9000"}, "endpoint: not such a URL"),
        ({"url": "gs://bucket/p", "endpoint": "https://host"}, "endpoint: is for s3:// only"),
        ({"url": "file:///path", "region": "fra1"}, "region: is for object stores only"),
        ({"url": "s3://bucket/p", "endpoint": "http://store.example.com"}, "endpoint: not such a URL"),
        ({"url": "s3://bucket/p", "ca": "none"}, "ca: not a certificate"),
        ({"url": "file:///a b"}, "letters, digits and . _ / ~ + - only"),
        ({"url": "s3://bucket/p", "bucket": "x"}, "bucket: Extra inputs are not permitted"),
    ],
)
def test_refuses(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(given)
    assert said in str(caught.value)


@pytest.mark.parametrize("url", ["s3://key:hunter2@bucket/p", "s3://bucket/p?secret=hunter2"])
def test_refuses_credentials_in_the_url_without_repeating_them(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store({"url": url})
    assert "credentials come from the environment" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_opens_a_directory_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    store = open_store({"url": "file://~/state/record", "endpoint": None, "region": None})

    store.put_if_absent("key", b"x")

    assert (tmp_path / "state/record/key").read_bytes() == b"x"


def test_an_unreachable_store_is_named_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.record.objects._FIRST_PAUSE", 0.001)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDHUNTER1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    store = open_store(
        RecordConfig(url="s3://bucket/prefix", endpoint="http://127.0.0.1:1", region="us-east-1")
    )

    with pytest.raises(StoreUnavailableError) as caught:
        store.get("key")

    message = str(caught.value)
    assert message.startswith("store s3://bucket/prefix is not available: ")
    assert "Connection refused" in message
    assert "HUNTER" not in message.upper()
    assert "\n" not in message


def test_object_stores_of_other_clouds_open() -> None:
    assert isinstance(open_store({"url": "gs://bucket/record"}), ObjectStoreDriver)
