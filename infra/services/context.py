"""What the definitions of services are made from: one stack, one of its hosts or clusters."""

from __future__ import annotations

from dataclasses import dataclass

from infra.config.model import Role, Stack, Variables
from infra.services.model import File
from infra.services.names import TRUST_PATH
from infra.services.platform import HOST, Platform


@dataclass(frozen=True)
class Context:
    """An environment as seen from one of its hosts or clusters."""

    environment: str
    stack: Stack
    region: str
    role: Role
    trust_certificates: tuple[str, ...] = ()
    """Certificates in PEM that services trust in place of the public authorities."""
    platform: Platform = HOST

    @property
    def variables(self) -> Variables:
        """Variables of this host's region (CFG-1)."""
        return self.stack.variables_for(self.role)

    @property
    def regional_name(self) -> str:
        """DNS name of this region."""
        return self.stack.regional_name(self.region)

    @property
    def trust(self) -> tuple[File, ...]:
        """File with the certificates that are trusted, where there are some."""
        if not self.trust_certificates:
            return ()
        return (File("trust.pem", TRUST_PATH, trust_bundle(self.trust_certificates)),)

    @property
    def trust_path(self) -> str | None:
        """Path of that file in a container, or None."""
        return TRUST_PATH if self.trust_certificates else None


def trust_bundle(certificates: tuple[str, ...]) -> str:
    """Certificates in PEM, one after the other."""
    return "".join(f"{certificate.strip()}\n" for certificate in certificates)
