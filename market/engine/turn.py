"""One command's turn at the state: what it decides is applied at once and noted for the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from market.engine.apply import Applier
from market.engine.caches import Caches
from market.engine.clearing import Wires
from market.engine.commands import Done, Key, OrderAnswer, Refused
from market.engine.facts import Fact, OrderedPart, Part, SlotPrices
from market.engine.state import ACTIVE, DEFAULTED, Answer, Member, State

NO_PARTS: Mapping[int, Part] = {}


@dataclass(frozen=True, slots=True)
class Decided:
    """A fact with its parts, on its way into the journal; ``unique`` as in `market.journal.protocol.Draft`."""

    at_us: int
    fact: Fact
    parts: Mapping[int, Part]
    unique: str


class Turn:
    """What command handlers work with.

    Parameters
    ----------
    applier
        Holds the state.
    now_us
        Engine time of this turn; at least that of the last fact.
    prices
        Gives a slot's prices when it opens.
    wires
        Puts a book on the feeder, for rules that look at the network.
    """

    def __init__(
        self, applier: Applier, now_us: int, prices: Callable[[int], SlotPrices], wires: Wires | None = None
    ) -> None:
        self.wires = wires
        self.applier = applier
        self.now_us = max(now_us, applier.state.at_us)
        self.prices = prices
        self.decided: list[Decided] = []
        self.new_member = applier.state.next_member

    @property
    def state(self) -> State:
        """The state with everything decided so far."""
        return self.applier.state

    @property
    def caches(self) -> Caches:
        """What is quick to have beside the state."""
        return self.applier.caches

    def do(self, fact: Fact, parts: Mapping[int, Part] = NO_PARTS, unique: str = "") -> None:
        """Let a fact happen."""
        self.applier.apply(self.state.seq + 1, self.now_us, fact, parts)
        self.decided.append(Decided(self.now_us, fact, parts, unique))

    def done(self, answer: object = None) -> Done:
        """The reply to a command that was carried out."""
        return Done(self.state.seq, self.now_us, answer)

    def active(self, member: int) -> Member | Refused:
        """A member that may act, or why it may not."""
        found = self.state.members.get(member)
        if found is None or found.status not in {ACTIVE, DEFAULTED}:
            return Refused("not_a_member")
        return Refused("in_default") if found.status == DEFAULTED else found

    def again(self, member: int, key: Key) -> Done | Refused | None:
        """The first answer to a request that came before; None for a new one."""
        found = self.state.members.get(member)
        answer = found.answers.get(key.key) if found is not None else None
        if answer is None:
            return None
        if answer.request != key.request:
            return Refused("key_reused")
        return Done(answer.seq, answer.at_us, content_of(answer), repeated=True)


def content_of(answer: Answer) -> object:
    """What the first answer said."""
    return answer.numbers if answer.part is None else order_answers(answer.part)


def order_answers(part: OrderedPart) -> tuple[OrderAnswer, ...]:
    """One answer per order of the request, by its place in it."""
    from market.engine.commands import REFUSALS

    if not part.rejected:
        return tuple(OrderAnswer(number) for number in range(part.first, part.first + len(part.rows)))
    codes = tuple(REFUSALS)
    answers = [OrderAnswer()] * (len(part.rows) + len(part.rejected))
    for number, row in zip(range(part.first, part.first + len(part.rows)), part.rows, strict=True):
        answers[row[0]] = OrderAnswer(number)
    for place, code in part.rejected:
        answers[place] = OrderAnswer(code=codes[code])
    return tuple(answers)
