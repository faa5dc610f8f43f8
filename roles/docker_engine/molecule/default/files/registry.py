"""A registry's double: over TLS, wants a login, knows no image: enough to see trust and login work."""

from __future__ import annotations

import base64
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

ACCOUNT = base64.b64encode(b"puller:pa:ss-word").decode()


class Registry(BaseHTTPRequestHandler):
    """Answers 401 without the account, 404 with it."""

    def do_GET(self) -> None:
        """Answer any path."""
        known = self.headers.get("Authorization") == f"Basic {ACCOUNT}"
        self.send_response((200 if self.path == "/v2/" else 404) if known else 401)
        if not known:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()
        self.wfile.write(b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}')

    do_HEAD = do_GET  # noqa: N815


def main() -> None:
    """Serve on 443 of the address that is the first argument."""
    server = HTTPServer((sys.argv[1], 443), Registry)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/srv/registry.pem", "/srv/registry.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
