"""A proxy that carries requests out and loses the answers: what a broken connection does to a writer."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase

_LENGTH = re.compile(rb"(?mi)^content-length:\s*(\d+)")


class LossyProxy(socketserver.ThreadingTCPServer):
    """Forwards HTTP/1.1 to a port of 127.0.0.1; the answers of the next `lose` PUTs are thrown away."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = target
        self.lose = 0
        self.lost = 0
        self._guard = threading.Lock()

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self.server_address[1])

    def loses(self, request: bytes) -> bool:
        """Whether the answer to this request is to be thrown away."""
        with self._guard:
            if self.lose and request.startswith(b"PUT "):
                self.lose -= 1
                self.lost += 1
                return True
            return False


class _Connection(socketserver.StreamRequestHandler):
    server: LossyProxy

    def handle(self) -> None:
        with (
            socket.create_connection(("127.0.0.1", self.server.target)) as upstream,
            upstream.makefile("rb") as answers,
        ):
            while request := _message(self.rfile):
                upstream.sendall(request)
                answer = _message(answers)
                if self.server.loses(request):
                    return
                self.wfile.write(answer)


def _message(stream: BufferedIOBase) -> bytes:
    """One HTTP message with its body by Content-Length; empty at the end of the stream."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return b""
        head += line
    length = _LENGTH.search(head)
    return head + (stream.read(int(length[1])) if length else b"")


@contextmanager
def lossy_proxy(target: int) -> Iterator[LossyProxy]:
    """Run the proxy in a thread."""
    with LossyProxy(target) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
