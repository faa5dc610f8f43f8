"""Runs Chromium and Lighthouse over one page, each bounded in time, and leaves nothing behind.

Chromium runs in its own sandbox and never as root, for which it would have to be turned off: a browser
executes what it is sent. Where the controller is root, the browser is `nobody`; Lighthouse, which only talks
to it, stays who the controller is. The environment's authorities are trusted by a certificate store made for
this run, so that a certificate that is wrong is an error here as it is for users.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra.toolchain.browser import Browser

CATEGORIES = ("performance", "accessibility", "best-practices")
TIMEOUT = 120.0
_LOAD_TIMEOUT = 30.0
_START_TIMEOUT = 20.0
_POLL = 0.1
_UNPRIVILEGED = "nobody"
_PORT_FILE = "DevToolsActivePort"


class LighthouseError(Exception):
    """The page could not be measured; the message says why."""


@dataclass(frozen=True)
class Page:
    """What is measured; `addresses` of names (all others do not exist then), PEM of authorities to trust."""

    url: str
    addresses: Mapping[str, str] = field(default_factory=dict)
    trust: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no page; raises LighthouseError."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise LighthouseError(f"{self.url!r} is no URL of a page: https://name/path")


@dataclass(frozen=True)
class Measurement:
    """Scores from 0 to 100 by category; `url` is where the browser ended up."""

    url: str
    scores: Mapping[str, int]
    version: str
    browser: str
    seconds: float

    def below(self, minimum: Mapping[str, int]) -> list[str]:
        """Categories whose score is too low, in words."""
        return [
            f"{name} {self.scores[name]} (at least {least})"
            for name, least in minimum.items()
            if self.scores[name] < least
        ]


def measure(page: Page, programs: Browser, timeout: float = TIMEOUT) -> Measurement:
    """Measure a page, within `timeout` seconds; raises LighthouseError."""
    began = time.monotonic()
    user = pwd.getpwnam(_UNPRIVILEGED) if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="icupa-lighthouse-", ignore_cleanup_errors=True) as made:
        home = Path(made)
        if user is not None:
            os.chown(home, user.pw_uid, user.pw_gid)
        trusting(home, page.trust, programs, user)
        with _chromium(home, page, programs, user) as port:
            left = timeout - (time.monotonic() - began)
            try:
                report = _lighthouse(page.url, port, programs, home, left)
            except subprocess.TimeoutExpired:
                raise LighthouseError(f"{page.url} was not measured within {timeout:g} s") from None
    return parse(report, time.monotonic() - began)


def trusting(home: Path, trust: str, programs: Browser, user: pwd.struct_passwd | None) -> None:
    """Make the certificate store of a browser whose home this is."""
    store = home / ".pki" / "nssdb"
    _as_user(["mkdir", "-p", str(store)], home, user)
    _as_user([str(programs.certutil), "-N", "-d", f"sql:{store}", "--empty-password"], home, user)
    for number, certificate in enumerate(certificates(trust)):
        _as_user(
            [
                str(programs.certutil),
                "-A",
                "-d",
                f"sql:{store}",
                "-n",
                f"authority-{number}",
                "-t",
                "C,,",
                "-a",
            ],
            home,
            user,
            certificate,
        )


def certificates(pem: str) -> list[str]:
    """Certificates of a bundle, one by one."""
    end = "-----END CERTIFICATE-----"
    return [f"{part.strip()}\n{end}\n" for part in pem.split(end) if part.strip()]


def flags(page: Page, profile: Path) -> list[str]:
    """Chromium's options: no traffic of its own, and names that resolve as the environment says."""
    options = [
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-default-browser-check",
        "--no-first-run",
    ]
    if page.addresses:
        rules = [f"MAP {name} {address}" for name, address in sorted(page.addresses.items())]
        nowhere = [f"EXCLUDE {address}" for address in sorted({*page.addresses.values(), "127.0.0.1"})]
        options.append(f"--host-resolver-rules={','.join([*rules, 'MAP * ~NOTFOUND', *nowhere])}")
    return [*options, "about:blank"]


@contextlib.contextmanager
def _chromium(home: Path, page: Page, programs: Browser, user: pwd.struct_passwd | None) -> Iterator[int]:
    """A running browser; the port by which programs drive it."""
    profile, log = home / "profile", home / "chromium.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(programs.chromium), *flags(page, profile)],
            env=_environment(home),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_identity(user),
        )
        try:
            yield _port(process, profile, log)
        finally:
            _end(process)


def _port(process: subprocess.Popen[bytes], profile: Path, log: Path) -> int:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int((profile / _PORT_FILE).read_text().splitlines()[0])
        if process.poll() is not None:
            raise LighthouseError(f"Chromium ended with {process.returncode}: {_last_error(log)}")
        time.sleep(_POLL)
    raise LighthouseError(f"Chromium did not start within {_START_TIMEOUT:.0f} s: {_last_error(log)}")


def _last_error(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if "dbus" not in line]
    fatal = [line for line in lines if "FATAL" in line or "sandbox" in line.lower()]
    return (fatal or lines or ["it said nothing"])[-1].strip()[:300]


def _lighthouse(url: str, port: int, programs: Browser, home: Path, timeout: float) -> dict[str, Any]:
    report = home / "report.json"
    command = [
        *(str(programs.node), str(programs.lighthouse), url, "--quiet", "--output=json"),
        *(f"--output-path={report}", f"--port={port}", f"--only-categories={','.join(CATEGORIES)}"),
        f"--max-wait-for-load={int(_LOAD_TIMEOUT * 1000)}",
        "--no-enable-error-reporting",
    ]
    process = subprocess.Popen(
        command,
        env=_environment(home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=max(1.0, timeout))
    finally:
        _end(process)
    if process.returncode != 0 or not report.is_file():
        lines = [line for line in said.splitlines() if line.strip()]
        raise LighthouseError(f"{url}: {' '.join(lines)[-300:] or f'ended with {process.returncode}'}")
    document: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return document


def parse(report: Mapping[str, Any], seconds: float) -> Measurement:
    """Scores of a report; raises LighthouseError where the page could not be loaded."""
    if wrong := report.get("runtimeError"):
        raise LighthouseError(f"{report.get('requestedUrl')}: {wrong.get('message') or wrong.get('code')}")
    scores = {}
    for name in CATEGORIES:
        score = report.get("categories", {}).get(name, {}).get("score")
        if score is None:
            raise LighthouseError(f"{report.get('requestedUrl')}: no score of {name}")
        scores[name] = round(float(score) * 100)
    return Measurement(
        url=str(report.get("finalDisplayedUrl") or report.get("requestedUrl")),
        scores=scores,
        version=str(report.get("lighthouseVersion", "")),
        browser=str(report.get("environment", {}).get("hostUserAgent", "")),
        seconds=round(seconds, 1),
    )


def _environment(home: Path) -> dict[str, str]:
    """What the programs get: nothing of the controller's, which holds paths of secrets."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
    }


def _identity(user: pwd.struct_passwd | None) -> dict[str, Any]:
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _as_user(
    command: list[str], home: Path, user: pwd.struct_passwd | None, given: str | None = None
) -> None:
    done = subprocess.run(
        command,
        input=given,
        env=_environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        **_identity(user),
    )
    if done.returncode != 0:
        raise LighthouseError(
            f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr.strip()[:300]}"
        )


def _end(process: subprocess.Popen[Any]) -> None:
    """End a process with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
