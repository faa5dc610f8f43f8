"""A real S3 gateway (versitygw on a directory) for tests of the record's object store."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.record import RecordConfig

BUCKET = "record"
_STARTED_WITHIN = 20.0
_STOPPED_WITHIN = 10.0
_POLL = 0.05


@dataclass(frozen=True)
class Gateway:
    """A running gateway; its keys are in `environment` for clients, its objects in `bucket`."""

    port: int
    bucket: Path
    environment: dict[str, str]

    def config(self, prefix: str, port: int | None = None) -> RecordConfig:
        """Configuration of a record below a prefix, through another port if one is given."""
        endpoint = f"http://127.0.0.1:{port or self.port}"
        return RecordConfig(url=f"s3://{BUCKET}/{prefix}", endpoint=endpoint, region="us-east-1")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def running_gateway(directory: Path) -> Iterator[Gateway]:
    """Start versitygw on a free port of 127.0.0.1 with keys of its own, and stop it afterwards.

    Raises:
        FileNotFoundError: versitygw is not on PATH; nothing that needs it is skipped.
        RuntimeError: it does not start.
    """
    binary = shutil.which("versitygw")
    if binary is None:
        raise FileNotFoundError("versitygw is not on PATH: python -m infra.toolchain ensure unit")
    data = (directory / "gateway").resolve()
    (data / BUCKET).mkdir(parents=True)
    access, secret = secrets.token_hex(10), secrets.token_hex(20)
    port = _free_port()
    log = directory / "gateway.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, "--quiet", "--port", f"127.0.0.1:{port}", "posix", str(data)],
            env={**os.environ, "ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _STARTED_WITHIN
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"versitygw did not start: {log.read_text()}")
            time.sleep(_POLL)
        yield Gateway(port, data / BUCKET, {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret})
    finally:
        process.terminate()
        try:
            process.wait(_STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
