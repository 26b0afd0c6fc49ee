"""Tries at a live broker whether it keeps strangers out and participants apart.

Nothing is done to the market: what is tried is said on topics that nobody listens to, or is no valid request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core.errors import ServiceError
from hardware.mqtt.messages import Incoming, Message, Subscription
from hardware.mqtt.settings import BrokerSettings
from peerwatt.gateway import topics as t

if TYPE_CHECKING:
    from hardware.mqtt.connection import Connection, Receipt

_REMEDY = "give the broker the file that `peerwatt mqtt acl` writes, and send it SIGHUP"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was tried, and what to do if it went wrong."""

    name: str
    ok: bool
    detail: str = ""


async def check_broker(settings: BrokerSettings, passwords: Mapping[str, str]) -> list[CheckResult]:
    """Try it.

    Parameters
    ----------
    settings
        Address of the broker, with patience.
    passwords
        Passwords of participants; with two of them it is tried whether they are kept apart.

    Raises
    ------
    ServiceError
        If the broker cannot be reached, or does not take one of the accounts.
    """
    names = list(passwords)
    found = [await _stranger(settings, "no anonymous clients", None, None, names, passwords)]
    if names:
        wrong = passwords[names[0]] + "-wrong"
        found.append(await _stranger(settings, "no wrong passwords", names[0], wrong, names, passwords))
    if len(names) >= 2:
        for one, other in ((names[0], names[1]), (names[1], names[0])):
            found += await _apart(settings, one, other, passwords)
    return found


async def _stranger(
    settings: BrokerSettings,
    what: str,
    user: str | None,
    password: str | None,
    names: list[str],
    passwords: Mapping[str, str],
) -> CheckResult:
    try:
        async with AsyncExitStack() as stack:
            await _Client.open(stack, settings, user, password)
    except ServiceError as error:
        if names:  # that one of ours is taken shows that it was not the network
            async with AsyncExitStack() as stack:
                await _Client.open(stack, settings, names[0], passwords[names[0]])
        elif not _says_refused(error):
            raise
        return CheckResult(what, True)
    return CheckResult(what, False, "the broker lets them in: set allow_anonymous false and a password_file")


def _says_refused(error: ServiceError) -> bool:
    return any(word in error.message.lower() for word in ("not authori", "bad user", "password"))


class _Client:
    """A client of the check: what it hears, and whether it may say something."""

    def __init__(self, user: str | None) -> None:
        self.user = user
        self.heard: list[Incoming] = []
        self._news = asyncio.Event()
        self._connection: Connection | None = None

    @classmethod
    async def open(
        cls, stack: AsyncExitStack, settings: BrokerSettings, user: str | None, password: str | None
    ) -> _Client:
        """Connect until the stack is left."""
        from hardware.mqtt.connection import Connection, MqttError

        client = cls(user)
        own = replace(
            settings,
            user=user,
            password=password,
            client_id=f"peerwatt-check-{user or 'anonymous'}",
            session_expiry_s=0,
        )
        client._connection = Connection(own, None, client._receive)
        try:
            await client._connection.open()
        except (MqttError, OSError, ValueError) as error:
            raise ServiceError(
                f"{own.url} does not take us: {error}", remedy="check address, certificates, account and password"
            ) from None
        stack.push_async_callback(client._connection.close)
        return client

    def _receive(self, message: Incoming, receipt: Receipt | None) -> None:
        if receipt is not None and self._connection is not None:
            self._connection.acknowledge(receipt)
        if not message.retain:
            self.heard.append(message)
            self._news.set()

    async def listen(self, *filters: str) -> None:
        """Subscribe where the broker allows it; where it does not, nothing is heard, which is right."""
        from hardware.mqtt.connection import MqttError

        assert self._connection is not None
        for filter_ in filters:
            try:
                await self._connection.listen([Subscription(filter_, _ignore, own=True)])
            except MqttError:
                continue

    async def say(self, topic: str, payload: bytes, timeout_s: float) -> str:
        """Publish; gives the broker's reason to refuse it, empty if it says that all is well."""
        assert self._connection is not None
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._connection.send(Message(topic, payload), 60.0, answer.set_result)
        try:
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            raise ServiceError(f"the broker does not acknowledge within {timeout_s:g} s", remedy="try again") from None

    async def hear(self, topic: str, payload: bytes, timeout_s: float) -> bool:
        """Whether something is heard in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while all((message.topic, message.payload) != (topic, payload) for message in self.heard):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True


async def _ignore(_: Incoming) -> None:
    """What comes in goes to the client itself."""


async def _apart(settings: BrokerSettings, one: str, other: str, passwords: Mapping[str, str]) -> list[CheckResult]:
    """Whether ``other`` hears what is ``one``'s, and can speak as ``one`` or as the market.

    What each says to itself at the end shows that everything before it has been delivered, if it is delivered at all.
    """
    patience_s = settings.timeout_s
    own, theirs = (t.participant_topic(name, "check") for name in (one, other))
    async with AsyncExitStack() as stack:
        a = await _Client.open(stack, settings, one, passwords[one])
        b = await _Client.open(stack, settings, other, passwords[other])
        await a.listen(own, t.CHECK)
        await b.listen(theirs, f"{t.PARTICIPANTS}/{one}/#", f"{t.PARTICIPANTS}/+/check", "#")
        await a.say(own, b"before", patience_s)
        said = {topic: await b.say(topic, b"{}", patience_s) for topic in _foreign(one)}
        await b.say(theirs, b"end", patience_s)
        await a.say(own, b"end", patience_s)
        if not (await a.hear(own, b"end", patience_s) and await b.hear(theirs, b"end", patience_s)):
            detail = f"{one} and {other} do not hear themselves on {own} and {theirs}: {_REMEDY}"
            return [CheckResult(f"{one} and {other} are heard", False, detail)]
    leaked = sorted({m.topic for m in b.heard if t.split_participant(m.topic) not in {None, (other, "check")}})
    detail = f"it heard {', '.join(leaked)}: {_REMEDY}" if leaked else ""
    found = [CheckResult(f"{other} cannot read what is {one}'s", not leaked, detail)]
    delivered = {m.topic for m in a.heard if m.payload == b"{}"}
    for topic, refusal in said.items():
        taken = topic in delivered or not refusal
        found.append(CheckResult(f"{other} cannot write {topic}", not taken, _REMEDY if taken else ""))
    return found


def _foreign(participant: str) -> list[str]:
    """Topics that nobody else than the participant, or the gateway, may write."""
    return [
        *(t.participant_topic(participant, name) for name in ("check", *t.COMMANDS, "acks")),
        t.CHECK,
        t.market_topic("check"),
    ]
