"""Domain types of a stack file: every type says what it accepts, in words an operator can act on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, StrictBool, StrictStr

from infra.secrets.catalogue import CATALOGUE
from infra.secrets.references import REFERENCE, parse


@dataclass(frozen=True)
class Accepts:
    """What a type accepts; `secret` keeps a refused value out of messages."""

    text: str
    secret: bool = False


MOUNTED_FILE = re.compile(r"\$\{file:([a-z0-9-]+)/([a-z0-9._-]+)\}")
"""A public file that the preparation of a local stack makes, `files/<consumer>/<name>`."""
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_LOCAL_PART = r"[A-Za-z0-9._%+-]+"


def _matching(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError("does not match")
        return value

    return check


def _url(schemes: frozenset[str]) -> Callable[[str], str]:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not parts.hostname or re.search(r"\s", value):
            raise ValueError("not such a URL")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("credentials, query and fragment have no place in it")
        _ = parts.port
        return value.rstrip("/")

    return check


DIRECTORY_SCHEME = "file"
S3_SCHEME = "s3"
RECORD_SCHEMES = (DIRECTORY_SCHEME, S3_SCHEME, "gs", "az")


def _record_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in RECORD_SCHEMES:
        raise ValueError(f"must start with one of {', '.join(f'{scheme}://' for scheme in RECORD_SCHEMES)}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "must hold no user, password, query or fragment: credentials come from the environment"
        )
    if parts.scheme == DIRECTORY_SCHEME:
        if parts.netloc not in ("", "~") or not parts.path.strip("/"):
            raise ValueError("must be file:///absolute/path or file://~/path")
    elif not parts.netloc:
        raise ValueError("must name a bucket")
    if not re.fullmatch(r"[A-Za-z0-9._/~%+-]+", parts.netloc + parts.path):
        raise ValueError("must hold letters, digits and . _ / ~ + - only, others as %XX")
    return value


def _record_endpoint(value: str) -> str:
    schemes = {"http", "https"} if urlsplit(value).hostname in _THIS_MACHINE else {"https"}
    return _url(frozenset(schemes))(value)


_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def _known(name: str) -> str:
    if name not in CATALOGUE:
        raise ValueError("not in the catalogue")
    return name


def _reference(value: str) -> str:
    try:
        name = parse(value)
    except ValueError:
        raise ValueError("not a reference") from None
    _known(name)
    return value


def _text_with_references(value: str) -> str:
    for name in REFERENCE.findall(value):
        _known(name)
    if "${" in REFERENCE.sub("", value):
        raise ValueError("not a reference")
    return value


def _headers(value: str) -> str:
    """`name=value[,name=value…]`; credentials only as references."""
    _text_with_references(value)
    for pair in filter(None, value.split(",")):
        name, found, content = pair.partition("=")
        if not found or not re.fullmatch(r"[A-Za-z0-9-]+", name.strip()) or not content.strip():
            raise ValueError("not name=value pairs")
        if re.search(r"auth|key|token|secret", name, re.IGNORECASE) and not REFERENCE.search(content):
            raise ValueError("a credential in clear text")
    return value


def _amount(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise ValueError("not an amount")
    try:
        amount = Decimal(str(value))
    except ArithmeticError as error:
        raise ValueError("not an amount") from error
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -2 or not 0 < amount <= 10_000:  # noqa: PLR2004
        raise ValueError("out of range")
    return amount


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError("out of range")
        return value

    return check


def _number(low: float, high: float) -> Callable[[object], float]:
    """Above `low`, up to `high`."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value <= high:
            raise ValueError("out of range")
        return float(value)

    return check


def _ipv4(value: object) -> IPv4Address:
    if not isinstance(value, (str, IPv4Address)):
        raise ValueError("not an address")
    return IPv4Address(value)


def _ipv4_network(value: object) -> IPv4Network:
    if not isinstance(value, (str, IPv4Network)):
        raise ValueError("not a network")
    return IPv4Network(value)


def _pem(value: str) -> str:
    if not re.fullmatch(
        r"\s*(-----BEGIN CERTIFICATE-----\s+[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)+", value
    ):
        raise ValueError("not a certificate")
    return value


