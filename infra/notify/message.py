"""A message, and how it is written for an incoming webhook in Slack's format."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from infra.record.model import Model, Text, Utc
from infra.secrets.catalogue import Channel
from infra.secretstore.redaction import Redact

_URL = re.compile(r"https?://[^\s<>|]{1,500}")
_LONGEST_TITLE = 150
_LONGEST_TEXT = 2900
_LONGEST_FIELD = 1900
_FIELDS_A_BLOCK = 10


class Message(Model):
    """What people are told; `facts` and `links` in the order in which they are shown, links text to URL."""

    id: str = Field(pattern=r"^[a-z0-9-]{8,80}$")
    channel: Channel
    title: Text
    facts: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    text: str = ""
    at: Utc
    by: str
    operation_id: str | None = None

    def redacted(self, redact: Redact) -> Message:
        """The same without values of secrets."""
        return self.model_copy(
            update={
                "title": redact(self.title),
                "facts": tuple((redact(name), redact(value)) for name, value in self.facts),
                "links": tuple((redact(name), redact(url)) for name, url in self.links),
                "text": redact(self.text),
                "by": redact(self.by),
            }
        )

    def bare(self, why: str) -> Message:
        """The title only, and why there is no more."""
        return self.model_copy(update={"facts": (), "links": (), "text": why})

    def payload(self) -> dict[str, Any]:
        """JSON for the webhook: blocks, and a text for what shows no blocks."""
        return {"text": self._plain(), "blocks": list(self._blocks())}

    def _plain(self) -> str:
        facts = "; ".join(f"{name}: {value}" for name, value in self.facts)
        return _cut(_escaped(f"{self.title} ({facts})" if facts else self.title), _LONGEST_TEXT)

    def _blocks(self) -> Iterator[dict[str, Any]]:
        yield {
            "type": "header",
            "text": {"type": "plain_text", "text": _cut(self.title, _LONGEST_TITLE), "emoji": False},
        }
        fields = [
            {"type": "mrkdwn", "text": _cut(f"*{_escaped(name)}*\n{_escaped(value)}", _LONGEST_FIELD)}
            for name, value in self.facts
        ]
        for start in range(0, len(fields), _FIELDS_A_BLOCK):
            yield {"type": "section", "fields": fields[start : start + _FIELDS_A_BLOCK]}
        if self.text:
            yield _section(_cut(_escaped(self.text), _LONGEST_TEXT))
        if self.links:
            yield _section(_cut(" | ".join(_link(name, url) for name, url in self.links), _LONGEST_TEXT))
        yield {
            "type": "context",
            "elements": [{"type": "mrkdwn", "text": f"{_escaped(self.by)}, {self.at:%Y-%m-%d %H:%M:%S} UTC"}],
        }


def message_id(*parts: str) -> str:
    """The same id for the same parts: a message of a step that runs again is queued once."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def texts(mapping: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """Names and values as texts; what has no value is left out."""
    return tuple((str(name), _said(value)) for name, value in (mapping or {}).items() if _said(value))


def _said(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_said(item)}" for name, item in value.items())
    return str(value)


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _link(name: str, url: str) -> str:
    """A link; what is none is text, so that it can't end the markup that it stands in."""
    return f"<{url}|{_escaped(name)}>" if _URL.fullmatch(url) else f"{_escaped(name)}: {_escaped(url)}"


def _escaped(text: str) -> str:
    """As Slack wants control characters of its markup written."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
