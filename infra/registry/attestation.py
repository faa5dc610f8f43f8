"""What is attached to an image in the registry, as a resource of the stack (IMG-4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from infra.providers.plugins import OWN


@dataclass(frozen=True)
class ImageAttestationArgs:
    """What is signed and attested of the image `reference` (`host/repository@sha256:…`).

    `source` is the repository's URI and `source_digest` the hash of the build context. `secretstore` and
    `stack` say where the signing key is; its value is in no input. `address` is where the registry is reached
    if its name does not resolve where the program runs; its certificate must name the address too. `trust`
    holds certificates in PEM.
    """

    reference: pulumi.Input[str]
    source: pulumi.Input[str]
    git_sha: pulumi.Input[str]
    source_digest: pulumi.Input[str]
    base: pulumi.Input[str]
    builder: pulumi.Input[str]
    stack: str
    secretstore: Mapping[str, Any]
    address: str | None = None
    trust: Sequence[pulumi.Input[str]] = ()


class ImageAttestation(pulumi.CustomResource):
    """Signature, SBOM (SPDX) and provenance (SLSA v1) of an image, attached in its registry."""

    attested: pulumi.Output[str]
    """The reference, once everything is attached: what must not run unsigned depends on it."""
    public_key: pulumi.Output[str]
    """Public key, in PEM, by which the attachments are verified."""

    def __init__(
        self, name: str, args: ImageAttestationArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        properties: dict[str, pulumi.Input[Any]] = {
            "reference": args.reference,
            "source": args.source,
            "gitSha": args.git_sha,
            "sourceDigest": args.source_digest,
            "base": args.base,
            "builder": args.builder,
            "stack": args.stack,
            "secretstore": dict(args.secretstore),
            "address": args.address,
            "trust": list(args.trust),
            "attested": None,
            "public_key": None,
        }
        own = pulumi.ResourceOptions(version=OWN["icupa"])
        super().__init__(
            "icupa:registry:ImageAttestation", name, properties, pulumi.ResourceOptions.merge(own, opts)
        )

    def translate_output_property(self, prop: str) -> str:
        """Name an output as Python does."""
        return {"publicKey": "public_key"}.get(prop, prop)
