"""Connections of a client: HTTP/1.1 over TLS, one request a time, and never a second attempt.

h11 on plain streams: a library's pool would cost four times the processor time on kept connections, and some
send a request again by themselves, which is what a load that counts losses must not do.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import dns.asyncresolver
import dns.exception
import h11
from pydantic import BaseModel, ConfigDict, Field

_CHUNK = 65_536
_MOST_BYTES = 1024 * 1024
_DNS_LIFETIME = 5.0


class Target(BaseModel):
    """The name that is asked for, and how it is reached.

    `resolvers` are asked for its addresses; `address` is taken instead, where given. Only `allowed` addresses
    are ever connected to. `trust` holds the certificates, in PEM, that are trusted in place of the system's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(gt=0, le=65535)] = 443
    resolvers: tuple[str, ...] = ()
    resolver_port: int = 53
    address: str | None = None
    allowed: Annotated[frozenset[str], Field(min_length=1)]
    trust: Annotated[str, Field(min_length=1)]

    @property
    def host(self) -> str:
        """Value of the Host header."""
        return self.name if self.port == 443 else f"{self.name}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """TLS that trusts `trust` only."""
        return ssl.create_default_context(cadata=self.trust)


class ForeignAddressError(Exception):
    """A name leads to an address that is not the project's: nothing is sent there."""


class LostError(Exception):
    """No whole answer; the message says why."""


@dataclass(frozen=True)
class Request:
    """What is sent. `seconds` is the most that it may take."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    seconds: float


@dataclass
class Exchange:
    """How far a request got; filled in on the way, so that a failure leaves what was seen."""

    phase: str = "name"
    address: str | None = None
    opened: bool = False
    answered: float | None = None
    status: int | None = None
    body: bytearray = field(default_factory=bytearray)


class Resolver:
    """A client's memory of a name: asked again when its time to live has passed."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.nameservers = list(target.resolvers)
        self._resolver.port = target.resolver_port
        self._resolver.lifetime = _DNS_LIFETIME
        self._lock = asyncio.Lock()
        self._addresses: Sequence[str] = ()
        self._until = 0.0

    async def address(self) -> str:
        """The name's first address.

        Raises:
            LostError: it does not resolve.
            ForeignAddressError: it is none of those allowed.
        """
        address = self._target.address or await self._remembered()
        if address not in self._target.allowed:
            raise ForeignAddressError(f"{self._target.name} leads to {address}, not the project's")
        return address

    async def _remembered(self) -> str:
        async with self._lock:
            if time.monotonic() >= self._until:
                try:
                    answer = await self._resolver.resolve(f"{self._target.name}.", "A", search=False)
                except dns.exception.DNSException as error:
                    raise LostError(f"name: {type(error).__name__}") from error
                self._addresses = sorted(item.address for item in answer)
                self._until = time.monotonic() + (answer.rrset.ttl if answer.rrset else 0)
            return self._addresses[0]


class Connection:
    """One connection and the state of its protocol."""

    def __init__(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = address
        self._reader = reader
        self._writer = writer
        self._state = h11.Connection(h11.CLIENT)

    @property
    def usable(self) -> bool:
        """Whether the other side has not closed it, as far as is known here."""
        return not (self._reader.at_eof() or self._writer.is_closing())

    async def exchange(self, host: str, request: Request, seen: Exchange) -> bool:
        """Send and read the whole answer into `seen`; whether the connection may be used again."""
        seen.phase = "request"
        headers = [("Host", host), *request.headers.items()]
        if request.body or request.method != "GET":
            headers.append(("Content-Length", str(len(request.body))))
        head = h11.Request(method=request.method, target=request.path, headers=headers)
        parts = [self._state.send(head)]
        if request.body:
            parts.append(self._state.send(h11.Data(data=request.body)))
        parts.append(self._state.send(h11.EndOfMessage()))
        self._writer.write(b"".join(part for part in parts if part))
        await self._writer.drain()
        seen.phase = "answer"
        while True:
            event = self._state.next_event()
            if event is h11.NEED_DATA:
                self._state.receive_data(await self._reader.read(_CHUNK))
            elif isinstance(event, h11.Response):
                seen.phase, seen.status, seen.answered = "body", event.status_code, time.monotonic()
            elif isinstance(event, h11.Data):
                seen.body += event.data
                if len(seen.body) > _MOST_BYTES:
                    raise LostError(f"body: more than {_MOST_BYTES} bytes")
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise LostError(f"{seen.phase}: closed")
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return True

    def close(self) -> None:
        """Close, without waiting for the other side."""
        self._writer.close()


class Client:
    """A caller with its own memory of the name and its own kept connections."""

    def __init__(self, target: Target, kept: int) -> None:
        self._target = target
        self._context = target.context()
        self._resolver = Resolver(target)
        self._kept = kept
        self._open = 0
        self._idle: deque[Connection] = deque()

    async def send(self, request: Request, seen: Exchange, *, fresh: bool) -> None:
        """Send one request, on a connection of its own or on a kept one.

        Raises:
            LostError: no whole answer came, in time.
            ForeignAddressError: see Resolver.
        """
        try:
            async with asyncio.timeout(request.seconds):
                await self._send(request, seen, fresh=fresh)
        except TimeoutError:
            raise LostError(f"{seen.phase}: no end within {request.seconds:g} s") from None
        except ssl.SSLError as error:
            raise LostError(f"{seen.phase}: {error.reason or type(error).__name__}") from error
        except OSError as error:
            raise LostError(f"{seen.phase}: {type(error).__name__}") from error
        except h11.RemoteProtocolError as error:
            cut = "truncated" if seen.phase == "body" else "closed"
            raise LostError(f"{seen.phase}: {cut} ({error})") from error

    async def _send(self, request: Request, seen: Exchange, *, fresh: bool) -> None:
        connection = None if fresh else self._take()
        if connection is None:
            connection = await self._connect(seen)
            self._open += not fresh
        seen.address = connection.address
        reusable = False
        try:
            reusable = await connection.exchange(self._target.host, request, seen)
        finally:
            if reusable and not fresh:
                self._idle.append(connection)
            else:
                self._open -= not fresh
                connection.close()

    def _take(self) -> Connection | None:
        """The kept connection that rested longest; None where one is to be opened."""
        for connection in [one for one in self._idle if not one.usable]:
            self._idle.remove(connection)
            self._open -= 1
            connection.close()
        if not self._idle or self._open < self._kept:
            return None
        return self._idle.popleft()

    async def _connect(self, seen: Exchange) -> Connection:
        seen.opened = True
        seen.address = address = await self._resolver.address()
        seen.phase = "connect"
        reader, writer = await asyncio.open_connection(
            address, self._target.port, ssl=self._context, server_hostname=self._target.name
        )
        return Connection(address, reader, writer)

    def close(self) -> None:
        """Close the kept connections."""
        while self._idle:
            self._idle.popleft().close()
