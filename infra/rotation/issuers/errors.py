"""What can go wrong with an issuer; no message ever holds a value."""

from __future__ import annotations


class IssuerError(Exception):
    """Base of all errors of issuers; the message names the issuer and what was asked of it."""


class IssuerRefusedError(IssuerError):
    """It refused: the credentials that it was asked with may not, or what was asked for can't be."""


class IssuerUnavailableError(IssuerError):
    """It did not answer in time, or said that it can't now; what was asked for may have happened."""


class IssuerGarbageError(IssuerError):
    """Its answer is not what it must be; what was asked for may have happened."""


class OnHostsError(IssuerError):
    """Whether a value is valid can be asked on the hosts only, where nobody else can be asked."""


class NoIssuerError(IssuerError):
    """Nobody can be asked for a value of this secret by a program; `by_hand` is what an operator does."""

    def __init__(self, name: str, driver: str, by_hand: str) -> None:
        super().__init__(f"{name}: issuer {driver} makes no value for a program: {by_hand}")
        self.name = name
        self.driver = driver
        self.by_hand = by_hand
