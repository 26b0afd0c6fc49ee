"""OAuth 2 client credentials (RFC 6749, 4.4): short tokens for a client's id and secret, and how they are verified.

The secret is one that was set for the client, or any of its API keys.

A token is a JWT (RFC 9068) signed with HMAC-SHA-256 by a key that only this service has. It carries the client's id
and the scopes; everything else is looked up at each use, so that a revoked client's token ends with the client.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets as random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus

import jwt
import msgspec
from starlette.responses import Response

from peerwatt.api.problems import refuse
from peerwatt.api.rate_limit import RateLimiter, place_of
from peerwatt.api.roles import ROLES
from peerwatt.store import secrets
from peerwatt.store.records import Client, RegistryError

if TYPE_CHECKING:
    from peerwatt.store.registry import Registry

LIFETIME = timedelta(minutes=15)
MAX_TOKEN_BYTES = 8_000
ISSUER = "peerwatt"
AUDIENCE = "peerwatt-api"

_ALGORITHM = "HS256"
_TYPE = "at+jwt"
_FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 20
_MOST_HASHING = 2
_MOST_WAITING = 20


class BadTokenError(Exception):
    """A token does not hold; the text says why, and nothing of the token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A verified token.

    ``scopes`` None: all of the role. ``version`` None: of any version of the client. ``principal`` is (role,
    participants, all participants) where the token itself says so instead of the registry.
    """

    client_id: str
    expires: datetime
    scopes: frozenset[str] | None = None
    version: int | None = None
    principal: tuple[str, frozenset[str], bool] | None = None

    def check_time(self, now: datetime) -> None:
        """BadTokenError if it has expired."""
        if now >= self.expires:
            raise BadTokenError("the token has expired")


def decoded(text: bytes, **how: Any) -> dict[str, Any]:
    """PyJWT's ``decode_complete``, with every failure as a BadTokenError; the clock is checked by the caller."""
    if len(text) > MAX_TOKEN_BYTES:
        raise BadTokenError("the token is too long")
    try:
        return jwt.decode_complete(text, **how)
    except jwt.ExpiredSignatureError as error:
        raise BadTokenError("the token has expired") from error
    # A hostile header or payload can also be deeply nested, or not be what JSON objects are made of.
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadTokenError("the token is malformed, not signed as it should be, or meant for somebody else") from error


