"""Clients of a market that dies now and then: they ask again with the same key, and remember what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.crash.service import GoneError

PATIENCE_S = 150.0
REMEMBERED_SLOTS = 50
"""Keys are kept for `tests.crash.spec.Spec.keep_slots`; a little less is asked for, since time runs on."""


class Service(Protocol):
    """What a client needs of a service."""

    up: asyncio.Event
    now_us: int

    async def send(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply; `GoneError` if the service died first."""


@dataclass(slots=True)
class Request:
    """A request with its key: how often it was sent, and what was answered first."""

    member: int
    key: str
    body: dict[str, Any]
    sent: int = 0
    answer: list[Any] | None = None
    was_stored: bool = False  # it was in the journal before anybody was told

    @property
    def line(self) -> dict[str, Any]:
        return {"key": self.key, "body": self.body}


@dataclass
class Memory:
    """Everything clients were told, and every contradiction in it."""

    acknowledged: list[Request] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    retried: int = 0
    repeated: int = 0
    erased: set[int] = field(default_factory=set)
    overloaded: int = 0
    broken: int = 0

    @property
    def stored_unacknowledged(self) -> int:
        """Requests that died with the service between the journal and the answer."""
        return sum(request.was_stored for request in self.acknowledged)

    @property
    def orders(self) -> int:
        """Orders that were acknowledged."""
        entered = [r.answer for r in self.acknowledged if r.body["do"] == "enter"]
        return sum(not code for answer in entered if answer for _, code in answer[2])


class Client:
    """One member's client: one request at a time, the next after the answer to the last.

    Parameters
    ----------
    name
        Of this client, in its keys.
    member
        Whose orders it sends.
    slot_of
        Slot of a moment of engine time.
    """

    def __init__(
        self,
        service: Service,
        memory: Memory,
        name: str,
        member: int,
        slot_of: Callable[[int], int],
        chance: random.Random,
    ) -> None:
        self._name = name
        self._service = service
        self._memory = memory
        self._member = member
        self._slot_of = slot_of
        self._chance = chance
        self._n = 0
        self._mine: list[Request] = []
        self._pending: Request | None = None
        self.stopped = False

    async def run(self) -> None:
        """Send until stopped; nothing is pending at the end."""
        while not self.stopped or self._pending is not None:
            if not self._service.up.is_set():
                await asyncio.wait_for(self._service.up.wait(), PATIENCE_S)
            try:
                if self._pending is None and self._recent and self._chance.random() < 0.1:
                    await self._ask_again(self._chance.choice(self._recent))
                else:
                    await self._ask()
            except GoneError:
                await asyncio.sleep(0)

    @property
    def _recent(self) -> list[Request]:
        """The last requests, as far as the market promises to remember them."""
        oldest = self._slot_of(self._service.now_us) - REMEMBERED_SLOTS
        return [r for r in self._mine[-20:] if r.answer is not None and self._slot_of(r.answer[1]) > oldest]

    async def _ask(self) -> None:
        if self._pending is None:
            self._pending = self._new()
        request = self._pending
        self._memory.retried += request.sent > 0
        request.sent += 1
        reply = await self._service.send(request.line)
        if "done" in reply and request.body["do"] == "enter" and all(code for _, code in reply["done"][2]):
            reply = {"refused": "none of the orders"}  # such a request leaves no trace either
        if "done" in reply:
            request.answer = reply["done"]
            request.was_stored = reply["repeated"]
            if request.sent == 1 and reply["repeated"]:
                self._memory.wrong.append(f"the first answer to {request.key} was called a repeated one")
            self._memory.acknowledged.append(request)
            self._mine.append(request)
            self._pending = None
        elif "refused" in reply:
            self._memory.refused[reply["refused"]] = self._memory.refused.get(reply["refused"], 0) + 1
            self._pending = None
        elif "overloaded_s" in reply:
            self._memory.overloaded += 1
            request.sent -= 1
            await asyncio.sleep(min(reply["overloaded_s"], 0.05))
        else:
            self._memory.broken += 1
            await asyncio.sleep(0.02)

    async def _ask_again(self, old: Request) -> None:
        """The same key again: the same answer; with other content: refused."""
        if self._chance.random() < 0.3:
            reply = await self._service.send({"key": old.key, "body": self._entering("spot", 1)})
            if "done" in reply or reply.get("refused", "key_reused") != "key_reused":
                self._memory.wrong.append(f"{old.key} was used for another request: {reply}")
            return
        reply = await self._service.send(old.line)
        self._memory.repeated += 1
        if "done" in reply and (reply["done"] != old.answer or not reply["repeated"]):
            self._memory.wrong.append(f"{old.key} was answered {old.answer}, then {reply}")
        elif "refused" in reply:
            self._memory.wrong.append(f"{old.key} was answered {old.answer}, then refused: {reply}")

    # --- what to ask --------------------------------------------------------------------------------------------------

    def _new(self) -> Request:
        self._n += 1
        return Request(self._member, f"{self._name}-{self._n}", self._body())

    def _body(self) -> dict[str, Any]:
        kind = self._chance.random()
        known = [
            (r, order) for r in self._mine[-5:] if r.body["do"] == "enter" for order, code in r.answer[2] if not code
        ]
        market = self._chance.choice(("spot", "intraday"))
        if known and kind < 0.1:
            request, order = self._chance.choice(known)
            change = {"e_wh": self._chance.randint(1, 5000), "price_u": self._price()}
            return {"do": "amend", "market": request.body["market"], "member": self._member, "order": order, **change}
        if known and kind < 0.2:
            request, order = self._chance.choice(known)
            return {"do": "cancel", "market": request.body["market"], "member": self._member, "orders": [order]}
        if kind < 0.25:
            slot = max(self._slot_of(self._service.now_us) - 1, 0)
            reading = [self._member, slot, self._chance.randint(0, 4000), self._chance.randint(0, 4000)]
            return {"do": "measure", "member": self._member, "readings": [reading]}
        return self._entering(market, self._chance.choice((1, 1, 1, 1, 20)))

    def _entering(self, market: str, n: int) -> dict[str, Any]:
        first = max(self._slot_of(self._service.now_us), 0)
        orders = [
            [
                first + self._chance.randint(1, 4),
                self._chance.choice((1, -1)),
                self._chance.randint(1, 5000),
                self._price(),
            ]
            for _ in range(n)
        ]
        return {"do": "enter", "market": market, "member": self._member, "orders": orders}

    def _price(self) -> int:
        return 1000 * self._chance.randint(80, 300)


