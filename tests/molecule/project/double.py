"""Stands for every service of a project in scenarios; runs on the machine's own Python.

`double.py http PORT` answers 200. `double.py proxy` reads its route from the watched directory, as the proxy
does, says on port 8082 which slot it serves, and serves TLS on port 443. `double.py job` just ends.
"""

from __future__ import annotations

import http.server
import re
import signal
import ssl
import sys
import threading
from pathlib import Path

ROUTE = Path("/etc/traefik/dynamic/active.yml")
MAINTENANCE = Path("/etc/traefik/dynamic/maintenance.yml")
CERTIFICATE = Path("/etc/traefik/tls.pem")


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers with what the route says, if there is one."""

    def do_GET(self) -> None:
        """Answer any path."""
        route = ROUTE.read_text() if ROUTE.exists() else ""
        urls = re.findall(r"url: (\S+)", route)
        parts = re.findall(r"(service|fallback): (\S+)", route)
        said = [f'"{part}":"{name}"' for part, name in sorted(parts, reverse=True)]
        body = ",".join([*said, *(f'"{url}":"UP"' for url in urls)]) or "ok"
        absent = self.path.startswith("/api/http/routers/") and "routers:" not in MAINTENANCE.read_text()
        self.send_response(404 if absent else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


def serve(port: int, *, tls: bool = False) -> None:
    """Serve until the process ends."""
    server = http.server.ThreadingHTTPServer(("", port), Answer)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main(arguments: list[str]) -> None:
    """Be what the arguments say."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    match arguments:
        case ["http", port]:
            serve(int(port))
        case ["proxy"]:
            serve(8082)
            serve(443, tls=True)
        case _:
            return
    ended.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
