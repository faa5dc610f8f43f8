"""A service on the loopback that misbehaves on request, behind TLS, with everything the load asks for."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path

import h11

from infra.secrets import generators
from infra.secretstore import pki
from tests.load.kinds import WEBHOOK_PATH, Credentials
from tests.load.wire import Target

NAME = "agents.example"
LOOPBACK = "127.0.0.1"
TOKEN = "first"
SECRET = "webhook secret"
SESSIONS = ("0a", "0b")
PIECES = 10


class Fault(StrEnum):
    """What the service does wrong."""

    DROP = "drop"
    RESET = "reset"
    TRUNCATE = "truncate"
    DELAY = "delay"
    UNAVAILABLE = "unavailable"
    WRONG = "wrong"
    REPEAT = "repeat"
    CUT = "cut"
    """A stream is closed in the middle of it."""
    UNFINISHED = "unfinished"
    """A stream is ended in order, but without its last event."""
    SPOILED = "spoiled"
    """A stream ends with an error event."""


@dataclass
class Double:
    """What it was asked, and how it answers. `faults` go by path; `closing` answers end the connection."""

    trust: str
    key: Path
    certificate: Path
    stream_seconds: float = 0.2
    delay: float = 1.0
    release: str = "a" * 40
    token: str | None = None
    closing: bool = False
    faults: dict[str, Fault] = field(default_factory=dict)
    connections: int = 0
    requests: list[tuple[int, str]] = field(default_factory=list)
    """Number of the connection and path of every request."""
    messages: Counter[str] = field(default_factory=Counter)
    vouchers: Counter[str] = field(default_factory=Counter)
    tokens: set[str] = field(default_factory=set)
    port: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def target(self) -> Target:
        return Target(
            name=NAME,
            port=self.port,
            address=LOOPBACK,
            allowed=frozenset({LOOPBACK}),
            trust=self.trust,
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self._writers.append(writer)
        with suppress(ConnectionError, ssl.SSLError, h11.RemoteProtocolError):
            state = h11.Connection(h11.SERVER)
            while True:
                request, body = await _request(state, reader)
                if request is None:
                    break
                path = request.target.decode()
                self.requests.append((number, path))
                if not await self._answer(state, writer, request, path, body):
                    break
                if self.closing or state.our_state is not h11.DONE:
                    break
                state.start_next_cycle()
        writer.close()

    async def _answer(
        self,
        state: h11.Connection,
        writer: asyncio.StreamWriter,
        request: h11.Request,
        path: str,
        body: bytes,
    ) -> bool:
        headers = {name.decode(): value.decode() for name, value in request.headers}
        fault = self.faults.get(path.rsplit("/", maxsplit=1)[-1])
        self.tokens.add(headers.get("authorization", ""))
        if fault is Fault.DROP:
            return False
        if fault is Fault.RESET:
            writer.transport.abort()
            return False
        if fault is Fault.DELAY:
            await asyncio.sleep(self.delay)
        if path.endswith("/messages"):
            await self._stream(state, writer, json.loads(body)["message"], fault)
            return True
        status, document = self._document(path, headers, body)
        if fault is Fault.UNAVAILABLE:
            status, document = 503, {"error": {"code": "database_unavailable"}}
        text = b"<html>" if fault is Fault.WRONG else json.dumps(document).encode()
        length = len(text) + (100 if fault is Fault.TRUNCATE else 0)
        head = [("Content-Length", str(length)), *([("Connection", "close")] if self.closing else [])]
        writer.write(state.send(h11.Response(status_code=status, headers=head)) or b"")
        writer.write(state.send(h11.Data(data=text)) or b"")
        if fault is Fault.TRUNCATE:
            await writer.drain()
            return False
        writer.write(state.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        return True

    def _document(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, object]]:
        if path == WEBHOOK_PATH:
            signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            if headers.get("x-hub-signature-256") != f"sha256={signature}":
                return 401, {"error": {"code": "bad_signature"}}
            message = json.loads(body)["entry"][0]["changes"][0]["value"]["messages"][0]["id"]
            self.messages[message] += 2 if self.faults.get("webhook") is Fault.REPEAT else 1
            return 200, {"accepted": 1, "duplicates": self.messages[message] - 1}
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"error": {"code": "token_expired"}}
        if path == "/api/whoami":
            return 200, {"subject": "smoke"}
        if path == "/health":
            return 200, {"status": "ok", "git_sha": self.release, "region": "primary"}
        self.vouchers[headers["idempotency-key"]] += 1
        return 201, {"policy_number": "AI-1"}

    async def _stream(
        self, state: h11.Connection, writer: asyncio.StreamWriter, message: str, fault: Fault | None
    ) -> None:
        head = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
        writer.write(state.send(h11.Response(status_code=200, headers=head)) or b"")
        for piece in range(PIECES):
            await asyncio.sleep(self.stream_seconds / PIECES)
            if fault is Fault.CUT and piece == PIECES // 2:
                writer.close()
                raise ConnectionAbortedError
            text = f"event: delta\ndata: {json.dumps({'text': 'menu '})}\n\n".encode()
            writer.write(state.send(h11.Data(data=text)) or b"")
            await writer.drain()
        last = f"event: completed\ndata: {json.dumps({'text': f'You said: {message}'})}\n\n"
        if fault is Fault.SPOILED:
            last = 'event: error\ndata: {"error": {"code": "internal_error"}}\n\n'
        if fault is not Fault.UNFINISHED:
            writer.write(state.send(h11.Data(data=last.encode())) or b"")
        writer.write(state.send(h11.EndOfMessage()) or b"")
        await writer.drain()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        server = await asyncio.start_server(self.serve, LOOPBACK, self.port, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield
        for writer in self._writers:
            writer.close()

    @contextmanager
    def in_thread(self) -> Iterator[None]:
        """Listen in another thread, for a generator in another process."""
        ready, over = threading.Event(), threading.Event()

        async def run() -> None:
            async with self.listening():
                ready.set()
                await asyncio.to_thread(over.wait)

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        assert ready.wait(10)
        try:
            yield
        finally:
            over.set()
            thread.join()


async def _request(state: h11.Connection, reader: asyncio.StreamReader) -> tuple[h11.Request | None, bytes]:
    request, body = None, b""
    while True:
        event = state.next_event()
        if event is h11.NEED_DATA:
            state.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return request, body
        else:
            return None, b""


def make_double(directory: Path) -> Double:
    """A double with a certificate for NAME of an authority of its own."""
    authority_key, key = generators.ec_key(), generators.ec_key()
    authority = pki.authority(authority_key, "load")
    certificate = pki.certificate(key, NAME, IPv4Address(LOOPBACK), authority, authority_key)
    (directory / "key.pem").write_text(key)
    (directory / "certificate.pem").write_text(certificate)
    return Double(authority, directory / "key.pem", directory / "certificate.pem")


def credentials(token: str | None = None) -> Credentials:
    return Credentials(token or TOKEN, SECRET, SESSIONS)
