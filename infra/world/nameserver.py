"""Knot of the local stack: zones and who may change what in them.

The zone file holds what Pulumi owns and no more. Dynamic updates live in Knot's journal (a volume) and are
replayed onto the zone file when Knot starts (`zonefile-load: whole`, `zonefile-sync: -1`). The zone file's
serial never changes, so that the journal fits whatever file Pulumi delivers: a changed zone file brings its
own changes and leaves the public record alone. No dynamic key may touch a name that the zone file has, so
that a replay can't conflict.
"""

from __future__ import annotations

from infra import local

CONFIGURATION_PATH = "/etc/knot/knot.conf"
ZONES_PATH = "/etc/knot/zones"
SECRETS_PATH = local.SECRETS_PATH
STORAGE_PATH = "/var/lib/knot"
RUN_PATH = "/run/knot"
"""Must be empty at a start: Knot takes a process file that a killed one left for a server that is running."""

FAILOVER_KEY = "failover"
ACME_KEY = "acme"
TSIG_ALGORITHM = "hmac-sha256"
TTL = 15
"""Seconds that a record of the zone may be cached: the public record's limit (DR-2)."""

# The zone file's serial; Knot counts up from it in the journal.
_SERIAL = 1
# "Not there (yet)" is believed for a second only: bootstrap and ACME create what was asked for before.
_NEGATIVE_TTL = 1


def certificate_names() -> tuple[str, ...]:
    """Names that get a certificate by DNS-01: the public one and each region's."""
    return (local.DOMAIN, *(machine.host for machine in local.MACHINES))


def challenge_name(name: str) -> str:
    """Name in the challenge zone that `_acme-challenge.<name>` points to.

    Raises:
        ValueError: if `name` is not below the zone.
    """
    label = name.removesuffix(f".{local.ZONE}")
    if label == name:
        raise ValueError(f"{name!r} is not a name in {local.ZONE}")
    return f"{label}.{local.CHALLENGE_ZONE}"


def _head(zone: str) -> list[str]:
    nameserver = local.NAMESERVER.host
    return [
        f"$ORIGIN {zone}.",
        f"$TTL {TTL}",
        f"@ SOA {nameserver}. hostmaster.{local.ZONE}. {_SERIAL} 3600 600 86400 {_NEGATIVE_TTL}",
        f"@ NS {nameserver}.",
    ]


def zone() -> str:
    """Zone file of the environment's zone; without the public record, which bootstrap and failover write."""
    lines = _head(local.ZONE)
    lines += [f"{party.host}. A {party.address}" for party in local.PARTIES]
    lines += [f"{machine.host}. A {machine.address}" for machine in local.MACHINES]
    lines.append(f"{local.CHALLENGE_ZONE}. NS {local.NAMESERVER.host}.")
    lines += [f"_acme-challenge.{name}. CNAME {challenge_name(name)}." for name in certificate_names()]
    return "\n".join(lines) + "\n"


def challenge_zone() -> str:
    """Zone file of the challenge zone: empty, ACME clients write to it."""
    return "\n".join(_head(local.CHALLENGE_ZONE)) + "\n"


def configuration() -> str:
    """Text of knot.conf; the keys are in a mounted file of their own."""
    return f"""\
server:
    listen: [ 0.0.0.0@{local.NAMESERVER.port} ]
    user: knot:knot
    rundir: {RUN_PATH}
    identity: ""
    version: ""

log:
  - target: stdout
    any: info

database:
    storage: {STORAGE_PATH}

include: {SECRETS_PATH}/tsig.conf

acl:
  - id: {FAILOVER_KEY}
    key: {FAILOVER_KEY}
    action: update
    update-type: [ A, AAAA ]
    update-owner: name
    update-owner-match: equal
    update-owner-name: [ {local.DOMAIN}. ]
  - id: {ACME_KEY}
    key: {ACME_KEY}
    action: update
    update-type: [ TXT ]
    update-owner: name
    update-owner-match: sub
    update-owner-name: [ {local.CHALLENGE_ZONE}. ]

template:
  - id: default
    storage: {STORAGE_PATH}
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: changes
    semantic-checks: on

zone:
  - domain: {local.ZONE}.
    file: {ZONES_PATH}/{local.ZONE}.zone
    acl: [ {FAILOVER_KEY} ]
  - domain: {local.CHALLENGE_ZONE}.
    file: {ZONES_PATH}/{local.CHALLENGE_ZONE}.zone
    acl: [ {ACME_KEY} ]
"""


def files() -> dict[str, str]:
    """Every configuration file of the container, path to text."""
    return {
        CONFIGURATION_PATH: configuration(),
        f"{ZONES_PATH}/{local.ZONE}.zone": zone(),
        f"{ZONES_PATH}/{local.CHALLENGE_ZONE}.zone": challenge_zone(),
    }
