"""Tokens of an issuer elsewhere (an organisation's login service), if the operator names one.

Issuer, audience and algorithm are the operator's, not the token's; keys come from a JWKS file or address (RFC 7517).
Who a token stands for is either a client of the registry, or said by claims that the operator maps to roles.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import jwt

from core.errors import ServiceError
from peerwatt.api.roles import ROLES
from peerwatt.api.tokens import BadTokenError, Token, decoded, moment
from peerwatt.store.clients import PARTICIPANT_ID

ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
"""Signatures with a public key; a shared secret would let whoever verifies tokens also make them."""

_SKEW = timedelta(seconds=60)
_MAX_JWKS_BYTES = 200_000
_FETCH_TIMEOUT_S = 10.0
_LOCAL = ("localhost", "127.0.0.1", "::1")

_log = logging.getLogger("peerwatt.api")


@dataclass(frozen=True, slots=True)
class OutsideConfig:
    """Whose tokens are taken, and what they mean.

    Parameters
    ----------
    name
        Short name, in front of the ids of clients that the registry does not know.
    issuer, audience, algorithm
        What a token must say; the algorithm is one of ``ALGORITHMS``.
    jwks
        File or https address of the public keys.
    client_claim
        Names the client: one of the registry if ``role_claim`` is None.
    role_claim, roles
        Claim, and what its values (or those in its list) mean: value -> role.
    participants_claim
        Ids of the participants that it acts for; only for roles that act for some by name.
    scope_claim
        Scopes, separated by spaces, that the token is narrowed to; None: all of the role.
    """

    name: str
    issuer: str
    audience: str
    algorithm: str
    jwks: str
    client_claim: str = "sub"
    role_claim: str | None = None
    roles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    participants_claim: str | None = None
    scope_claim: str | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ServiceError(
                f"tokens of {self.issuer} cannot be signed with {self.algorithm!r}",
                remedy=f"one of {', '.join(ALGORITHMS)}",
            )
        if not (self.issuer and self.audience and self.name):
            raise ServiceError("an outside issuer needs a name, an issuer and an audience")
        if unknown := sorted(set(self.roles.values()) - set(ROLES)):
            raise ServiceError(f"there is no role {unknown[0]!r}", remedy=f"one of {', '.join(ROLES)}")
        if "://" in self.jwks:
            parts = urlsplit(self.jwks)
            if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
                raise ServiceError(f"keys are not fetched in the clear: {self.jwks}", remedy="give an https address")


class OutsideIssuer:
    """Verifies the tokens of one issuer. Call `refresh` at the start, and every few minutes.

    A token with a key that is not known yet is refused and makes ``wants_keys`` true.
    """

    def __init__(self, config: OutsideConfig) -> None:
        self.config = config
        self.wants_keys = True
        self._keys: dict[str, jwt.PyJWK] = {}

    async def refresh(self) -> None:
        """Read the keys anew; the old ones stay if that fails.

        Raises
        ------
        ServiceError
            If there are none at all.
        """
        try:
            raw = await self._fetch()
            if len(raw) > _MAX_JWKS_BYTES:
                raise ValueError("there is too much of it")
            keys = _usable(raw, self.config.algorithm)
            if not keys:
                raise ValueError(f"no key in it is for {self.config.algorithm}")
        except (OSError, ValueError, TypeError, jwt.PyJWTError) as error:
            if not self._keys:
                raise ServiceError(
                    f"the keys of {self.config.issuer} cannot be read from {self.config.jwks}: {error}",
                    remedy="mend the address or file, or take the issuer out of the settings",
                ) from error
            _log.warning("the keys of %s stay as they are: %s", self.config.issuer, error)
            return
        self._keys, self.wants_keys = keys, False

    async def _fetch(self) -> bytes:
        if "://" not in self.config.jwks:
            return await asyncio.to_thread(Path(self.config.jwks).read_bytes)
        import httpx

        try:
            async with (
                httpx.AsyncClient(timeout=_FETCH_TIMEOUT_S, follow_redirects=False) as client,
                client.stream("GET", self.config.jwks) as response,
            ):
                response.raise_for_status()
                raw = b""
                async for part in response.aiter_bytes():
                    raw += part
                    if len(raw) > _MAX_JWKS_BYTES:
                        break
                return raw
        except httpx.HTTPError as error:
            raise OSError(str(error) or type(error).__name__) from error

    def verify(self, text: bytes, now: datetime) -> Token:
        """The token, if it is one of this issuer's for us, and valid now; BadTokenError otherwise."""
        header = decoded(text, options={"verify_signature": False})["header"]
        key = self._key(header.get("kid"))
        whole = decoded(
            text,
            key=key.key,
            algorithms=[self.config.algorithm],
            audience=self.config.audience,
            issuer=self.config.issuer,
            options={
                "require": ["iss", "aud", "exp", "iat", self.config.client_claim],
                "verify_exp": False,  # by our own clock, below
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        claims = whole["payload"]
        if moment(claims, "iat") > now + _SKEW or ("nbf" in claims and moment(claims, "nbf") > now + _SKEW):
            raise BadTokenError("the token does not hold yet")
        token = self._read(claims)
        token.check_time(now)
        return token

    def _key(self, kid: object) -> jwt.PyJWK:
        if isinstance(kid, str) and kid in self._keys:
            return self._keys[kid]
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        self.wants_keys = True
        raise BadTokenError("the token's key is not known")

    def _read(self, claims: dict[str, Any]) -> Token:
        client = claims[self.config.client_claim]
        if not isinstance(client, str) or not client or len(client) > 100 or not client.isprintable():
            raise BadTokenError("the token names no client")
        scopes = None
        if self.config.scope_claim is not None:
            listed = claims.get(self.config.scope_claim)
            scopes = frozenset(listed.split() if isinstance(listed, str) else ())
        expires = moment(claims, "exp")
        if self.config.role_claim is None:
            return Token(client, expires, scopes)
        said = claims.get(self.config.role_claim)
        values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        roles = {self.config.roles[value] for value in values if isinstance(value, str) and value in self.config.roles}
        if len(roles) != 1:
            raise BadTokenError("the token's claims stand for no role here, or for several")
        role = roles.pop()
        stands_for = (role, self._participants(claims, role), False)
        return Token(f"{self.config.name}:{client}", expires, scopes, None, stands_for)

    def _participants(self, claims: dict[str, Any], role: str) -> frozenset[str]:
        reach = ROLES[role].reach
        if self.config.participants_claim is None or reach in ("all", "none"):
            return frozenset()
        said = claims.get(self.config.participants_claim)
        values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        names = frozenset(value for value in values if isinstance(value, str) and PARTICIPANT_ID.fullmatch(value))
        if reach == "one" and len(names) != 1:
            raise BadTokenError("the token does not say for which participant")
        return names


def _usable(raw: bytes, algorithm: str) -> dict[str, jwt.PyJWK]:
    """Public keys for checking signatures of this algorithm, by id. A key without an id counts only if it is alone."""
    found = json.loads(raw)
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is no set of keys")
    fitting: list[tuple[str, jwt.PyJWK]] = []
    for entry in entries:
        if (
            isinstance(entry, dict)
            and entry.get("use", "sig") == "sig"
            and entry.get("alg", algorithm) == algorithm
            and "d" not in entry  # a private key has no business here
        ):
            try:
                fitting.append((str(entry.get("kid", "")), jwt.PyJWK.from_dict(entry, algorithm)))
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                continue  # of another kind
    return {kid: key for kid, key in fitting if kid or len(fitting) == 1}
