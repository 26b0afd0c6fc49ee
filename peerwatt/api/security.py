"""Identity of the HTTP API in one object: the registry, who is let in, tokens, rate limits, cursors.

::

    security = await Security.open(data, utc_now)            # nothing listens yet
    first = security.first_key                               # tell it once
    binding = check_binding(host, ..., live_keys=security.authenticator.live_keys, names=security.names)
    ...
    await security.housekeeping()                            # every few seconds
    await security.close()
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from core.errors import ServiceError
from peerwatt.api.outside import OutsideIssuer
from peerwatt.api.paging import Pager
from peerwatt.api.principal import Authenticator, Guard
from peerwatt.api.rate_limit import RateLimiter
from peerwatt.api.security_settings import SecuritySettings, read_settings
from peerwatt.api.tokens import TokenEndpoint, TokenIssuer
from peerwatt.clocks import Stopwatch
from peerwatt.store.first_start import FirstKey, first_admin_key
from peerwatt.store.registry import Registry
from peerwatt.store.secrets import kept_secret

REGISTRY_FILE = "registry.sqlite"
TOKEN_FILE = "token.key"
SETTINGS_FILE = "security.yaml"
KEPT = timedelta(days=365)
"""How long access-log lines, ended offers and dead keys are kept."""

_WRITE_USED_EVERY = timedelta(minutes=1)
_KEYS_EVERY = timedelta(minutes=5)
_KEYS_AT_LEAST = timedelta(seconds=30)
_PURGE_EVERY = timedelta(hours=6)

_log = logging.getLogger("peerwatt.api")


@dataclass(slots=True)
class Security:
    """Everything that `Security.open` made. ``names``: by which clients know the service, for `check_binding`."""

    registry: Registry
    authenticator: Authenticator
    limiter: RateLimiter
    guard: Guard
    tokens: TokenEndpoint
    pager: Pager
    outside: tuple[OutsideIssuer, ...]
    first_key: FirstKey | None
    names: tuple[str, ...]
    now: Callable[[], datetime]
    _due: dict[str, datetime]

    @classmethod
    async def open(
        cls,
        data: Path,
        now: Callable[[], datetime],
        *,
        registry: str | None = None,
        settings: SecuritySettings | None = None,
    ) -> Security:
        """Open the registry and what hangs on it; at the first start, make the admin's key.

        Parameters
        ----------
        data
            The service's folder: ``registry.sqlite``, ``token.key``, ``admin.key``; maybe ``security.yaml``.
        now
            The wall clock: ``peerwatt.clocks.utc_now``.
        registry
            ``postgresql://...`` instead of the file.
        settings
            Instead of those in ``security.yaml``.

        Raises
        ------
        ServiceError
            If one of these cannot be opened, or others can read a secret.
        """
        settings = settings or read_settings(data / SETTINGS_FILE)
        secret = kept_secret(data / TOKEN_FILE)
        opened = await Registry.open(registry or data / REGISTRY_FILE, now)
        try:
            first = await first_admin_key(opened, data, now)
            issuers = tuple(OutsideIssuer(config) for config in settings.outside)
            for one in issuers:
                await one.refresh()
            issuer = TokenIssuer(secret)
            authenticator = await Authenticator.open(opened, now, issuer, issuers)
        except BaseException:
            await opened.close()
            raise
        limiter = RateLimiter(Stopwatch().elapsed_s, settings.rates)
        return cls(
            opened,
            authenticator,
            limiter,
            Guard(authenticator, limiter),
            TokenEndpoint(opened, issuer, limiter, now),
            Pager(secret),
            issuers,
            first,
            settings.names,
            now,
            {},
        )

    async def housekeeping(self) -> None:
        """What is due now; to be called every few seconds. A database that is away is logged, and tried again."""
        try:
            await self.authenticator.refresh()
            if self._is_due("used", _WRITE_USED_EVERY):
                await self.authenticator.write_last_used()
            for number, one in enumerate(self.outside):
                if self._is_due(f"keys {number}", _KEYS_AT_LEAST if one.wants_keys else _KEYS_EVERY):
                    await one.refresh()
            if self._is_due("purge", _PURGE_EVERY):
                await self.registry.purge(self.now() - KEPT)
        except ServiceError as error:
            _log.warning("housekeeping of the registry has to wait: %s", error)

    def _is_due(self, what: str, every: timedelta) -> bool:
        now = self.now()
        last = self._due.get(what)
        if last is not None and now - last < every:
            return False
        self._due[what] = now
        return True

    async def close(self) -> None:
        """Write down what is still to be written, and close."""
        await self.authenticator.close()
        await self.registry.close()
