"""Verification of bearer tokens (VM-6), done here whatever stands in front.

Identity comes from the verified token only: no header that a proxy might set is read in this package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import httpx
import jwt

from .config import OidcSettings
from .errors import ApiError, UnauthorizedError

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
LEEWAY_SECONDS: Final = 10
JWKS_MAX_AGE_SECONDS: Final = 3600
JWKS_MIN_REFRESH_SECONDS: Final = 10
JWKS_FIRST_RETRY_SECONDS: Final = 1
TENANT_GROUPS: Final = ("internal", "pilot", "full")


@dataclass(frozen=True)
class Principal:
    """Who calls: taken from a verified token."""

    subject: str
    email: str | None
    tenant_group: str
    issuer: str


class IdentityProviderUnavailableError(ApiError):
    """The keys can't be fetched and none are cached: nobody can be let in."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "identity_provider_unavailable",
            "tokens cannot be verified at the moment",
            headers={"Retry-After": "5"},
        )


class KeySet:
    """The issuer's keys: cached, refreshed on an unknown key id, at most once in JWKS_MIN_REFRESH_SECONDS."""

    def __init__(self, settings: OidcSettings, client: httpx.AsyncClient) -> None:
        self._settings = settings
        self._client = client
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> jwt.PyJWK | None:
        """Return the key named `kid`, or None where the issuer has no such key."""
        if kid not in self._keys or self._age() > JWKS_MAX_AGE_SECONDS:
            async with self._lock:
                if kid not in self._keys or self._age() > JWKS_MAX_AGE_SECONDS:
                    await self._refresh()
        if not self._keys:
            raise IdentityProviderUnavailableError
        return self._keys.get(kid)

    def _age(self) -> float:
        return monotonic() - self._fetched

    async def _refresh(self) -> None:
        now = monotonic()
        pause = JWKS_MIN_REFRESH_SECONDS if self._keys else JWKS_FIRST_RETRY_SECONDS
        if now - self._tried < pause:
            return
        self._tried = now
        try:
            document = await self._get(self._settings.oidc_jwks_url or await self._discover())
            entries = [k for k in document["keys"] if k.get("kid") and k.get("use", "sig") == "sig"]
        except (httpx.HTTPError, httpx.InvalidURL, AttributeError, KeyError, TypeError, ValueError):
            return  # the cached keys stay good; without any, `key` refuses
        self._keys, self._fetched = _usable(entries), now

    async def _discover(self) -> str:
        issuer = self._settings.oidc_issuer
        document = await self._get(f"{issuer}/.well-known/openid-configuration")
        if str(document["issuer"]).rstrip("/") != issuer:
            raise ValueError("discovery document of another issuer")
        return str(document["jwks_uri"])

    async def _get(self, url: str) -> Mapping[str, Any]:
        response = await self._client.get(url, timeout=3)
        response.raise_for_status()
        document: Mapping[str, Any] = response.json()
        return document


def _usable(entries: Sequence[Mapping[str, Any]]) -> dict[str, jwt.PyJWK]:
    """Return the keys that tokens may be signed with; one of another kind keeps the others from nobody."""
    keys = {}
    for entry in entries:
        if entry.get("kty") in {"RSA", "EC", "OKP"}:
            with suppress(jwt.PyJWTError, KeyError, TypeError, ValueError):
                keys[str(entry["kid"])] = jwt.PyJWK(dict(entry))
    return keys


class TokenVerifier:
    """Turns a bearer token into a Principal, or raises UnauthorizedError."""

    def __init__(self, settings: OidcSettings, client: httpx.AsyncClient) -> None:
        self._settings = settings
        self._keys = KeySet(settings, client)

    async def verify(self, authorization: str | None) -> Principal:
        """Verify the value of an Authorization header."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise UnauthorizedError("token_missing", "a bearer token is needed")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise UnauthorizedError("token_malformed", "the token is not a JWT") from None
        if header.get("alg") not in ALGORITHMS:
            raise UnauthorizedError("token_algorithm", "the token's algorithm is not accepted")
        kid = header.get("kid")
        key = await self._keys.key(kid) if isinstance(kid, str) else None
        if key is None:
            raise UnauthorizedError("token_key_unknown", "the token's key is not known")
        return self._principal(self._claims(token, key))

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        issuer = self._settings.oidc_issuer
        try:
            return jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=list(self._settings.oidc_audience),
                issuer=[issuer, f"{issuer}/"],
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise UnauthorizedError("token_expired", "the token has expired") from None
        except jwt.ImmatureSignatureError:
            raise UnauthorizedError("token_not_yet_valid", "the token is not valid yet") from None
        except jwt.InvalidAudienceError:
            raise UnauthorizedError("token_audience", "the token is meant for somebody else") from None
        except jwt.InvalidIssuerError:
            raise UnauthorizedError("token_issuer", "the token's issuer is not accepted") from None
        except jwt.MissingRequiredClaimError as error:
            raise UnauthorizedError("token_claim_missing", f"the token has no {error.claim}") from None
        except jwt.InvalidTokenError:
            raise UnauthorizedError("token_invalid", "the token is not acceptable") from None

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        subject, email = claims["sub"], claims.get("email")
        if not isinstance(subject, str) or not subject:
            raise UnauthorizedError("token_claim_missing", "the token has no sub")
        group = claims.get(self._settings.oidc_tenant_group_claim)
        return Principal(
            subject=subject,
            email=email if isinstance(email, str) else None,
            tenant_group=group if group in TENANT_GROUPS else "full",
            issuer=self._settings.oidc_issuer,
        )
