"""What the definitions of services are made from: one stack, one of its hosts."""

from __future__ import annotations

from dataclasses import dataclass

from infra.config.model import Role, Stack, Variables
from infra.services.model import File
from infra.services.names import TRUST_PATH


@dataclass(frozen=True)
class Context:
    """An environment as seen from one of its hosts."""

    environment: str
    stack: Stack
    region: str
    role: Role

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
        """Certificates that are trusted in place of the public ones, where the stack names some."""
        if not self.stack.trust:
            return ()
        return (File("trust.pem", TRUST_PATH, "".join(f"{entry.strip()}\n" for entry in self.stack.trust)),)

    @property
    def trust_path(self) -> str | None:
        """Path of those certificates in a container, or None."""
        return TRUST_PATH if self.stack.trust else None
