"""Who asks: from the headers of a request to a principal, in about two microseconds for a key.

All live keys stand in memory, by the id that their text carries in the clear; what is compared, in constant time, are
SHA-256 digests. A change in the registry is in force before the call that makes it returns.

In a FastAPI route::

    Reader = Annotated[Principal, Depends(require("orders:read"))]

In a bare ASGI route: ``who = guard.check(scope, "orders:write", "orders")``, which is a principal or a `Refusal` to
send. Afterwards ``who.own(participant)`` or ``who.acting_for(participant)``: what is somebody else's is not found.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from peerwatt.api.outside import OutsideIssuer
from peerwatt.api.problems import Refusal, refuse
from peerwatt.api.rate_limit import RateLimiter, Standing
from peerwatt.api.roles import ROLES
from peerwatt.api.tokens import BadTokenError, Token, TokenIssuer
from peerwatt.store.records import ApiKey, Client, Identity
from peerwatt.store.registry import Registry
from peerwatt.store.secrets import key_id_of

EXCHANGE = "peerwatt.exchange"
"""Where a request's `Exchange` stands in its ASGI scope."""

MAX_TOKENS = 10_000
"""Verified tokens remembered at most."""

_REALM = 'Bearer realm="peerwatt"'


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody known: what it may do, and for whom. ``participants`` are its own; empty = none."""

    client_id: str
    role: str
    scopes: frozenset[str]
    participants: frozenset[str]
    all_participants: bool

    def may(self, scope: str) -> bool:
        """Whether it may do something."""
        return scope in self.scopes

    def sees(self, participant: str) -> bool:
        """Whether a participant's objects are its to see."""
        return self.all_participants or participant in self.participants

    def own(self, participant: str) -> str:
        """The participant, if it is its to see.

        Raises
        ------
        Refusal
            404, the same as for a participant that does not exist.
        """
        if not self.sees(participant):
            raise refuse("unknown_participant")
        return participant

    def acting_for(self, participant: str | None) -> str:
        """For whom it acts: the one named, or its only one.

        Raises
        ------
        Refusal
            404 if it does not act for the one named; 422 if it has to name one.
        """
        if participant is not None:
            return self.own(participant)
        if len(self.participants) == 1 and not self.all_participants:
            return next(iter(self.participants))
        raise refuse("invalid", errors=[("/participant", "say for which participant")])


@dataclass(slots=True)
class Exchange:
    """What is known of a request so far; `peerwatt.api.headers.Shield` makes one and tells the rate limit from it."""

    principal: Principal | None = None
    standing: Standing | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """A live key."""

    id: str
    digest: bytes
    expires: datetime | None
    principal: Principal


@dataclass(frozen=True, slots=True)
class _Known:
    """A live client, and the ids of its keys."""

    client: Client
    principal: Principal
    keys: tuple[bytes, ...]


