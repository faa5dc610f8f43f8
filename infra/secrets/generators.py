"""Ways to make a new value, and the public parts that follow from one."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Callable

import pyrage  # type: ignore[import-untyped]
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Generator = Callable[[], str]

_ALPHANUMERIC = string.ascii_letters + string.digits
_CODE = string.ascii_uppercase + string.digits
_RSA_BITS = 2048


def alphanumeric(length: int, prefix: str = "") -> Generator:
    """`prefix` and random letters and digits: safe in URLs, shells and SQL alike."""
    return lambda: prefix + "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))


def hexadecimal(octets: int, prefix: str = "") -> Generator:
    """`prefix` and random octets in hexadecimal."""
    return lambda: prefix + secrets.token_hex(octets)


def base64_key(octets: int) -> Generator:
    """Random octets in base64, as TSIG keys are written."""
    return lambda: base64.b64encode(secrets.token_bytes(octets)).decode()


def base64url_key(octets: int) -> Generator:
    """Random octets in padded base64url, as oauth2-proxy's cookie secret and Fernet keys are written."""
    return lambda: base64.urlsafe_b64encode(secrets.token_bytes(octets)).decode()


def slack_webhook(base: str) -> Generator:
    """URL of an incoming webhook at `base`, in Slack's shape: `…/services/T…/B…/…`."""
    return lambda: f"{base}/services/T{_code(10)}/B{_code(10)}/{alphanumeric(24)()}"


def _code(length: int) -> str:
    return "".join(secrets.choice(_CODE) for _ in range(length))


def ssh_key() -> str:
    """An ed25519 key in OpenSSH's format."""
    return (
        ed25519.Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        .decode()
    )


def ssh_public_key(private: str) -> str:
    """`ssh-ed25519 AAAA…` of a private key in OpenSSH's format, without a comment."""
    key = serialization.load_ssh_private_key(private.encode(), password=None)
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def age_identity() -> str:
    """An age identity: `AGE-SECRET-KEY-1…`."""
    return str(pyrage.x25519.Identity.generate())


def age_recipient(identity: str) -> str:
    """Recipient of an age identity: `age1…`; raises ValueError for what is none."""
    try:
        return str(pyrage.x25519.Identity.from_str(identity.strip()).to_public())
    except pyrage.IdentityError:
        raise ValueError("not an age identity") from None


def ec_key() -> str:
    """A P-256 key as PKCS#8 PEM."""
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def rsa_key() -> str:
    """An RSA key as PKCS#8 PEM."""
    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS))


def public_key_pem(private: str) -> str:
    """Public key, PEM, of a private key in PEM."""
    key = serialization.load_pem_private_key(private.encode(), password=None)
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
