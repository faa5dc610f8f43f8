"""Opens the store that a stack file or a stack's outputs name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from infra.config.model import RecordConfig
from infra.config.types import DIRECTORY_SCHEME
from infra.record.directory import DirectoryStore
from infra.record.errors import ConfigError
from infra.record.objects import ObjectStoreDriver
from infra.record.store import Store


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
