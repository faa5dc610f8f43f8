"""Configuration of the program that runs, as Pulumi hands it over."""

from __future__ import annotations

from pulumi.runtime.config import get_config_env, get_config_secret_keys_env

from infra.config.load import load_runtime
from infra.config.model import Stack


def runtime_stack(stack: str) -> Stack:
    """Typed configuration of this run; raises ConfigurationError."""
    return load_runtime(stack, get_config_env(), get_config_secret_keys_env())