class Operator:
    """Takes members in and erases them, halts a market and lets it go on, makes slots void; none of it has a key.

    What may have been done before a death is asked for, not done again.
    """

    def __init__(self, service: Service, memory: Memory, slot_of: Callable[[int], int], chance: random.Random) -> None:
        self._service = service
        self._memory = memory
        self._slot_of = slot_of
        self._chance = chance
        self._guests: list[int] = []
        self._n = 0
        self.stopped = False

    async def run(self) -> None:
        """Act now and then until stopped; no market stays halted."""
        while not self.stopped:
            await asyncio.wait_for(self._service.up.wait(), PATIENCE_S)
            with contextlib.suppress(GoneError):
                await self._act()
            await asyncio.sleep(self._chance.uniform(0.02, 0.2))
        await asyncio.wait_for(self._service.up.wait(), PATIENCE_S)
        await self._ask(do="resume", market="intraday")

    async def _ask(self, **body: Any) -> dict[str, Any]:
        reply = await self._service.send({"body": body})
        if "overloaded_s" not in reply:
            return reply
        await asyncio.sleep(0.05)
        return await self._ask(**body)

    async def _act(self) -> None:
        kind = self._chance.random()
        if kind < 0.4:
            await self._take_in()
        elif kind < 0.6 and self._guests:
            gone = self._guests[0]
            if "broken" not in await self._ask(do="erase", member=gone):
                del self._guests[0]
                self._memory.erased.add(gone)
        elif kind < 0.65:
            await self._ask(do="suspend", market="intraday")
            await asyncio.sleep(self._chance.uniform(0.0, 0.1))
            await self._ask(do="resume", market="intraday")
        elif kind < 0.7:
            slot = max(self._slot_of(self._service.now_us), 0) + self._chance.randint(2, 4)
            await self._ask(do="void", market="spot", slot=slot)

    async def _take_in(self) -> None:
        name = f"guest-{self._n}"
        reply = await self._ask(do="join", participant_id=name)
        if "broken" in reply:
            return
        self._n += 1
        known = await self._ask(do="member", participant_id=name)
        number = known["member"]
        if number is None or ("done" in reply and reply["done"][2] != number):
            self._memory.wrong.append(f"{name} joined: {reply}, and is {known}")
            return
        self._guests.append(number)