class Authenticator:
    """Knows every live client; made with `Authenticator.open`.

    Parameters
    ----------
    registry
        Where clients and keys are kept.
    now
        The wall clock.
    issuer
        Of the service's own tokens.
    outside
        Issuers elsewhere whose tokens are taken.
    """

    def __init__(
        self,
        registry: Registry,
        now: Callable[[], datetime],
        issuer: TokenIssuer,
        outside: Sequence[OutsideIssuer] = (),
    ) -> None:
        self._registry = registry
        self._now = now
        self._issuer = issuer
        self._outside = {one.config.issuer: one for one in outside}
        self._clients: dict[str, _Known] = {}
        self._keys: dict[bytes, _Held] = {}
        self._tokens: OrderedDict[bytes, tuple[Token, Principal, _Known | None]] = OrderedDict()
        self._used: dict[str, datetime] = {}
        self._number = -1  # up to which all changes are known
        self._heard = -1  # the last one of our own
        self._end: Callable[[], None] = lambda: None

    @classmethod
    async def open(
        cls,
        registry: Registry,
        now: Callable[[], datetime],
        issuer: TokenIssuer,
        outside: Sequence[OutsideIssuer] = (),
    ) -> Authenticator:
        """Read all clients, and follow their changes from now on."""
        opened = cls(registry, now, issuer, outside)
        opened._end = registry.clients.subscribe(opened._changed)
        await opened.refresh()
        return opened

    async def refresh(self) -> None:
        """Take over changes that another process made in the registry; cheap if there are none."""
        if await self._registry.clients.change_number() == self._number:
            return
        identities, number = await self._registry.clients.identities()
        while number < self._heard:  # a change of our own came in while this was read, and must not be undone
            identities, number = await self._registry.clients.identities()
        for gone in set(self._clients) - {one.client.id for one in identities}:
            self._put(gone, None)
        for one in identities:
            self._put(one.client.id, one)
        self._number = number

    async def close(self) -> None:
        """Stop following, and write down when keys were last used."""
        self._end()
        await self.write_last_used()

    async def write_last_used(self) -> None:
        """Write down when keys were last used; to be called every minute or so."""
        used, self._used = self._used, {}
        await self._registry.clients.note_used(used)

    @property
    def live_keys(self) -> int:
        """How many keys open anything at this moment."""
        now = self._now()
        return sum(1 for held in self._keys.values() if held.expires is None or held.expires > now)

    # --- a request ----------------------------------------------------------------------------------------------------

    def authenticate(self, authorization: bytes | None, api_key: bytes | None) -> Principal | Refusal:
        """Who sent these header values (``Authorization: Bearer ...`` or ``X-API-Key``), or why that is not known."""
        if authorization is None:
            if api_key is None:
                return refuse("not_authenticated", headers=[("WWW-Authenticate", _REALM)])
            return self._by_key(api_key)
        if api_key is not None:
            return refuse("two_credentials")
        scheme, _, text = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return refuse(
                "not_authenticated", "use Authorization: Bearer, or X-API-Key", headers=[("WWW-Authenticate", _REALM)]
            )
        return self._by_key(text) if text.startswith(b"pw_") else self._by_token(text)

    def _by_key(self, text: bytes) -> Principal | Refusal:
        name = key_id_of(text)
        held = None if name is None else self._keys.get(name)
        if held is None or not hmac.compare_digest(hashlib.sha256(text).digest(), held.digest):
            return _bad("the key is unknown or was revoked")
        now = self._now()
        if held.expires is not None and held.expires <= now:
            return _bad("the key has expired")
        self._used[held.id] = now
        return held.principal

    def _by_token(self, text: bytes) -> Principal | Refusal:
        digest = hashlib.sha256(text).digest()
        try:
            found = self._tokens.get(digest)
            if found is None:
                return self._verified(text, digest)
            found[0].check_time(self._now())
            return found[1]  # a token whose client changed meanwhile is not in there any more
        except BadTokenError as error:
            self._tokens.pop(digest, None)
            return _bad(str(error))

    def _verified(self, text: bytes, digest: bytes) -> Principal:
        outside = self._outside.get(self._issuer.issuer_of(text)) if self._outside else None
        token = (outside or self._issuer).verify(text, self._now())
        known: _Known | None = None
        if token.principal is not None:
            role, participants, everybody = token.principal
            principal = _principal(token.client_id, role, participants, everybody=everybody)
        else:
            known = self._clients.get(token.client_id)
            if known is None or (token.version is not None and token.version != known.client.version):
                raise BadTokenError("the token's client was revoked or changed")
            principal = known.principal
        if token.scopes is not None:
            principal = replace(principal, scopes=principal.scopes & token.scopes)
        self._tokens[digest] = (token, principal, known)
        if len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)
        return principal

    # --- changes ------------------------------------------------------------------------------------------------------

    def _changed(self, client: str, identity: Identity | None, number: int) -> None:
        self._put(client, identity)
        self._heard = number
        if number == self._number + 1:  # else another process changed something, too: `refresh` has to look
            self._number = number

    def _put(self, client: str, identity: Identity | None) -> None:
        old = self._clients.pop(client, None)
        if old is not None:
            for name in old.keys:
                self._keys.pop(name, None)
            for digest in [digest for digest, (_, _, known) in self._tokens.items() if known is old]:
                del self._tokens[digest]
        if identity is None:
            self._used = {name: at for name, at in self._used.items() if name.encode() in self._keys}
            return
        found = identity.client
        principal = _principal(found.id, found.role, found.participants, everybody=found.everybody)
        held = {key.id.encode(): _held(key, principal) for key in identity.keys}
        self._keys.update(held)
        self._clients[client] = _Known(found, principal, tuple(held))


