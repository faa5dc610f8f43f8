"""Our own provider `icupa`: what the program needs and no official provider has."""

from __future__ import annotations

import re

from pulumi.runtime.rpc import UNKNOWN

from infra.providers.attest import Origin, Registry, SigningKey, attest
from infra.providers.server import (
    Current,
    Diff,
    Failure,
    Kind,
    Properties,
    Provider,
    ProviderError,
    Resource,
    is_unknown,
)
from infra.providers.shapes import Shape

IMAGE_ATTESTATION = "icupa:registry:ImageAttestation"
_REFERENCE = re.compile(r"[^/@\s]+/[^@\s]+@sha256:[0-9a-f]{64}")
_KEY, _PASSWORD = "image-signing-key", "image-signing-password"
_TEXT = Shape(scalar=str)
_INPUTS = Shape(
    fields={
        **dict.fromkeys(
            ("reference", "source", "gitSha", "sourceDigest", "base", "builder", "stack", "address"), _TEXT
        ),
        "trust": Shape(items=_TEXT),
        "secretstore": Shape(items=Shape(), is_map=True),
    },
    required=frozenset(
        {"reference", "source", "gitSha", "sourceDigest", "base", "builder", "stack", "secretstore"}
    ),
)


class IcupaProvider(Provider):
    """Serves `ImageAttestation`: signature, SBOM and provenance attached to an image by its digest.

    The signing key is read from the stack's secret store when something is signed, and is in no input and no
    output.
    """

    def check(
        self, resource: Resource, olds: Properties, news: Properties, seed: bytes
    ) -> tuple[Properties, list[Failure]]:
        """Refuse unknown and malformed inputs."""
        if resource.type != IMAGE_ATTESTATION:
            raise ProviderError(f"{resource.type} is not offered; offered: {IMAGE_ATTESTATION}")
        failures = list(_INPUTS.failures(news))
        reference = news.get("reference")
        if isinstance(reference, str) and not is_unknown(reference) and not _REFERENCE.fullmatch(reference):
            failures.append(Failure("reference", f"expected host/repository@sha256:…, got {reference!r}"))
        return news, failures

    def diff(self, resource: Resource, old_inputs: Properties, state: Properties, news: Properties) -> Diff:
        """Sign again in place: what is attached to an older image stays, for a rollback to it.

        How the registry is reached and where the key is are no part of what is attested.
        """
        attested = ("reference", "source", "gitSha", "sourceDigest", "base", "builder")
        changed = [
            key for key in attested if old_inputs.get(key) != news.get(key) or is_unknown(news.get(key))
        ]
        return Diff(dict.fromkeys(changed, Kind.UPDATE))

    def preview(self, resource: Resource, state: Properties, news: Properties) -> Properties:
        """Show the inputs."""
        return {**news, "attested": UNKNOWN, "publicKey": state.get("publicKey", UNKNOWN)}

    def create(self, resource: Resource, inputs: Properties) -> tuple[str, Properties]:
        """Sign and attach."""
        reference = inputs["reference"]
        public_key = attest(
            reference,
            Origin(
                inputs["source"],
                inputs["gitSha"],
                inputs["sourceDigest"],
                inputs["base"],
                inputs["builder"],
            ),
            Registry(inputs.get("address"), inputs.get("trust") or ()),
            _signing_key(inputs),
        )
        return reference, {**inputs, "attested": reference, "publicKey": public_key}

    def read(self, resource: Resource, id_: str, inputs: Properties, state: Properties) -> Current | None:
        """Believe the state: a deploy verifies the signature itself."""
        return Current(id_, inputs, state)

    def update(self, resource: Resource, id_: str, state: Properties, news: Properties) -> Properties:
        """Sign and attach to the present image."""
        return self.create(resource, news)[1]

    def delete(self, resource: Resource, id_: str, state: Properties) -> None:
        """Leave what is attached: it goes with the image."""


def _signing_key(inputs: Properties) -> SigningKey:
    # Only what signs pays for this import: a plugin's start counts in every `up`.
    from infra.secretstore import SecretStoreError, open_store  # noqa: PLC0415

    try:
        values = open_store(inputs["secretstore"], inputs["stack"]).get_many([_KEY, _PASSWORD])
    except SecretStoreError as error:
        raise ProviderError(f"the signing key can't be read: {error}") from error
    return SigningKey(values[_KEY], values[_PASSWORD])
