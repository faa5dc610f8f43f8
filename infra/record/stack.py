"""A stack by its name, for commands."""

from __future__ import annotations

from infra.config.load import ConfigurationError, load_file
from infra.config.model import Stack
from infra.record.errors import ConfigError


def load_stack(name: str) -> Stack:
    """Typed configuration of a stack.

    Raises:
        ConfigError: there is no such stack, or its file is refused.
    """
    try:
        return load_file(name)
    except ConfigurationError as error:
        raise ConfigError(str(error)) from error
