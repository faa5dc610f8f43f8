"""Which driver a secret of the catalogue has."""

from __future__ import annotations

from infra.outputs.model import StackOutputs
from infra.rotation.issuers.errors import NoIssuerError
from infra.rotation.issuers.model import Checker, Issuer, Values
from infra.secrets.catalogue import CATALOGUE


def issuer(name: str, outputs: StackOutputs, secrets: Values) -> Issuer:
    """Driver that makes values of a secret of the catalogue, in the environment of these outputs.

    Raises:
        NoIssuerError: an operator makes them by hand; the error says how.
    """
    driver = CATALOGUE[name].rotation.driver
    raise NoIssuerError(name, driver, "there is no driver yet; ask its issuer and put the value in")


def checker(name: str, outputs: StackOutputs, secrets: Values) -> Checker:
    """What tells whether a value of a secret is valid, also where `issuer` has nobody to ask.

    Raises:
        NoIssuerError: no call tells it without effect.
    """
    return issuer(name, outputs, secrets)
