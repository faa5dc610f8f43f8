"""Our own provider: what it refuses, when it signs again, and what the provenance says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from infra import secretstore
from infra.providers import attest
from infra.providers.attest import Origin, Registry, SigningKey
from infra.providers.icupa import IcupaProvider
from infra.providers.server import Kind, ProviderError, Resource
from infra.secretstore import MissingSecretError

IMAGE = Resource("urn:pulumi:s::p::icupa:registry:ImageAttestation::release")
DIGEST = "sha256:" + "a" * 64
INPUTS: dict[str, Any] = {
    "reference": f"registry.example/icupa/agents@{DIGEST}",
    "source": "git+https://example.com/icupa",
    "gitSha": "b" * 40,
    "sourceDigest": "c" * 64,
    "base": "debian:trixie-slim",
    "builder": "icupa",
    "stack": "local",
    "secretstore": {"driver": "sops"},
}
ORIGIN = Origin(INPUTS["source"], "b" * 40, "c" * 64, "debian:trixie-slim", "icupa")


@pytest.fixture
def provider() -> IcupaProvider:
    return IcupaProvider()


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"reference": "registry.example/icupa/agents:latest"}, "reference"),
        ({"reference": f"agents@{DIGEST}"}, "reference"),
        ({"git_sha": "a"}, "git_sha"),
        ({"trust": "pem"}, "trust"),
        ({"stack": None}, "stack"),
    ],
)
def test_malformed_inputs_are_refused(provider: IcupaProvider, change: dict[str, Any], path: str) -> None:
    _, failures = provider.check(IMAGE, {}, INPUTS | change, b"")
    assert [failure.property for failure in failures] == [path]


def test_a_digest_that_is_not_known_yet_is_accepted(provider: IcupaProvider) -> None:
    _, failures = provider.check(IMAGE, {}, INPUTS | {"reference": UNKNOWN}, b"")
    assert not failures


def test_only_what_is_attested_is_a_change(provider: IcupaProvider) -> None:
    elsewhere = INPUTS | {"address": "10.0.0.1", "trust": ["pem"], "secretstore": {"driver": "sops", "x": 1}}
    assert not provider.diff(IMAGE, INPUTS, INPUTS, elsewhere).properties
    other = INPUTS | {"gitSha": "d" * 40}
    assert provider.diff(IMAGE, INPUTS, INPUTS, other).properties == {"gitSha": Kind.UPDATE}


def test_another_resource_is_refused(provider: IcupaProvider) -> None:
    with pytest.raises(ProviderError, match="offered: icupa:registry:ImageAttestation"):
        provider.check(Resource("urn:pulumi:s::p::icupa:registry:Image::a"), {}, {}, b"")


def test_the_provenance_names_commit_context_and_base() -> None:
    predicate = attest.provenance(ORIGIN)
    definition = predicate["buildDefinition"]
    assert definition["externalParameters"]["source"]["digest"] == {"gitCommit": "b" * 40}
    assert definition["internalParameters"] == {"contextHash": "c" * 64}
    assert {"uri": "pkg:docker/debian@trixie-slim"} in definition["resolvedDependencies"]
    assert predicate["runDetails"]["builder"]["id"].endswith(":icupa")


def test_a_missing_key_is_told_as_such(provider: IcupaProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty:
        def get_many(self, names: list[str]) -> dict[str, str]:
            raise MissingSecretError(f"missing: {', '.join(names)}")

    monkeypatch.setattr(secretstore, "open_store", lambda *_: Empty())
    with pytest.raises(ProviderError, match=r"the signing key can't be read: missing: image-signing-key"):
        provider.create(IMAGE, INPUTS)


def test_a_missing_tool_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProviderError, match=r"cosign is not on PATH; `python -m infra\.toolchain ensure`"):
        attest.attest(INPUTS["reference"], ORIGIN, Registry(), SigningKey("pem", "password"))


def test_tools_get_password_by_environment_and_login_under_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker = tmp_path / "docker"
    docker.mkdir()
    (docker / "config.json").write_text('{"auths": {"registry.example": {"auth": "eA=="}}}')
    calls = tmp_path / "calls"
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("cosign", "syft"):
        script = tools / tool
        script.write_text(
            f'#!/bin/sh\necho "{tool} $*" >> {calls}\n'
            f'cp "$DOCKER_CONFIG/config.json" {tmp_path}/seen.json\ncp "$SSL_CERT_FILE" {tmp_path}/seen.pem\n'
            f'[ "$COSIGN_PASSWORD" = p4ss ] || exit 3\n[ "$1" != import-key-pair ] || cat > image.pub\n'
        )
        script.chmod(0o755)
    monkeypatch.setenv("DOCKER_CONFIG", str(docker))
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    registry = Registry("192.0.2.1", ["certificate"])
    assert attest.attest(INPUTS["reference"], ORIGIN, registry, SigningKey("key pem", "p4ss")) == "key pem"
    lines = calls.read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["cosign", "import-key-pair"],
        ["syft", "scan"],
        ["cosign", "sign"],
        ["cosign", "attest"],
        ["cosign", "attest"],
    ]
    assert all(line.endswith(f"192.0.2.1/icupa/agents@{DIGEST}") for line in lines[2:])
    assert not [line for line in lines if "p4ss" in line or "pem" in line]
    assert (tmp_path / "seen.json").read_text() == '{"auths": {"192.0.2.1": {"auth": "eA=="}}}'
    assert (tmp_path / "seen.pem").read_text() == "certificate"


def test_a_refusal_of_a_tool_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "cosign"
    script.write_text("#!/bin/sh\necho 'no such key' >&2\nexit 7\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ProviderError, match="cosign import-key-pair ended with 7: no such key"):
        attest.attest(INPUTS["reference"], ORIGIN, Registry(), SigningKey("pem", "password"))
