"""What a browser is told, and what its report means; the browser itself is tested where one is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from infra.lighthouse import run
from infra.lighthouse.run import LighthouseError, Measurement, Page, certificates, flags, measure, parse
from infra.toolchain import browser
from infra.toolchain.browser import Browser

URL = "https://agents.local.icupa.dev/"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"


def report(**changes: Any) -> dict[str, Any]:
    return {
        "requestedUrl": URL,
        "finalDisplayedUrl": "https://login.local.icupa.dev/interaction/1",
        "lighthouseVersion": "12.8.2",
        "environment": {"hostUserAgent": "HeadlessChrome/156"},
        "categories": {name: {"score": 0.876} for name in run.CATEGORIES},
        **changes,
    }


def test_scores_are_whole_numbers_of_a_hundred() -> None:
    found = parse(report(), 12.34)
    assert found == Measurement(
        "https://login.local.icupa.dev/interaction/1",
        {"performance": 88, "accessibility": 88, "best-practices": 88},
        "12.8.2",
        "HeadlessChrome/156",
        12.3,
    )
    assert found.below({"performance": 88, "accessibility": 90}) == ["accessibility 88 (at least 90)"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runtimeError": {"code": "NO_FCP", "message": "nothing was painted"}}, "nothing was painted"),
        ({"runtimeError": {"code": "NO_FCP"}}, "NO_FCP"),
        ({"categories": {"performance": {"score": None}}}, "no score of performance"),
        ({"categories": {}}, "no score of performance"),
    ],
)
def test_a_page_that_was_not_measured_has_no_scores(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LighthouseError, match=said):
        parse(report(**changes), 1)


def test_names_resolve_as_the_environment_says_and_all_others_to_nothing() -> None:
    page = Page(URL, {"login.local.icupa.dev": "10.80.0.13", "agents.local.icupa.dev": "10.80.0.20"})
    (rules,) = [flag for flag in flags(page, Path("/p")) if flag.startswith("--host-resolver-rules=")]
    assert rules.removeprefix("--host-resolver-rules=").split(",") == [
        "MAP agents.local.icupa.dev 10.80.0.20",
        "MAP login.local.icupa.dev 10.80.0.13",
        "MAP * ~NOTFOUND",
        "EXCLUDE 10.80.0.13",
        "EXCLUDE 10.80.0.20",
        "EXCLUDE 127.0.0.1",
    ]
    assert not any("resolver" in flag for flag in flags(Page(URL), Path("/p")))


def test_no_flag_turns_protection_off() -> None:
    words = " ".join(flags(Page(URL, {"a": "10.0.0.1"}), Path("/p")))
    assert "sandbox" not in words
    assert "ignore-certificate-errors" not in words


def test_a_bundle_is_taken_apart() -> None:
    assert certificates("") == []
    assert certificates(f"{CERTIFICATE}\n{CERTIFICATE}") == [CERTIFICATE, CERTIFICATE]


@pytest.mark.parametrize("url", ["agents.local.icupa.dev", "file:///etc/passwd", "https:///x", ""])
def test_only_pages_are_measured(url: str) -> None:
    with pytest.raises(LighthouseError, match="is no URL of a page"):
        Page(url)


def programs(tmp_path: Path, chromium: str, node: str = "exit 1") -> Browser:
    """Programs that are made up; all may run them."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    made = {}
    for name, text in {"chromium": chromium, "certutil": "exit 0", "node": node}.items():
        made[name] = tmp_path / name
        made[name].write_text(f"#!/bin/sh\n{text}\n")
        made[name].chmod(0o755)
    return Browser(**made, lighthouse=tmp_path / "index.js")


BROWSER = """id -u > {tmp}/uid; env > {tmp}/environment
for word in "$@"; do case "$word" in --user-data-dir=*) profile=${{word#*=}};; esac; done
mkdir -p "$profile"; printf '4711\\n/devtools\\n' > "$profile/DevToolsActivePort"; sleep 60 & wait"""


def test_the_browser_is_never_root_and_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOPS_AGE_KEY", "canary")
    lighthouse = f'echo "$@" > {tmp_path}/arguments; for word in "$@"; do case "$word" in'
    lighthouse += " --output-path=*) echo '{}' > ${word#*=};; esac; done"
    for name in ("uid", "environment"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o666)
    with pytest.raises(LighthouseError, match="no score"):
        measure(Page(URL), programs(tmp_path, BROWSER.format(tmp=tmp_path), lighthouse))
    assert (tmp_path / "uid").read_text().strip() != "0"
    assert "canary" not in (tmp_path / "environment").read_text()
    assert "--port=4711" in (tmp_path / "arguments").read_text()
    home = next(
        line.removeprefix("HOME=")
        for line in (tmp_path / "environment").read_text().splitlines()
        if line.startswith("HOME=")
    )
    assert not Path(home).exists()
    assert not [path for path in Path("/proc").glob("[0-9]*/environ") if home.encode() in read(path)]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_browser_that_can_not_be_confined_is_not_used(tmp_path: Path) -> None:
    said = "echo '[1:1:FATAL:zygote_host_impl_linux.cc] No usable sandbox!' >&2; exit 133"
    with pytest.raises(LighthouseError, match=r"Chromium ended with 133: .*No usable sandbox!"):
        measure(Page(URL), programs(tmp_path, said))


def test_it_is_bounded_in_time(tmp_path: Path) -> None:
    found = programs(tmp_path, BROWSER.format(tmp=tmp_path), "sleep 60")
    for name in ("uid", "environment"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o666)
    with pytest.raises(LighthouseError, match=r"was not measured within 1\.4 s"):
        measure(Page(URL), found, timeout=1.4)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert browser.missing() == ["chromium", "certutil", "node", "lighthouse"]
    assert browser.find() is None
    assert browser.version().count(".") == 2