def moment(claims: dict[str, Any], name: str) -> datetime:
    """A NumericDate claim; BadTokenError if it is none."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        raise BadTokenError("the token has a time that is none")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise BadTokenError("the token has a time that is none") from error


class TokenIssuer:
    """Makes and verifies the service's own tokens.

    Parameters
    ----------
    secret
        32 secret bytes; keep them over restarts with `peerwatt.store.secrets.kept_secret`.
    issuer, audience
        Names in the tokens.
    """

    def __init__(self, secret: bytes, *, issuer: str = ISSUER, audience: str = AUDIENCE) -> None:
        self._key = hmac.digest(secret, b"peerwatt token 1", "sha256")
        self._issuer = issuer
        self._audience = audience

    def issue(self, client: Client, scopes: frozenset[str], now: datetime, lifetime: timedelta = LIFETIME) -> str:
        """A token for a client, with these scopes."""
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": client.id,
            "client_id": client.id,
            "scope": " ".join(sorted(scopes)),
            "version": client.version,
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
            "jti": random.token_hex(16),
        }
        return jwt.encode(claims, self._key, _ALGORITHM, headers={"typ": _TYPE})

    def verify(self, text: bytes, now: datetime) -> Token:
        """The token, if it is one of ours and has not expired; BadTokenError otherwise."""
        whole = decoded(
            text,
            key=self._key,
            algorithms=[_ALGORITHM],
            audience=self._audience,
            issuer=self._issuer,
            options={
                "require": ["iss", "aud", "sub", "exp", "iat", "scope", "version"],
                "strict_aud": True,
                "verify_exp": False,  # by our own clock, below
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        claims = whole["payload"]
        if whole["header"].get("typ") != _TYPE or type(claims["version"]) is not int:
            raise BadTokenError("the token is of another kind")
        scopes = frozenset(str(claims["scope"]).split())
        token = Token(str(claims["sub"]), moment(claims, "exp"), scopes, claims["version"])
        token.check_time(now)
        return token

    @staticmethod
    def issuer_of(text: bytes) -> str:
        """Who a token says has made it, unverified: to choose who verifies it, and for nothing else."""
        claims = decoded(text, options={"verify_signature": False})["payload"]
        return str(claims.get("iss", ""))


# --- the endpoint -----------------------------------------------------------------------------------------------------


class _OAuthError(Exception):
    """An error of RFC 6749, section 5.2."""

    def __init__(self, error: str, description: str) -> None:
        self.error = error
        self.description = description
        super().__init__(error)

    def response(self) -> Response:
        headers = {"WWW-Authenticate": 'Basic realm="peerwatt"'} if self.error == "invalid_client" else {}
        status = 401 if self.error == "invalid_client" else 400
        return _json({"error": self.error, "error_description": self.description}, status, headers)


class TokenEndpoint:
    """``POST oauth/token``: answers RFC 6749 requests of type ``client_credentials``.

    Parameters
    ----------
    registry
        Where the clients are.
    issuer
        Signs the tokens.
    limiter
        Its group ``token`` counts attempts per network address.
    now
        The wall clock.
    """

    def __init__(
        self, registry: Registry, issuer: TokenIssuer, limiter: RateLimiter, now: Callable[[], datetime]
    ) -> None:
        self._registry = registry
        self._issuer = issuer
        self._limiter = limiter
        self._now = now
        self._hashing = asyncio.Semaphore(_MOST_HASHING)
        self._waiting = 0

    async def answer(
        self, body: bytes, *, content_type: str | None, authorization: str | None, address: str
    ) -> Response:
        """The whole answer. ``address`` is the client's network address.

        Raises
        ------
        Refusal
            429 after too many attempts, 503 if too many wait already.
        """
        standing = self._limiter.take("token", place_of(address))
        if standing.retry_after_s is not None:
            raise standing.refusal()
        try:
            form = _form(body, content_type)
            name, secret = _credentials(form, authorization)
            if form.get("grant_type") != "client_credentials":
                kind = "unsupported_grant_type" if "grant_type" in form else "invalid_request"
                raise _OAuthError(kind, "the grant type is client_credentials")
            client, lifetime = await self._client(name, secret)
            scopes = _narrowed(client, form.get("scope"))
        except _OAuthError as error:
            return error.response()
        return _json(
            {
                "access_token": self._issuer.issue(client, scopes, self._now(), lifetime),
                "token_type": "Bearer",
                "expires_in": int(lifetime.total_seconds()),
                "scope": " ".join(sorted(scopes)),
            },
            200,
        )

    async def _client(self, name: str, secret: str) -> tuple[Client, timedelta]:
        """The client with this secret, or with this API key as its secret, and how long its token may hold."""
        wrong = _OAuthError("invalid_client", "the client is unknown, has no secret, or the secret is wrong")
        before = await self._find(name)
        if secrets.key_id_of(secret.encode()) is not None:
            lifetime = await self._by_key(name, secret)
            fits = lifetime is not None
        else:
            kept = None if before is None else await self._registry.clients.secret_hash(name)
            lifetime, fits = LIFETIME, await self._fits(secret, kept)
        after = await self._find(name)
        if before is None or after is None or after.version != before.version:  # unknown, or changed meanwhile
            raise wrong
        if not fits or lifetime is None:
            raise wrong
        return after, lifetime

    async def _find(self, name: str) -> Client | None:
        try:
            client = await self._registry.clients.get(name)
        except RegistryError:
            return None
        return client if client.revoked is None else None

    async def _by_key(self, name: str, text: str) -> timedelta | None:
        """How long a token for a client's own API key may hold: no longer than the key. None if it is no such key."""
        try:
            key = await self._registry.clients.key((secrets.key_id_of(text.encode()) or b"").decode("ascii", "replace"))
        except RegistryError:
            return None
        now = self._now()
        fits = hmac.compare_digest(key.digest, hashlib.sha256(text.encode()).digest())
        if not fits or key.client != name or key.revoked is not None:
            return None
        left = LIFETIME if key.expires is None else min(LIFETIME, key.expires - now)
        return left if left >= timedelta(seconds=1) else None

    async def _fits(self, secret: str, kept: str | None) -> bool:
        """Whether a secret is the one kept; if none is, that takes as long to find out."""
        if self._waiting >= _MOST_WAITING:
            raise refuse("overloaded", headers=[("Retry-After", "2")])
        self._waiting += 1
        try:
            async with self._hashing:
                return await asyncio.to_thread(_compared, secret, kept)
        finally:
            self._waiting -= 1


def _compared(secret: str, kept: str | None) -> bool:
    fits = secrets.secret_fits(secret, kept or _nobodys_hash())
    return fits and kept is not None


@cache
def _nobodys_hash() -> str:
    return secrets.hash_secret(secrets.random_text())


def _form(body: bytes, content_type: str | None) -> dict[str, str]:
    if (content_type or "").partition(";")[0].strip().lower() != _FORM:
        raise _OAuthError("invalid_request", f"the body is {_FORM}")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_MAX_FIELDS,
            errors="strict",
        )  # fmt: skip
    except ValueError:
        raise _OAuthError("invalid_request", "the form cannot be read") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise _OAuthError("invalid_request", "a parameter stands there twice")
    return {name: value for name, value in form.items() if value}


def _credentials(form: dict[str, str], authorization: str | None) -> tuple[str, str]:
    """The client's id and secret."""
    if authorization is None:
        if "client_id" not in form or "client_secret" not in form:
            raise _OAuthError("invalid_client", "client_id and client_secret are needed")
        return form["client_id"], form["client_secret"]
    if "client_secret" in form:
        raise _OAuthError("invalid_request", "the client identifies itself in two ways")
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise _OAuthError("invalid_client", "use HTTP Basic, or client_id and client_secret in the form")
    try:
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise _OAuthError("invalid_client", "the Authorization header cannot be read")
    name, secret = unquote_plus(name), unquote_plus(secret)
    if form.get("client_id", name) != name:
        raise _OAuthError("invalid_request", "the form names another client")
    return name, secret


def _narrowed(client: Client, asked: str | None) -> frozenset[str]:
    """The scopes asked for, all of the role if none are."""
    allowed = ROLES[client.role].scopes
    if asked is None:
        return allowed
    scopes = frozenset(asked.split(" "))
    if not scopes <= allowed:
        raise _OAuthError("invalid_scope", f"a {client.role} cannot be given all of these scopes")
    return scopes


def _json(content: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> Response:
    told = {"Cache-Control": "no-store", "Pragma": "no-cache", **(headers or {})}
    return Response(msgspec.json.encode(content), status, told, media_type="application/json")
