"""Runs part of the program against mocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pulumi
from pulumi.runtime import Mocks, set_mocks


def run_program(mocks: Mocks, program: Callable[[], Any], *, stack: str, preview: bool) -> None:
    """Run `program` and await everything that it registers and returns.

    It gets an event loop of its own: Pulumi takes the thread's, and what ran before may have left none.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        set_mocks(mocks, project="icupa", stack=stack, preview=preview)
        awaited: Callable[[Callable[[], Any]], Callable[[], Any]] = pulumi.runtime.test
        awaited(program)()
    finally:
        asyncio.set_event_loop(None)
        loop.close()
