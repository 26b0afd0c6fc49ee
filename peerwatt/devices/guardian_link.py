"""The service's way to a guardian: one connection that comes back by itself, over the guardian's local socket.

The guardian owns the devices. What is asked for in here is a lease of limited life; when the connection ends, for
whatever reason, the guardian takes every lease back and brings the devices to rest. The stop goes over a socket of its
own, and needs no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from core import DeviceError, Reading

if TYPE_CHECKING:
    from controllers.guardian.client import GuardianClient, LeaseAnswer

STOP_SOCKET = "stop.sock"
"""Name of the socket that stops everything; it lies beside the other one."""

T = TypeVar("T")

_TIMEOUT_S = 3.0
_AGAIN_S = 0.5
_PATIENCE = 2.0
"""So many times as long as an attempt has taken in vain, until the next one."""


class GuardianLink:
    """A guardian as several tasks of one event loop use it.

    Every method raises `core.DeviceError`: remote if no guardian answers, `controllers.guardian.client.GuardianError`
    if it says no.

    Parameters
    ----------
    socket
        Its ``guardian.sock``.
    name
        Who is calling; stands in the guardian's journal.
    """

    def __init__(self, socket: Path, name: str) -> None:
        self.socket = socket
        self._name = name
        self._client: GuardianClient | None = None
        self._opening = asyncio.Lock()
        self._again_at_s = float("-inf")
        self._failure = ""
        self._leases: dict[tuple[str, str, str], str] = {}

    async def _open(self) -> GuardianClient:
        from controllers.guardian.client import GuardianClient

        async with self._opening:
            begun_s = asyncio.get_running_loop().time()
            if begun_s < self._again_at_s:  # many callers, one attempt
                raise DeviceError(self._failure, local=False, remedy="start it with `peerwatt guardian SITE.yaml`")
            if self._client is not None and self._client.connected:
                return self._client
            if self._client is not None:
                await self._client.close()
            self._leases.clear()  # they ended with the connection
            client = GuardianClient(self.socket, self._name, timeout_s=_TIMEOUT_S)
            try:
                await client.open()
            except DeviceError as error:
                await client.close()
                self._client = None
                self._wait(error, begun_s, _AGAIN_S)
                raise
            self._client = client
            return client

    def _wait(self, error: DeviceError, begun_s: float, least_s: float) -> None:
        """Ask nothing for a while: a guardian that hangs must not cost every caller its patience."""
        now_s = asyncio.get_running_loop().time()
        self._failure, self._again_at_s = error.message, now_s + max(least_s, _PATIENCE * (now_s - begun_s))

    async def _asked(self, client: GuardianClient, ask: Callable[[GuardianClient], Awaitable[T]]) -> T:
        """An answer of the guardian; one that is not given in time is not waited for by the next callers."""
        begun_s = asyncio.get_running_loop().time()
        try:
            return await ask(client)
        except DeviceError as error:
            if not error.local and asyncio.get_running_loop().time() - begun_s >= _TIMEOUT_S:
                self._wait(error, begun_s, _AGAIN_S)
            raise

    async def close(self) -> None:
        """End the connection, and with it every lease."""
        client, self._client = self._client, None
        self._leases.clear()
        if client is not None:
            await client.close()

    async def _looked(self, look: Callable[[GuardianClient], Awaitable[T]]) -> T:
        """Look, and once more over a new connection if the guardian ended the old one meanwhile. Never for orders."""
        client = await self._open()
        try:
            return await self._asked(client, look)
        except DeviceError as error:
            if error.local or client.connected:
                raise
        await asyncio.sleep(_AGAIN_S)
        return await self._asked(await self._open(), look)

    async def status(self) -> dict[str, Any]:
        """The site (docs/guardian.md, ``status``)."""
        return await self._looked(lambda client: client.status())

    async def devices(self) -> list[dict[str, Any]]:
        """Every device (docs/guardian.md, ``devices``)."""
        return await self._looked(lambda client: client.devices())

    async def measure(self, device: str) -> Mapping[str, Reading]:
        """Its latest readings, dated on this loop's clock."""
        return await self._looked(lambda client: client.measure(device))

    async def metrics(self) -> list[dict[str, Any]]:
        """The guardian's own figures."""
        return await self._looked(lambda client: client.metrics())

    async def hold(
        self, device: str, control: str, value: float, *, level: str, owner: str, ttl_s: float, key: str = ""
    ) -> LeaseAnswer:
        """Ask for a lease; a refusal is an answer."""
        client = await self._open()

        def ask(client: GuardianClient) -> Awaitable[LeaseAnswer]:
            return client.lease(device, control, value, level=level, owner=owner, ttl_s=ttl_s, key=key)

        answer = await self._asked(client, ask)
        if answer.granted:
            self._leases[device, control, owner] = answer.lease
        return answer

    async def release(self, device: str, control: str, owner: str) -> bool:
        """Give a lease back; False if none is known (it may have expired, or ended with a connection)."""
        client = await self._open()
        lease = self._leases.pop((device, control, owner), None)
        if lease is None:
            return False
        await client.release(lease)
        return True

    async def mode(self, device: str, mode: str, who: str) -> Mapping[str, str]:
        """Bring a device into a mode; the modes by device."""
        return await (await self._open()).mode(device, mode, who)

    async def stop(self, reason: str, who: str) -> dict[str, Any]:
        """Stop everything, over the socket that is made for it: no session, no queue, whatever the market does."""
        from controllers.guardian.client import stop_site

        return await stop_site(self.socket.with_name(STOP_SOCKET), reason, who)
