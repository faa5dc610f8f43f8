"""Delivery of what is queued: once over everything, or again and again until the queue is empty."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_delay, wait_exponential_jitter

from infra.notify.outbox import Outbox, Queued
from infra.record import RecordError
from infra.secrets.catalogue import Channel
from infra.secretstore import SecretStoreError
from infra.smoke.client import UnknownNameError

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
LONGEST_PAUSE = 30.0
_FIRST_PAUSE = 1.0
_LOOK = 2.0
_LONGEST_PROBLEM = 160
_TOO_MANY = 429
_MAY_PASS = (408, 425, _TOO_MANY)

_log = logging.getLogger(__name__)

Webhook = Callable[[Channel], str]
"""URL of a channel's webhook; SecretStoreError where it can't be had."""

Client = Callable[[], httpx.Client]


@dataclass
class Round:
    """What one pass over the queue did; ids of messages. `pause`: seconds that a webhook asked for."""

    sent: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    pause: float = 0.0


@dataclass(frozen=True)
class _Failure:
    problem: str
    refused: bool = False
    pause: float = 0.0


class Deliverer:
    """Sends what is queued. A message never overtakes an earlier one of its channel."""

    def __init__(self, outbox: Outbox, webhook: Webhook, client: Client) -> None:
        self._outbox = outbox
        self._webhook = webhook
        self._client = client
        self._pause = 0.0
        self._known: set[str] = set()

    def once(self, *, refused: bool = False) -> Round:
        """Try every message once; with `refused`, also those that were refused before."""
        done = Round()
        held: set[Channel] = set()
        entries = self._outbox.entries()
        if not entries:
            return done
        with self._client() as client:
            for queued in entries:
                message = queued.entry.message
                if queued.entry.refused and not refused:
                    done.refused.append(message.id)
                    continue
                claimed = None if message.channel in held else self._outbox.claim(queued)
                if claimed is None:
                    if message.channel in held or self._outbox.holds(message.id):
                        held.add(message.channel)
                        done.waiting.append(message.id)
                    continue
                failure = self._send(client, claimed)
                if failure is None:
                    self._outbox.delivered(claimed)
                    done.sent.append(message.id)
                    _log.info("%s delivered to #%s: %s", message.id, message.channel, message.title)
                    continue
                self._outbox.give_back(claimed, failure.problem, refused=failure.refused)
                _log.warning("%s not delivered to #%s: %s", message.id, message.channel, failure.problem)
                done.pause = max(done.pause, failure.pause)
                if failure.refused:
                    done.refused.append(message.id)
                else:
                    held.add(message.channel)
                    done.waiting.append(message.id)
        return done

    def until_empty(self, limit: float) -> bool:
        """Try until nothing waits any more, at most `limit` seconds; whether that is so."""
        backoff = wait_exponential_jitter(multiplier=_FIRST_PAUSE, max=LONGEST_PAUSE, jitter=_FIRST_PAUSE)

        def pause(state: RetryCallState) -> float:
            return max(backoff(state), self._pause)

        retrying = Retrying(
            retry=retry_if_result(lambda left: left),
            wait=pause,
            stop=stop_after_delay(limit),
            sleep=self._doze,
            retry_error_callback=lambda _: True,
        )
        return not retrying(self._leaves_some)

    def has_work(self) -> bool:
        """Whether anything waits, refused messages not counted."""
        return any(not queued.entry.refused for queued in self._outbox.entries())

    def _leaves_some(self) -> bool:
        try:
            done = self.once()
        except RecordError as error:
            _log.warning("the queue can't be read or written: %s", error)
            return True
        self._pause = done.pause
        self._known = {*done.waiting, *done.refused}
        return bool(done.waiting)

    def _doze(self, seconds: float) -> None:
        """Sleep, but no longer than until a new message is queued."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK))
            try:
                if self._outbox.ids() - self._known:
                    return
            except RecordError as error:
                _log.warning("the queue can't be read: %s", error)

    def _send(self, client: httpx.Client, claimed: Queued) -> _Failure | None:
        message = claimed.entry.message
        try:
            url = self._webhook(message.channel)
        except SecretStoreError as error:
            return _Failure(f"the webhook's URL can't be read: {error}".splitlines()[0])
        host = _host(url)
        if not host:
            return _Failure("the webhook's secret is not an https URL", refused=True)
        try:
            answer = client.post(url, json=message.payload(), timeout=TIMEOUT)
        except (httpx.HTTPError, UnknownNameError) as error:
            return _Failure(_without(url, f"{type(error).__name__}: {error}"))
        if answer.is_success:
            return None
        said = _without(url, answer.text.strip()[:80])
        problem = f"{host} answered {answer.status_code}{f' ({said})' if said else ''}"
        refused = answer.is_client_error and answer.status_code not in _MAY_PASS
        return _Failure(problem, refused, _asked_pause(answer))


def _host(url: str) -> str:
    """Host of a URL that a message may be sent to; empty where it is none."""
    try:
        # Both read it: what one of them refuses must not end the deliverer, and keep all other messages.
        parsed, known = httpx.URL(url), urlsplit(url)
    except (httpx.InvalidURL, ValueError):
        return ""
    return parsed.host if known.scheme == "https" and known.hostname else ""


def _asked_pause(answer: httpx.Response) -> float:
    asked = answer.headers.get("retry-after", "")
    return min(float(asked), 600.0) if answer.status_code == _TOO_MANY and asked.isdigit() else 0.0


def _without(url: str, text: str) -> str:
    """A message of a library without the webhook's URL, which is a secret."""
    for secret in (url, urlsplit(url).path.lstrip("/")):
        text = text.replace(secret, "(webhook)") if secret else text
    return text if len(text) <= _LONGEST_PROBLEM else f"{text[: _LONGEST_PROBLEM - 1]}…"
