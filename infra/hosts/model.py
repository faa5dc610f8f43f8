"""What a host is to everything that comes after it, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.config.model import Role


@dataclass(frozen=True)
class Host:
    """One host as the inventory gets it (docs/architecture.md, stack outputs)."""

    name: str
    region: str
    role: Role
    address: pulumi.Input[str]
    user: str
    port: int
    host_key: pulumi.Input[str]
    private_key_file: str | None = None

    def outputs(self) -> dict[str, pulumi.Input[object]]:
        """Entry of the output `hosts`; the private key is named where the controller made it, never read."""
        values: dict[str, pulumi.Input[object]] = {
            "name": self.name,
            "region": self.region,
            "role": str(self.role),
            "address": self.address,
            "user": self.user,
            "port": self.port,
            "host_key": self.host_key,
            "become": True,
        }
        if self.private_key_file:
            values["private_key_file"] = self.private_key_file
        return values
