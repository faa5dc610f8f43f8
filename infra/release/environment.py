"""An environment's registry, key and record, as checking a release needs them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx

from infra.config.model import Rfc2136Dns
from infra.outputs.model import StackOutputs
from infra.record import RecordError, open_record
from infra.release.check import Known, check, from_record
from infra.release.model import Checked, HostImage, ReleaseError
from infra.release.registry import Login, RegistryAuth, Repository, UnreachableError
from infra.release.signature import Verifier
from infra.secrets.catalogue import SIGNING_PUBLIC_KEY
from infra.secretstore import SecretStoreError, open_store
from infra.site.secrets import SecretsError, open_resolver
from infra.smoke.client import Names, UnknownNameError, web

_TIMEOUT = httpx.Timeout(15, connect=5)


def check_release(
    outputs: StackOutputs,
    stack: str,
    asked: str,
    on_hosts: Mapping[str, Sequence[HostImage]],
    *,
    record_first: bool = False,
) -> Checked:
    """Find and verify what an operator asked for; see `infra.release.check`.

    `record_first` takes a release that the record knows as good, and that is on every host, without asking
    the registry or reading a secret: a rollback.

    Raises:
        ReleaseError: with what was asked for, where, and what was found.
    """
    image = outputs.release.image
    try:
        state = open_record(outputs.record).state()
        good = [release for release in (state.release, *state.previous_releases) if release.image == image]
        known = Known(good, on_hosts)
        if record_first and (recorded := from_record(asked, image, known)):
            return recorded
        login, public_key = _login(outputs, stack), _public_key(outputs, stack)
    except (RecordError, SecretStoreError, SecretsError) as error:
        raise ReleaseError(f"release {asked}: {error}") from error
    names = _names(outputs)

    def verify(of: str, digest: str) -> None:
        address = _address(image.partition("/")[0], names)
        Verifier(public_key, login, outputs.settings.trust, address).verify(of, digest)

    with _client(outputs, names, login) as client:
        return check(asked, Repository(image, client), verify, known)


def _names(outputs: StackOutputs) -> Names:
    dns = outputs.settings.dns
    server = (str(dns.server), dns.port) if isinstance(dns, Rfc2136Dns) else None
    return Names(dns.zone, server, tuple(map(str, outputs.settings.resolvers)))


@contextmanager
def _client(outputs: StackOutputs, names: Names, login: Login) -> Iterator[httpx.Client]:
    trust = "\n".join(outputs.settings.trust)
    with web(names, trust, auth=RegistryAuth(login), timeout=_TIMEOUT) as client:
        yield client


def _login(outputs: StackOutputs, stack: str) -> Login:
    registry = outputs.settings.registry
    texts = [registry.username, registry.password]
    resolve = open_resolver(outputs.secretstore, stack, outputs.record, texts)
    return Login(*(resolve(text) for text in texts))


def _public_key(outputs: StackOutputs, stack: str) -> str:
    return open_store(outputs.secretstore, stack, record=outputs.record).public(SIGNING_PUBLIC_KEY)


def _address(host: str, names: Names) -> str | None:
    """Where a host is, if the controller's own resolver, the only one that cosign asks, does not know."""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        try:
            return names.address(host)
        except UnknownNameError as error:
            raise UnreachableError(f"the registry {host} does not answer: {error}") from error
    return None
