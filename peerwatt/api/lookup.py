"""From names on the wire to what they stand for, within what the caller may see; and pages of lists.

What belongs to somebody else does not exist for the caller: it answers 404, as what does not exist at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from market.engine.commands import Command, Done, Refused
from market.engine.state import Market, Member, SlotBook, State
from peerwatt.api.operation import Call, Paged
from peerwatt.api.problems import refuse, refused
from peerwatt.wire.fields import Page

if TYPE_CHECKING:
    from peerwatt.api.principal import Principal
    from peerwatt.api.service import Service

T = TypeVar("T")
ERASED_NAME = "erased-"
"""How a member without a name stands in operators' lists, before its number."""


async def submit(call: Call, command: Command) -> Done:
    """Let the engine do it; its refusal is the answer."""
    reply = await call.service.engine.submit(command)
    if isinstance(reply, Refused):
        raise refused(reply)
    return reply


# --- participants -----------------------------------------------------------------------------------------------------


def member_number(service: Service, who: Principal, participant: str) -> int:
    """Number of a participant that the caller may see; 404 otherwise."""
    if who.sees(participant):
        member = service.engine.member_of(participant)
        if member is not None:
            return member
    raise refuse("unknown_participant", participant)


async def personal_member(call: Call, participant: str) -> int:
    """`member_number` for a look at, or a change of, personal data: somebody else's is written to the access log."""
    member = member_number(call.service, call.caller, participant)
    await note_access(call, [participant])
    return member


async def note_access(call: Call, participants: Iterable[str], status: int = 200) -> None:
    """Write to the access log that the caller saw what is other people's; what is its own is not noted."""
    who, operation = call.caller, call.operation
    for participant in participants:
        if participant not in who.participants:
            action = f"{operation.method} {operation.path.format(**call.path).removeprefix('/')}"
            await call.service.registry.access.note(who.client_id, who.role, participant, action, status)


def acting_for(service: Service, who: Principal, participant: str | None) -> int:
    """Number of the participant that the caller acts for: the one it names, or its only one."""
    return member_number(service, who, who.acting_for(participant))


async def own_member(call: Call, participant: str) -> int:
    """Number of a participant in whose name the caller may act: its own; an admin may act for everybody, noted."""
    if participant not in call.caller.participants and call.caller.role != "admin":
        raise refuse("unknown_participant", participant)
    return await personal_member(call, participant)


def own_members(service: Service, who: Principal) -> dict[int, str]:
    """Members that are the caller's own, with their names."""
    found = ((service.engine.member_of(name), name) for name in who.participants)
    return {member: name for member, name in found if member is not None}


def name_of(service: Service) -> Callable[[int], str]:
    """Gives the name of a member for operators; one that was erased has only its number."""

    def name(member: int) -> str:
        return service.engine.participant_of(member) or f"{ERASED_NAME}{member}"

    return name


def member_of(state: State, member: int, participant: str) -> Member:
    """The member itself; 404 if it is not in the state yet."""
    found = state.members.get(member)
    if found is None:
        raise refuse("unknown_participant", participant)
    return found


# --- markets and slots ------------------------------------------------------------------------------------------------


def slot_index(service: Service, text: str) -> int:
    """The slot of that name on the grid; 404 otherwise."""
    try:
        slot = service.names.index(text)
    except (ValueError, OverflowError):
        slot = -1
    if not 0 <= slot < service.engine.config.n_slots:
        raise refuse("unknown_slot", text)
    return slot


def slot_bound(service: Service, text: str | None, default: int) -> int:
    """A bound of a range of slots: the first slot that starts at this time or later, within the grid."""
    if text is None:
        return default
    try:
        us = service.time_us(text)
    except (ValueError, OverflowError):
        raise refuse("invalid", f"{text!r} is no time") from None
    config = service.engine.config
    length = config.slot_s * 1_000_000
    return min(max(-((config.start_us - us) // length), 0), config.n_slots)


def market_of(state: State, name: str) -> Market:
    """The market of that name; 404 otherwise."""
    market = state.markets.get(name)
    if market is None:
        raise refuse("unknown_market", name)
    return market


def book_of(state: State, name: str, slot: int, text: str) -> SlotBook:
    """A market's slot; 404 if it has not opened yet or is no longer kept."""
    book = market_of(state, name).books.get(slot)
    if book is None:
        raise refuse("unknown_slot", text)
    return book


# --- pages ------------------------------------------------------------------------------------------------------------


class Listing(Generic[T]):
    """One page of a list whose items have rising places: whole numbers, ``parts`` of them.

    Parameters
    ----------
    call
        Whose query is a `Paged`; its other parameters are sealed into the cursor, as is the path.
    parts
        How many numbers a place has.
    """

    def __init__(self, call: Call, parts: int = 1) -> None:
        query: Paged = call.query
        self._pager = call.service.pager
        self.limit = query.limit
        self._what = call.operation.path.format(**call.path)
        filters = msgspec.to_builtins(query)
        self._filters = {name: value for name, value in filters.items() if name not in ("cursor", "limit")}
        cursor = query.cursor if isinstance(query.cursor, str) else None
        place = self._pager.position(self._what, cursor, *[int] * parts, query=self._filters)
        self.after: tuple[int, ...] | None = None if place is None else tuple(int(str(part)) for part in place)
        """Where the page before ended; None on the first page."""

    def start(self, first: int) -> int:
        """Where to begin to look among slots or other first parts of places."""
        return first if self.after is None else max(first, self.after[0])

    def page(self, rows: Iterable[tuple[tuple[int, ...], T]]) -> Page[T]:
        """The page out of ``rows``, which come as (place, item) by rising place; they are asked for until it is full.

        What lies before the page is skipped one by one: let long lists begin at `start`.
        """
        items: list[T] = []
        last: tuple[int, ...] = ()
        for place, item in rows:
            if self.after is not None and place <= self.after:
                continue
            if len(items) == self.limit:
                return Page(items, self.cursor(last))
            items.append(item)
            last = place
        return Page(items, None)

    def cursor(self, last: tuple[int, ...]) -> str:
        """The cursor of the page behind a place."""
        return self._pager.cursor(self._what, *last, query=self._filters)


def numbered(items: Iterable[T]) -> Iterator[tuple[tuple[int], T]]:
    """Rows of a list whose items have no other place than their position."""
    return (((i,), item) for i, item in enumerate(items))


def actor(call: Call) -> str:
    """How the journal names who acts: it is there for ever, so participants' clients stand in it as member numbers.

    Clients of the staff (operators, auditors ...) stand there by their client id.
    """
    who = call.caller
    if who.role not in {"resident", "meter", "aggregator"}:
        return who.client_id
    members = sorted(m for p in who.participants if (m := call.service.engine.member_of(p)) is not None)
    if len(members) > 3 or not members:
        return f"{who.role} of {len(members) or 'all'} members"
    return f"{who.role} of member {', '.join(map(str, members))}"
