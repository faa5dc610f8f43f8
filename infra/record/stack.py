"""The record of a stack, found by the stack's name, for commands."""

from __future__ import annotations

from infra.config.load import ConfigurationError, load_file
from infra.record.config import RecordConfig
from infra.record.errors import ConfigError


def stack_record(stack: str) -> RecordConfig:
    """The record that a stack's file names.

    Raises:
        ConfigError: there is no such stack, or its file is refused.
    """
    try:
        found = load_file(stack).record
    except ConfigurationError as error:
        raise ConfigError(str(error)) from error
    return RecordConfig(url=str(found.url), endpoint=found.endpoint, region=found.region)
