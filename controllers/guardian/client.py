"""The guardian as other processes see it: over its local socket, for as long as they live.

Leases belong to the connection: when it ends, by whatever cause, they are gone and the devices are at rest again within
two cycles. So a client that holds leases stays connected; `GuardianClient` sends a sign of life by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from controllers.guardian.messages import LINE_BYTES, BadLine, from_line, reading_in, to_line
from core import DeviceError
from core.quality import Reading

_SIGNS_PER_SILENCE = 4
_WATCH_QUEUE = 256


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """What came of asking for a lease.

    Parameters
    ----------
    granted
        Whether it is held now.
    lease
        Its number, for `GuardianClient.release`; empty when refused.
    value
        What is held: the value asked for, or the nearest that may be where the device is set to clamp. None if refused.
    expires_in_s
        How long it lives [s]; 0 when refused.
    code, message
        Why it was refused (`controllers.guardian.messages.Refused`) or changed; empty otherwise.
    holder
        Who holds it, if somebody else does: ``{"owner", "level", "value", "expires_in_s"}``.
    """

    granted: bool
    lease: str
    value: float | None
    expires_in_s: float
    code: str
    message: str
    holder: Mapping[str, Any] | None


class GuardianError(DeviceError):
    """The guardian refused a request; ``code`` is one of `controllers.guardian.messages.Refused`."""

    def __init__(self, message: str, code: str) -> None:
        self.code = code
        super().__init__(message, local=True)


class GuardianClient:
    """One connection to a guardian.

    Use as ``async with GuardianClient(socket, "market") as guardian``; every method raises `core.DeviceError` (remote)
    when the guardian cannot be reached or does not answer, and `GuardianError` when it says no.

    Parameters
    ----------
    socket
        ``guardian.sock`` of the site (`controllers.guardian.settings.SiteSettings.socket`).
    name
        Who is calling; stands in the journal.
    timeout_s
        Longest wait for an answer [s].
    """

    def __init__(self, socket: Path, name: str, *, timeout_s: float = 5.0) -> None:
        self._path = socket
        self._name = name
        self._timeout_s = timeout_s
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._watchers: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as one can know."""
        return self._writer is not None and not self._writer.is_closing()

    async def open(self) -> None:
        """Connect and say who is calling."""
        try:
            reader, self._writer = await asyncio.open_unix_connection(self._path, limit=LINE_BYTES)
        except OSError as error:
            raise DeviceError(
                f"no guardian answers at {self._path}: {error.strerror or error}",
                local=False,
                remedy="start it with `peerwatt guardian SITE.yaml`, as the same user",
            ) from error
        self._tasks.add(asyncio.create_task(self._listen(reader)))
        hello = await self._ask("hello", name=self._name)
        self._tasks.add(asyncio.create_task(self._live(float(hello["silent_s"]) / _SIGNS_PER_SILENCE)))

    async def close(self) -> None:
        """End the connection, and with it every lease."""
        writer, self._writer = self._writer, None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._gone("the connection was closed")
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- looking ------------------------------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """The site: cycle figures, modes, alarms (docs/guardian.md, ``status``)."""
        return await self._ask("status")

    async def devices(self) -> list[dict[str, Any]]:
        """Every device: mode, identity, ratings, controls and who holds them (docs/guardian.md, ``devices``)."""
        return list((await self._ask("devices"))["devices"])

    async def measure(self, device: str) -> dict[str, Reading]:
        """The latest readings of a device, dated on this process's monotonic clock, each with its quality."""
        answer = await self._ask("measure", device=device)
        now_s = asyncio.get_running_loop().time()
        return {name: reading_in(reading, now_s) for name, reading in answer["readings"].items()}

    async def metrics(self) -> list[dict[str, Any]]:
        """Figures for Prometheus: ``{"name", "kind", "help", "labels", "value"}``, units in the names."""
        return list((await self._ask("metrics"))["metrics"])

    async def watch(self) -> AsyncIterator[dict[str, Any]]:
        """Events as they happen (cycle, lease, mode, alarm, stop), until the connection ends.

        Whoever is slow loses events, and is told how many by the next one's ``lost``.
        """
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_WATCH_QUEUE)
        self._watchers.add(queue)
        try:
            await self._ask("watch")
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._watchers.discard(queue)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def lease(
        self, device: str, control: str, value: float, *, level: str, owner: str, ttl_s: float, key: str = ""
    ) -> LeaseAnswer:
        """Ask to hold ``control`` of ``device`` at ``value`` for ``ttl_s`` [s]. A refusal is an answer, no error.

        Parameters
        ----------
        device, control, value
            What; unit and sign as in `hardware.driver.CONTROLS`.
        level
            ``operator``, ``person``, ``flexibility``, ``market`` or ``optimiser``.
        owner
            Who it is for; asking again as the same owner renews or changes the lease.
        ttl_s
            How long [s], > 0.
        key
            Idempotency key: asked twice, answered alike, done once. Empty draws a fresh one.
        """
        answer = await self._ask(
            "lease",
            refusal_is_answer=True,
            device=device,
            control=control,
            value=value,
            level=level,
            owner=owner,
            ttl_s=ttl_s,
            key=key or uuid.uuid4().hex,
        )
        return LeaseAnswer(
            granted=bool(answer["ok"]),
            lease=str(answer.get("lease", "")),
            value=answer.get("value"),
            expires_in_s=float(answer.get("expires_in_s", 0.0)),
            code=str(answer.get("code", "")),
            message=str(answer.get("message", "")),
            holder=answer.get("holder"),
        )

    async def release(self, lease: str) -> None:
        """Give a lease back before its time."""
        await self._ask("release", lease=lease)

    async def mode(self, device: str, mode: str, who: str) -> dict[str, str]:
        """Bring a device, or all (``"all"``), into a mode: ``observe``, ``rehearse``, ``armed``; ``who`` is a person.

        Returns the modes by device. Refused as a whole if one of them cannot (`GuardianError` says which and why).
        """
        return dict((await self._ask("mode", device=device, mode=mode, who=who))["modes"])

    async def clear(self, device: str, who: str) -> dict[str, str]:
        """Take a device, or all, out of lockout into observe; ``who`` is the person who looked why."""
        return dict((await self._ask("clear", device=device, who=who))["modes"])

    async def stop(self, reason: str, who: str) -> dict[str, Any]:
        """Stop everything (over this socket; `stop_site` is the way that needs no session)."""
        return await self._ask("stop", reason=reason, who=who)

    def device(self, device: str, *, level: str, owner: str, ttl_s: float = 10.0) -> GuardianDevice:
        """A device as the capability protocols see it (`hardware.capabilities`)."""
        return GuardianDevice(self, device, level=level, owner=owner, ttl_s=ttl_s)

    # --- the connection -----------------------------------------------------------------------------------------------

    async def _ask(self, op: str, *, refusal_is_answer: bool = False, **fields: Any) -> dict[str, Any]:
        if self._writer is None or self._writer.is_closing():
            raise DeviceError("the guardian is not connected", local=False, remedy="open the client again")
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            line = to_line({"id": number, "op": op, **fields})
        except (ValueError, TypeError) as error:
            self._waiting.pop(number)
            raise GuardianError(f"the request cannot be sent: {error}", "bad-request") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                self._writer.write(line)
                await self._writer.drain()
                message = await answer
        except TimeoutError as error:
            raise DeviceError(f"the guardian did not answer in {self._timeout_s:g} s", local=False) from error
        except OSError as error:
            raise DeviceError(f"the guardian is gone: {error}", local=False) from error
        finally:
            self._waiting.pop(number, None)
        if not message["ok"] and not refusal_is_answer:
            raise GuardianError(str(message.get("message", "")), str(message.get("code", "")))
        return message

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(from_line(line))
        except (OSError, ValueError, BadLine):
            pass
        if self._writer is not None:
            self._writer.close()
        self._gone("the guardian ended the connection")

    def _take(self, message: dict[str, Any]) -> None:
        if "event" not in message:
            waiting = self._waiting.get(message.get("id", 0))
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
            return
        for queue in self._watchers:
            if queue.full():
                queue.get_nowait()
                message = {**message, "lost": message.get("lost", 0) + 1}
            queue.put_nowait(message)

    def _gone(self, why: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(DeviceError(why, local=False))
        for queue in self._watchers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    async def _live(self, every_s: float) -> None:
        with contextlib.suppress(DeviceError):
            while True:
                await asyncio.sleep(every_s)
                await self._ask("ping")


class GuardianDevice:
    """A device behind the guardian, with the methods of `hardware.capabilities`: each order is a lease of ``ttl_s``."""

    def __init__(self, client: GuardianClient, device: str, *, level: str, owner: str, ttl_s: float) -> None:
        self._client = client
        self._device = device
        self._level = level
        self._owner = owner
        self._ttl_s = ttl_s

    async def measure(self) -> Mapping[str, Reading]:
        """Every value now."""
        return await self._client.measure(self._device)

    async def limit_feed_in(self, limit_w: float) -> None:
        """Feed in at most ``limit_w`` [W, >= 0]."""
        await self._hold("limit_w", limit_w)

    async def charge_at(self, power_w: float) -> None:
        """Charge at ``power_w`` [W]; negative discharges."""
        await self._hold("power_w", power_w)

    async def shed(self, *, shed: bool) -> None:
        """Shed a load, or let it run."""
        await self._hold("shed", float(shed))

    async def limit_current(self, limit_a: float) -> None:
        """Charge a car with at most ``limit_a`` per phase [A]; 0 pauses."""
        await self._hold("charge_current_a", limit_a)

    async def _hold(self, control: str, value: float) -> None:
        answer = await self._client.lease(
            self._device, control, value, level=self._level, owner=self._owner, ttl_s=self._ttl_s
        )
        if not answer.granted:
            raise GuardianError(answer.message, answer.code)


async def stop_site(stop_socket: Path, reason: str, who: str, *, timeout_s: float = 5.0) -> dict[str, Any]:
    """Stop everything, over the socket made for it: no session, no queue, one line.

    Returns ``{"ok", "devices", "safe", "failed": {device: why}, "took_s"}``; ``ok`` says that all are safe.

    Raises
    ------
    DeviceError
        If nobody answers there (remote): then the devices' own timers are what is left.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(stop_socket)
            writer.write(to_line({"reason": reason, "who": who}))
            await writer.drain()
            answer = from_line(await reader.readline())
            writer.close()
            return answer
    except (OSError, TimeoutError, BadLine) as error:
        raise DeviceError(
            f"no guardian answers at {stop_socket}: {error or type(error).__name__}",
            local=False,
            remedy="use the switch: the devices fall back by their own timers",
        ) from error
