"""Where a record is, as stack files and stack outputs say it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from infra.record.directory import DirectoryStore
from infra.record.errors import ConfigError
from infra.record.objects import ObjectStoreDriver
from infra.record.store import Store

DIRECTORY_SCHEME = "file"
OBJECT_SCHEMES = ("s3", "gs", "az")


class RecordConfig(BaseModel):
    """The store: `file:///path` (also `file://~/path`), or bucket and prefix by `s3://`, `gs://`, `az://`.

    Credentials are not part of it: they come from the provider's ordinary environment variables.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    endpoint: str | None = None
    """Of an S3-compatible store that is not AWS: `https://host[:port]`."""
    region: str | None = None
    ca: str | None = None
    """PEM certificates to trust besides the system's, for a store with a private CA."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in (DIRECTORY_SCHEME, *OBJECT_SCHEMES):
            accepted = ", ".join(f"{scheme}://" for scheme in (DIRECTORY_SCHEME, *OBJECT_SCHEMES))
            raise ValueError(f"url must start with one of {accepted}")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "url must hold no user, password, query or fragment: credentials come from the environment"
            )
        if parts.scheme == DIRECTORY_SCHEME:
            if parts.netloc not in ("", "~") or not parts.path.strip("/"):
                raise ValueError("a file URL must be file:///absolute/path or file://~/path")
            if self.endpoint or self.region or self.ca:
                raise ValueError("endpoint, region and ca are for object stores only")
        elif not parts.netloc:
            raise ValueError("url must name a bucket")
        if self.endpoint and (
            urlsplit(self.endpoint).scheme not in ("http", "https")
            or not urlsplit(self.endpoint).hostname
            or "@" in self.endpoint
        ):
            raise ValueError("endpoint must be http(s)://host[:port] without credentials")
        if (self.endpoint or self.region) and parts.scheme != "s3":
            raise ValueError("endpoint and region are for s3:// only")
        return self


def parse_config(config: RecordConfig | Mapping[str, Any]) -> RecordConfig:
    """Check a mapping such as the stack's output `record`; `ConfigError` names every wrong key."""
    if isinstance(config, RecordConfig):
        return config
    try:
        return RecordConfig.model_validate(dict(config))
    except ValidationError as error:
        details = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'record'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ConfigError(f"record: {details}") from None


def open_store(config: RecordConfig | Mapping[str, Any]) -> Store:
    """Open the store that a configuration names; nothing is read or written yet."""
    checked = parse_config(config)
    parts = urlsplit(checked.url)
    if parts.scheme == DIRECTORY_SCHEME:
        path = Path(unquote(parts.path))
        return DirectoryStore(Path.home() / str(path).lstrip("/") if parts.netloc == "~" else path)
    return ObjectStoreDriver(checked.url, endpoint=checked.endpoint, region=checked.region, ca=checked.ca)