def _certificate(value: str) -> str:
    return value if MOUNTED_FILE.fullmatch(value) else _pem(value)


Switch = Annotated[StrictBool, Accepts("true or false")]
DomainName = Annotated[
    StrictStr,
    AfterValidator(_matching(rf"(?=.{{4,253}}$)({_LABEL}\.)+[a-z]{{2,63}}")),
    Accepts("a domain name in lower case without final dot, such as agents.example.com"),
]
Region = Annotated[
    StrictStr,
    AfterValidator(_matching(_LABEL)),
    Accepts("a region name that can be a DNS label, such as fra1"),
]
SecretReference = Annotated[
    StrictStr,
    AfterValidator(_reference),
    Accepts(
        "a reference ${secret:<name>} (the value itself goes into the secret store); names: "
        + ", ".join(sorted(CATALOGUE)),
        secret=True,
    ),
]
Certificate = Annotated[
    StrictStr,
    AfterValidator(_certificate),
    Accepts("a certificate in PEM, or ${file:<consumer>/<name>} for one of a local stack", secret=True),
]
Headers = Annotated[
    StrictStr,
    AfterValidator(_headers),
    Accepts(
        "name=value pairs separated by commas, credentials only as references, such as "
        "Authorization=Bearer ${secret:otlp-token}",
        secret=True,
    ),
]
ModelName = Annotated[
    StrictStr,
    AfterValidator(_matching(r"[a-z0-9][a-z0-9._:-]{1,99}")),
    Accepts("a model name of lower-case letters, digits and . _ : -, such as gpt-4.1-mini"),
]
VectorStoreId = Annotated[
    StrictStr,
    AfterValidator(_matching(r"vs_[A-Za-z0-9_-]{3,64}")),
    Accepts("a vector store id that begins with vs_"),
]
ServiceName = Annotated[
    StrictStr,
    AfterValidator(_matching(r"[a-z][a-z0-9-]{1,62}")),
    Accepts("a name of lower-case letters, digits and -"),
]
Word = Annotated[
    StrictStr,
    AfterValidator(_matching(r"[A-Za-z0-9_./:@=,+-]{1,200}")),
    Accepts("one word of a command of letters, digits and _ . / : @ = , + -"),
]
UserName = Annotated[
    StrictStr,
    AfterValidator(_matching(r"[a-z_][a-z0-9_-]{0,31}")),
    Accepts("a user name of lower-case letters, digits, _ and -"),
]
Identifier = Annotated[
    StrictStr,
    AfterValidator(_matching(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")),
    Accepts("letters, digits and . _ / -, at most 128"),
]
UsdAmount = Annotated[
    Decimal,
    BeforeValidator(_amount),
    PlainSerializer(str),
    Accepts("an amount in USD above 0 and up to 10000, with at most two decimals"),
]
Url = Annotated[
    StrictStr,
    AfterValidator(_url(frozenset({"https"}))),
    Accepts("an https URL without credentials, query or fragment"),
]
ServiceUrl = Annotated[
    StrictStr,
    AfterValidator(_url(frozenset({"http", "https"}))),
    Accepts("an http or https URL without credentials, query or fragment"),
]
RecordUrl = Annotated[
    StrictStr,
    AfterValidator(_record_url),
    Accepts(
        "file:///<directory>, s3://<bucket>/<prefix>, gs://<bucket>/<prefix> or az://<container>/<prefix>"
    ),
]
RecordRegion = Annotated[
    StrictStr,
    AfterValidator(_matching(_LABEL)),
    Accepts("a region such as eu-central-1, only with a url that starts with s3://"),
]
RecordEndpoint = Annotated[
    StrictStr,
    AfterValidator(_record_endpoint),
    Accepts(
        "an https URL (on this machine also http) without credentials, query or fragment, "
        "only with a url that starts with s3://"
    ),
]
RecordAuthorities = Annotated[
    StrictStr,
    AfterValidator(_pem),
    Accepts("certificates in PEM, only with a url of an object store", secret=True),
]
Email = Annotated[
    StrictStr,
    AfterValidator(_matching(rf"{_LOCAL_PART}@({_LABEL}\.)+[a-z]{{2,63}}")),
    Accepts("an e-mail address"),
]
EmailDomain = Annotated[
    StrictStr,
    AfterValidator(_matching(rf"\*|({_LABEL}\.)+[a-z]{{2,63}}")),
    Accepts("a domain of e-mail addresses, or * for all that the login server issues"),
]
HostName = Annotated[
    StrictStr,
    AfterValidator(_matching(rf"({_LABEL}\.)+[a-z]{{2,63}}(:[0-9]{{2,5}})?")),
    Accepts("a host name with an optional port, such as ghcr.io"),
]
SshPublicKey = Annotated[
    StrictStr,
    AfterValidator(_matching(r"(ssh-ed25519|ecdsa-sha2-nistp256|ssh-rsa) [A-Za-z0-9+/=]+( [^\s]+)?")),
    Accepts("an SSH public key: ssh-ed25519 AAAA…"),
]
AgeRecipient = Annotated[
    StrictStr,
    AfterValidator(_matching(r"age1[02-9ac-hj-np-z]{58}")),
    Accepts("an age public key: age1… of 62 characters"),
]
SupabaseProject = Annotated[
    StrictStr,
    AfterValidator(_matching(r"[a-z0-9-]{4,40}")),
    Accepts("the reference of a Supabase project: lower-case letters, digits and -, as in its URL"),
]
ZoneId = Annotated[
    StrictStr,
    AfterValidator(_matching(r"[0-9a-f]{32}")),
    Accepts("a Cloudflare zone id: 32 hexadecimal digits"),
]
Ipv4 = Annotated[
    IPv4Address, BeforeValidator(_ipv4), PlainSerializer(str), Accepts("an IPv4 address, such as 203.0.113.7")
]
Ipv4Network = Annotated[
    IPv4Network,
    BeforeValidator(_ipv4_network),
    PlainSerializer(str),
    Accepts("an IPv4 network, such as 203.0.113.0/24"),
]
Ttl = Annotated[
    int, BeforeValidator(_whole(1, 86_400)), Accepts("a whole number of seconds, 1 to 86400, such as 15")
]
WindowSeconds = Annotated[
    int,
    BeforeValidator(_whole(10, 604_800)),
    Accepts("a whole number of seconds, 10 to 604800, such as 1800"),
]
ScrapeSeconds = Annotated[
    int, BeforeValidator(_whole(1, 60)), Accepts("a whole number of seconds, 1 to 60, such as 15")
]
Turns = Annotated[
    int, BeforeValidator(_whole(1, 1_000_000)), Accepts("a whole number, 1 to 1000000, such as 100")
]
Latency = Annotated[
    float, BeforeValidator(_number(0, 600)), Accepts("a number of seconds above 0 and up to 600, such as 5")
]
Share = Annotated[
    float, BeforeValidator(_number(0, 1)), Accepts("a share above 0 and up to 1, such as 0.02 for 2 %")
]
PortNumber = Annotated[int, BeforeValidator(_whole(1, 65_535)), Accepts("a port, 1 to 65535")]
KubeContext = Annotated[
    StrictStr,
    AfterValidator(_matching(r"[A-Za-z0-9][A-Za-z0-9_./:@-]{0,252}")),
    Accepts("a context of the kubeconfig, as `kubectl config get-contexts` lists it"),
]
KubeName = Annotated[
    StrictStr,
    AfterValidator(_matching(rf"{_LABEL}")),
    Accepts("a name of lower-case letters, digits and -, at most 63"),
]
Replicas = Annotated[
    int,
    BeforeValidator(_whole(2, 100)),
    Accepts("a whole number, 2 to 100: one is none while it is replaced"),
]
CpuPercent = Annotated[
    int, BeforeValidator(_whole(10, 95)), Accepts("a whole number of percent, 10 to 95, such as 70")
]
Cpus = Annotated[
    int, BeforeValidator(_whole(2, 256)), Accepts("a whole number of CPUs, at least 2 (the smallest host)")
]
MemoryGb = Annotated[
    int,
    BeforeValidator(_whole(4, 4096)),
    Accepts("a whole number of gigabytes, at least 4 (the smallest host)"),
]