def _held(key: ApiKey, principal: Principal) -> _Held:
    return _Held(key.id, key.digest, key.expires, principal)


def _principal(client: str, role: str, participants: frozenset[str], *, everybody: bool) -> Principal:
    what = ROLES.get(role)
    if what is None:  # of a newer version, maybe: known, and allowed nothing
        return Principal(client, role, frozenset(), frozenset(), all_participants=False)
    return Principal(client, role, what.scopes, participants, everybody or what.reach == "all")


def _bad(detail: str) -> Refusal:
    return refuse("bad_credentials", detail, headers=[("WWW-Authenticate", f'{_REALM}, error="invalid_token"')])


class Guard:
    """Lets a request pass, or not: who asks, whether it may, and not too often."""

    def __init__(self, authenticator: Authenticator, limiter: RateLimiter) -> None:
        self.authenticator = authenticator
        self.limiter = limiter

    def check(
        self, scope: MutableMapping[str, Any], needs: str | None, group: str = "read", cost: int = 1
    ) -> Principal | Refusal:
        """The principal of a request, or the refusal to send.

        Parameters
        ----------
        scope
            The request's ASGI scope.
        needs
            Scope of ``SCOPES`` that the route asks for; None: anybody known.
        group
            Rate limit it counts for, of ``RATES``.
        cost
            How many requests it counts as.
        """
        authorization = api_key = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if authorization is not None:
                    return refuse("two_credentials")
                authorization = value
            elif name == b"x-api-key":
                if api_key is not None:
                    return refuse("two_credentials")
                api_key = value
        principal = self.authenticator.authenticate(authorization, api_key)
        if isinstance(principal, Refusal):
            return principal
        standing = self.limiter.take(group, principal.client_id, cost)
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is not None:
            exchange.principal, exchange.standing = principal, standing
        if standing.retry_after_s is not None:
            return standing.refusal()
        if needs is not None and needs not in principal.scopes:
            told = f'{_REALM}, error="insufficient_scope", scope="{needs}"'
            return refuse("forbidden", f"it needs the scope {needs}", headers=[("WWW-Authenticate", told)])
        return principal


_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="An API key, or a token of `oauth/token`.")
_API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="api_key", description="An API key.")


def require(needs: str | None, group: str = "read") -> Callable[..., Awaitable[Principal]]:
    """A FastAPI dependency: the principal, if it has the scope ``needs`` and does not ask too often.

    The app needs ``app.state.guard``. The OpenAPI document then names both ways to send a credential.
    """

    async def principal(
        request: Request,
        _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)] = None,
        _api_key: Annotated[str | None, Security(_API_KEY)] = None,
    ) -> Principal:
        guard: Guard = request.app.state.guard
        found = guard.check(request.scope, needs, group)
        if isinstance(found, Refusal):
            raise found
        return found

    return principal


def is_local(scope: Mapping[str, Any]) -> bool:
    """Whether a request comes from this machine itself, and not from a proxy on it for somebody else."""
    client = scope.get("client")
    if not client or any(name in (b"forwarded", b"x-forwarded-for") for name, _ in scope["headers"]):
        return False
    try:
        return ip_address(client[0]).is_loopback
    except ValueError:
        return False
