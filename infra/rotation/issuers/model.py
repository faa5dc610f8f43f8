"""What a driver of an issuer offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


class Values(Protocol):
    """Where drivers find the credentials that they ask with: values in use, by name of the secret."""

    def get(self, name: str) -> str:
        """Value in use; raises SecretStoreError where there is none."""
        ...


@dataclass(frozen=True)
class Issued:
    """A value that its issuer has just made valid; `id` is the issuer's name of it, no secret."""

    value: str = field(repr=False)
    id: str


@runtime_checkable
class Checker(Protocol):
    """Tells whether a value is valid, whoever made it so."""

    def accepts(self, value: str) -> bool:
        """Whether it is valid now, by a call without effect, made as a consumer makes one.

        Raises:
            IssuerError: nobody answered, or the answer does not tell; never because the value is refused.
        """
        ...


@runtime_checkable
class Issuer(Checker, Protocol):
    """Makes values of one secret. Every method raises IssuerError, and none leaves a value in it."""

    def create(self, label: str) -> Issued:
        """One more valid value, labelled. Asked once: a lost answer leaves one that `labelled` finds."""
        ...

    def labelled(self, label: str) -> list[str]:
        """Ids of all that have that label and are valid."""
        ...

    def current(self, value: str) -> str | None:
        """Id of a value, None where the issuer knows none such or can't tell it from others."""
        ...

    def revoke(self, id: str) -> None:  # noqa: A002 - the contract's word
        """Make it invalid; one that is gone is success."""
        ...
