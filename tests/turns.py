"""Tenants who talk to the running local stack: each group at a steady pace, below the callers' limits."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from infra.outputs.read import read_outputs
from infra.smoke.checks import Smoke
from infra.smoke.target import find_target
from infra.world import login
from tests.running import STACK
from tests.waiting import eventually

PAUSE_SECONDS = 0.7
"""Between two turns of one caller: 85 a minute of the 120 that it may have."""


@dataclass
class Talk:
    """What the tenants were answered: status by tenant group, and what went wrong on the way."""

    answers: dict[str, Counter[int]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """When, to whom and with which words an answer was no 200."""

    def total(self) -> int:
        """Answers of any kind."""
        return sum(answers.total() for answers in self.answers.values())

    def failures(self) -> list[str]:
        """Answers that are no 200, with their words, and requests without an answer."""
        return self.refused + self.broken


def smoke() -> Smoke:
    """The stack as its users see it."""
    return Smoke(find_target(read_outputs(STACK), STACK))


def program(seen: Smoke, name: str) -> httpx.Client:
    """A client of the service with a token of its own."""
    return seen.client(headers={"Authorization": f"Bearer {seen.token(name)}"})


@contextmanager
def talking(groups: Sequence[str] = tuple(login.TENANT_CLIENTS)) -> Iterator[Talk]:
    """Let the callers of some groups talk while the block runs."""
    talk = Talk({group: Counter() for group in groups})
    seen, over = smoke(), threading.Event()

    def converse(group: str, name: str) -> None:
        with program(seen, name) as client:
            opened = client.post("/api/agents/sessions").raise_for_status()
            path = f"/api/agents/sessions/{opened.json()['id']}/messages"
            while not over.wait(PAUSE_SECONDS):
                try:
                    answer = client.post(path, json={"message": "What is good today?"})
                except httpx.HTTPError as error:
                    talk.broken.append(f"{datetime.now(UTC)} {group} {type(error).__name__}")
                else:
                    talk.answers[group][answer.status_code] += 1
                    if answer.status_code != httpx.codes.OK:
                        said = f"{answer.status_code} {answer.text[:200]}"
                        talk.refused.append(f"{datetime.now(UTC)} {group} {said}")

    threads = [
        threading.Thread(target=converse, args=(group, name), daemon=True)
        for group in groups
        for name in login.TENANT_CLIENTS[group]
    ]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: all(talk.answers[group] for group in groups), "everybody talks", 30)
        yield talk
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
