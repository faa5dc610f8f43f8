"""Certificates of the local outside world: an authority, a certificate a party, an intermediate for ACME."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME = timedelta(days=3650)
INTERMEDIATE_LIFETIME = timedelta(days=1825)
AUTHORITY_DEPTH = 1
"""How many intermediates may stand between the authority and a certificate."""
CERTIFICATE_LIFETIME = timedelta(days=825)
RENEW_BEFORE = timedelta(days=30)
# A machine whose clock is a little behind accepts a certificate that was made just now.
_BACKDATED = timedelta(hours=1)


def _key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("a key of the outside world must be an elliptic-curve key")
    return key


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, lifetime: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def authority(key_pem: str, common_name: str) -> str:
    """Self-signed certificate, PEM, of an authority that issues server certificates only."""
    key = _key(key_pem)
    name = _name(common_name)
    certificate = (
        _builder(name, name, AUTHORITY_LIFETIME)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=AUTHORITY_DEPTH), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def intermediate(key_pem: str, common_name: str, ca_pem: str, ca_key_pem: str) -> str:
    """Certificate, PEM, of an authority below another; issues server certificates only."""
    key, ca_key = _key(key_pem), _key(ca_key_pem)
    ca = x509.load_pem_x509_certificate(ca_pem.encode())
    made = (
        _builder(_name(common_name), ca.subject, INTERMEDIATE_LIFETIME)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=AUTHORITY_DEPTH - 1), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def certificate(key_pem: str, host: str, address: IPv4Address, ca_pem: str, ca_key_pem: str) -> str:
    """Server certificate, PEM, for a host name and its address."""
    key, ca_key = _key(key_pem), _key(ca_key_pem)
    ca = x509.load_pem_x509_certificate(ca_pem.encode())
    made = (
        _builder(_name(host), ca.subject, CERTIFICATE_LIFETIME)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(address)]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def renew_at(pem: str) -> datetime:
    """When a certificate should be replaced."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc - RENEW_BEFORE


def depth(pem: str) -> int | None:
    """How many intermediates may be below an authority; None for what is no authority or no certificate."""
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
        return found.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    except (ValueError, x509.ExtensionNotFound):
        return None


def fits(
    pem: str, key_pem: str, ca_pem: str, host: str | None = None, address: IPv4Address | None = None
) -> bool:
    """Whether a certificate is of this key, signed by this authority, for this host, and not due."""
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem.encode()))
    except (ValueError, TypeError, InvalidSignature):
        return False
    if found.public_key() != _key(key_pem).public_key() or renew_at(pem) <= datetime.now(UTC):
        return False
    if host is None:
        return True
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName) == [host] and names.get_values_for_type(
        x509.IPAddress
    ) == [address]
