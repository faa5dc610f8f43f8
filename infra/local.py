"""Names and addresses of the stack `local`: its zone, its networks, the outside world and the machines."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

PREFIX = "icupa-local"
ZONE = "local.icupa.dev"
DOMAIN = f"agents.{ZONE}"
CHALLENGE_ZONE = f"challenge.{ZONE}"
NETWORK = f"{PREFIX}-internet"
SUBNET = IPv4Network("10.80.0.0/24")
PRIVATE = IPv4Network("10.80.0.0/16")
"""Every network of the stack: the internet network and those of the machines."""
SECRETS_PATH = "/etc/icupa"
"""Where a container of the outside world finds the files that preparation made for it."""


@dataclass(frozen=True)
class Party:
    """One host of the outside world: container `icupa-local-<name>`, DNS name `<label>.local.icupa.dev`."""

    name: str
    label: str
    address: IPv4Address
    port: int

    @property
    def host(self) -> str:
        """Fully qualified name without the final dot."""
        return f"{self.label}.{ZONE}"

    @property
    def container(self) -> str:
        """Name of the container."""
        return f"{PREFIX}-{self.name}"


@dataclass(frozen=True)
class Machine:
    """One systemd machine: `address` on the internet network, `subnet` the network of its own."""

    name: str
    region: str
    address: IPv4Address
    subnet: IPv4Network

    @property
    def host(self) -> str:
        """Regional DNS name of the service on this machine."""
        return f"{self.region}.{DOMAIN}"

    @property
    def container(self) -> str:
        """Name of the container, of its own network and the prefix of its volumes."""
        return f"{PREFIX}-{self.name}"


NAMESERVER = Party("nameserver", "ns", IPv4Address("10.80.0.10"), 53)
RESOLVER = Party("resolver", "resolver", IPv4Address("10.80.0.11"), 53)
ACME = Party("acme", "acme", IPv4Address("10.80.0.12"), 14000)
LOGIN = Party("login", "login", IPv4Address("10.80.0.13"), 443)
REGISTRY = Party("registry", "registry", IPv4Address("10.80.0.14"), 443)
VENDORS = Party("vendors", "vendors", IPv4Address("10.80.0.15"), 443)
TRACES = Party("traces", "traces", IPv4Address("10.80.0.16"), 4318)
ACME_PROVISIONER = "acme"
ACME_DIRECTORY = f"https://{ACME.host}:{ACME.port}/acme/{ACME_PROVISIONER}/directory"
"""What an ACME client is given; the world's CA is the root of it and of what it issues."""
VENDORS_CONTROL_PORT = 9000
"""Port, plain HTTP, where tests make a vendor slow or faulty: apart from the vendors' own API."""
PARTIES = (NAMESERVER, RESOLVER, ACME, LOGIN, REGISTRY, VENDORS, TRACES)

PRIMARY = Machine("primary", "primary", IPv4Address("10.80.0.20"), IPv4Network("10.80.1.0/24"))
STANDBY = Machine("standby", "fra1", IPv4Address("10.80.0.30"), IPv4Network("10.80.2.0/24"))
MACHINES = (PRIMARY, STANDBY)
