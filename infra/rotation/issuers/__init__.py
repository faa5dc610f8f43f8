"""Who makes values of secrets valid and invalid, one driver an issuer."""

from infra.rotation.issuers.errors import (
    IssuerError,
    IssuerGarbageError,
    IssuerRefusedError,
    IssuerUnavailableError,
    NoIssuerError,
    OnHostsError,
)
from infra.rotation.issuers.factory import checker, issuer
from infra.rotation.issuers.model import Checker, Issued, Issuer, Values

__all__ = [
    "Checker",
    "Issued",
    "Issuer",
    "IssuerError",
    "IssuerGarbageError",
    "IssuerRefusedError",
    "IssuerUnavailableError",
    "NoIssuerError",
    "OnHostsError",
    "Values",
    "checker",
    "issuer",
]
