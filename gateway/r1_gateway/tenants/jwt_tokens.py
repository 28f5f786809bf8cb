"""Callers by JSON Web Token (RFC 7519): issuer, audience and expiry are checked, a claim is the tenant.

The signing keys are read from the issuer's JWKS in the background, so a request waits for nothing but
the check of its signature, and a token is checked once.  The rights are those of the declared tenant;
a tenant ``*`` has those of every undeclared one, and without it undeclared tenants are unknown.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from r1_common.untrusted_json import parse_json
from r1_gateway.tenants.caller import Caller

logger = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Signatures with a public key only: with HS256 a public key would be a password."""
REFRESH_SECONDS = 300.0
RETRY_SECONDS = 5.0
UNKNOWN_KEY_SECONDS = 10.0
"""Least time between two reads of the JWKS because of an unknown key."""
POLL_SECONDS = 0.5
CHECKED = 4096
"""Tokens whose check is remembered."""
TOKEN_BYTES = 8192
LEEWAY_SECONDS = 30
EVERY_OTHER = "*"
JWKS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """The section ``jwt`` of the keys file."""

    issuer: str
    audience: str
    jwks_url: str
    tenant_claim: str = "tenant"


class SigningKeysUnavailable(Exception):
    """No signing keys were read yet."""


Fetch = Callable[[str], Awaitable[bytes]]


async def fetch_jwks(url: str) -> bytes:
    """Read a JWKS.

    Raises:
        OSError: no response of 200 within 5 s.
    """
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise OSError(f"HTTP {response.status}")
            return await response.content.read(JWKS_BYTES)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OSError(str(error) or type(error).__name__) from None


class TokenVerifier:
    """Checks tokens of one issuer."""

    def __init__(
        self,
        fetch: Fetch = fetch_jwks,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._settings: JwtSettings | None = None
        self._tenants: Mapping[str, Caller] = {}
        self._keys: dict[str, Any] | None = None
        self._read_at = 0.0
        self._refresh_at = 0.0
        self._checked: dict[bytes, tuple[Caller, float]] = {}

    def apply(self, settings: JwtSettings | None, tenants: Mapping[str, Caller]) -> None:
        """Apply a new version of the keys file."""
        if settings != self._settings:
            self._keys = None
            self._refresh_at = 0.0
        self._settings = settings
        self._tenants = tenants
        self._checked.clear()

    def find(self, token: bytes) -> Caller | None:
        """The caller of a token; None when the token is not valid or its tenant is unknown.

        Raises:
            SigningKeysUnavailable: the JWKS was not read yet.
        """
        settings = self._settings
        if settings is None or token.count(b".") != 2 or len(token) > TOKEN_BYTES:
            return None
        digest = hashlib.sha256(token).digest()
        checked = self._checked.get(digest)
        if checked is not None:
            caller, until = checked
            return caller if self._clock() < until else None
        if self._keys is None:
            raise SigningKeysUnavailable
        claims = self._claims(token.decode("ascii", "replace"), settings)
        caller_of = None if claims is None else self._caller(claims, settings)
        if claims is not None and caller_of is not None:
            if len(self._checked) >= CHECKED:
                self._checked.clear()
            left = claims["exp"] + LEEWAY_SECONDS - claims["now"]
            self._checked[digest] = (caller_of, self._clock() + left)
        return caller_of

    def _claims(self, token: str, settings: JwtSettings) -> dict[str, Any] | None:
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key = (self._keys or {}).get(str(header.get("kid", "")))
            if key is None:
                self._unknown_key()
                return None
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                issuer=settings.issuer,
                audience=settings.audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            logger.debug("a token was rejected: %s", error)
            return None
        return {**claims, "now": time.time(), "exp": float(claims["exp"])}

    def _caller(self, claims: Mapping[str, Any], settings: JwtSettings) -> Caller | None:
        name = claims.get(settings.tenant_claim)
        if not isinstance(name, str) or not 0 < len(name) <= 63 or not name.isprintable():
            return None
        rights = self._tenants.get(name) or self._tenants.get(EVERY_OTHER)
        if rights is None:
            return None
        return replace(rights, tenant=name, key_id=str(claims.get("sub", ""))[:63])

    def _unknown_key(self) -> None:
        """The issuer may have a new key: read the JWKS soon, at most every few seconds."""
        self._refresh_at = min(self._refresh_at, self._read_at + UNKNOWN_KEY_SECONDS)

    async def run(self) -> None:
        """Read the JWKS when it is due, without end."""
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Read the JWKS if it is due; after a failure the earlier keys stay."""
        settings, now = self._settings, self._clock()
        if settings is None or now < self._refresh_at:
            return
        self._read_at = now
        try:
            keys = parse_jwks(await self._fetch(settings.jwks_url))
        except (OSError, ValueError) as error:
            logger.warning("JWKS %s cannot be used: %s", settings.jwks_url, error)
            self._refresh_at = self._clock() + RETRY_SECONDS
            return
        if settings == self._settings:
            if self._keys is not None and set(self._keys) - set(keys):
                self._checked.clear()  # a key was withdrawn
            self._keys = keys
            self._refresh_at = self._clock() + REFRESH_SECONDS


def parse_jwks(body: bytes) -> dict[str, Any]:
    """Public keys by their ``kid``; keys of other kinds are left out.

    Raises:
        ValueError: no JWKS.
    """
    import jwt

    document = parse_json(body, max_bytes=JWKS_BYTES)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the response is not a JWKS: {keys: [...]} is expected")  # noqa: TRY004
    found: dict[str, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        try:
            found[str(entry.get("kid", ""))] = jwt.PyJWK.from_json(json.dumps(entry))
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            logger.warning("a key of the JWKS is left out: %s", error)
    return found
