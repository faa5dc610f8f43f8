"""Unbound of the local stack: everybody's resolver, caching as a provider's does."""

from __future__ import annotations

from infra import local

CONFIGURATION_PATH = "/etc/unbound/unbound.conf"
# Docker's own resolver, on every network but the default one; it asks the host's.
_ENGINE_RESOLVER = "127.0.0.11"


def configuration() -> str:
    """Text of unbound.conf.

    Without the validator: the local zones are not signed, and the host's resolver may not pass DNSSEC on. A
    name server that was away is asked again at once: it is one of ours, and restarts are tested. Challenges
    are not cached: two regions prove the same name one after the other, and validators don't cache either.
    """
    return f"""\
server:
    interface: 0.0.0.0
    port: {local.RESOLVER.port}
    do-ip6: no
    do-daemonize: no
    use-syslog: no
    logfile: ""
    pidfile: ""
    chroot: ""
    username: unbound
    module-config: "iterator"
    access-control: 0.0.0.0/0 refuse
    access-control: 127.0.0.0/8 allow
    access-control: {local.PRIVATE} allow
    do-not-query-localhost: no
    cache-max-negative-ttl: 1
    infra-host-ttl: 1
    infra-keep-probing: yes
    hide-identity: yes
    hide-version: yes

remote-control:
    control-enable: no

stub-zone:
    name: {local.ZONE}.
    stub-addr: {local.NAMESERVER.address}

stub-zone:
    name: {local.CHALLENGE_ZONE}.
    stub-addr: {local.NAMESERVER.address}
    stub-no-cache: yes

forward-zone:
    name: "."
    forward-addr: {_ENGINE_RESOLVER}
"""


def files() -> dict[str, str]:
    """Every configuration file of the container, path to text."""
    return {CONFIGURATION_PATH: configuration()}
