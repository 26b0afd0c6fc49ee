"""What the gateway looks up in the engine's state: pure functions, to be called inside ``Engine.read``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from market.engine.config import SlotState
from market.engine.facts import QUALITIES
from market.engine.looking import depth
from market.engine.publication import Publication
from market.engine.state import ERASED, Envelope, SlotBook, State
from peerwatt.gateway.payloads import EnvelopeLimits, EnvelopeNews, EnvelopeRow, Home, TermsNews
from peerwatt.wire.money import SlotRange
from peerwatt.wire.times import US, SlotNames, time_text

_PER_HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Own:
    """What holds for one member. ``envelope_end``: the slot at which its last limit ends; -1: it has none."""

    terms: TermsNews | None
    envelope: EnvelopeNews | None
    envelope_end: int
    home: Home


def living(state: State) -> list[int]:
    """Members that are not erased."""
    return [number for number, member in state.members.items() if member.status != ERASED]


def standing_news(state: State) -> list[Publication]:
    """What is to be told to somebody who has heard nothing: states of markets and of slots that are not over.

    Results and bills are among it as far as they are fresh, in case they were not told before a restart: their ``seq``
    says which they are.
    """
    now = state.config.slot_of(state.at_us)
    news: list[Publication] = []
    for name, market in state.markets.items():
        data = {"state": "suspended" if market.suspended else "running", "reason": market.suspension}
        news.append(Publication(state.seq, state.at_us, "market", name, -1, -1, data))
        cleared = [book for book in market.books.values() if book.result is not None]
        for book in market.books.values():
            if book.slot >= now:
                news += _slot_news(state, name, book)
        for book in sorted(cleared, key=lambda b: b.slot)[-1:]:
            news += _price_news(state, name, book)  # last, so that it is the market's newest price
    if (last := state.settled_until - 1) in state.slots:
        news += _bill_news(state, last)
    return news


def _slot_news(state: State, name: str, book: SlotBook) -> Iterator[Publication]:
    slot, config = book.slot, state.config
    gate = config.gate_us(state.markets[name].config, slot)
    yield Publication(state.seq, state.at_us, "slot", name, slot, -1, {"state": str(book.status), "gate": gate})
    if book.status in {SlotState.OPEN, SlotState.SUSPENDED} and gate > state.at_us:
        yield Publication(state.seq, state.at_us, "book", name, slot, -1, depth(state, name, slot) or {})
    result = book.result
    if result is None:
        return
    yield from _price_news(state, name, book)
    fills: dict[int, list[tuple[int, int]]] = {}
    for order in book.orders.values():
        if order.filled_wh:
            fills.setdefault(order.member, []).append((order.order, order.filled_wh))
    for member, position in result.positions.items():
        own = {
            "bought_wh": position.bought_wh,
            "sold_wh": position.sold_wh,
            "paid_u": position.paid_u,
            "received_u": position.received_u,
            "fills": fills.get(member, []),
        }
        yield Publication(result.seq, result.at_us, "result", name, slot, member, own)


def _price_news(state: State, name: str, book: SlotBook) -> Iterator[Publication]:
    result = book.result
    if result is not None:
        data = {
            "version": result.version,
            "price_u": result.price_u,
            "price_num": result.price_num,
            "price_den": result.price_den,
            "volume_wh": result.volume_wh,
            "orders": len(book.orders) + book.erased,
        }
        yield Publication(result.seq, result.at_us, "price", name, book.slot, -1, data)


def _bill_news(state: State, slot: int) -> Iterator[Publication]:
    versions = state.slots[slot].versions
    for version in versions[-1:]:
        for member, own in version.members.items():
            data = {
                "version": version.version,
                "lines_u": own.lines_u,
                "total_u": sum(own.lines_u),
                "import_wh": own.import_wh,
                "export_wh": own.export_wh,
                "quality": QUALITIES[own.quality],
            }
            yield Publication(version.seq, version.at_us, "bill", "", slot, member, data)


def own_news(state: State, members: Iterable[int]) -> dict[int, Own]:
    """Terms, limits and summary of members; of those that are not in the state, or erased, nothing."""
    names = SlotNames(state.config.start_us, state.config.slot_s)
    measured = _last_measured(state)
    found = {}
    for number in members:
        member = state.members.get(number)
        if member is None or member.status == ERASED:
            continue
        rows = effective(state.envelopes.get(number, []), state.config.slot_of(state.at_us))
        found[number] = Own(
            terms=_terms(state, names, number) if member.terms_seq else None,
            envelope=_envelope(state, names, rows),
            envelope_end=max((row.end_slot for row in rows), default=-1),
            home=_home(state, names, number, rows, measured),
        )
    return found


def effective(rows: Iterable[Envelope], now: int) -> list[Envelope]:
    """What holds from slot ``now`` on: of rows that overlap, the first in the list wins; rows of the result do not."""
    found: list[Envelope] = []
    for row in rows:
        free = [(max(row.first_slot, now), row.end_slot)]
        for taken in found:
            free = [
                piece
                for first, end in free
                for piece in ((first, min(end, taken.first_slot)), (max(first, taken.end_slot), end))
                if piece[0] < piece[1]
            ]
        found += [
            Envelope(row.publication, first, end, row.import_w, row.export_w) for first, end in free if first < end
        ]
    return sorted(found, key=lambda row: row.first_slot)


def _limit(w: int) -> int | None:
    return None if w < 0 else w


def _terms(state: State, names: SlotNames, number: int) -> TermsNews:
    member = state.members[number]
    return TermsNews(
        member.terms_seq,
        time_text(state.at_us),
        member.floor_u,
        member.ceiling_u,
        list(member.refused_classes),
        [SlotRange(names.text(first), names.text(end)) for first, end in member.opted_out],
    )


def _envelope(state: State, names: SlotNames, rows: list[Envelope]) -> EnvelopeNews | None:
    default = None if state.envelope_default is None else EnvelopeLimits(*map(_limit, state.envelope_default))
    if not rows and default is None:
        return None
    out = [
        EnvelopeRow(
            names.text(row.first_slot),
            names.text(row.end_slot),
            _limit(row.import_w),
            _limit(row.export_w),
            row.publication,
        )
        for row in rows
    ]
    return EnvelopeNews(state.seq, time_text(state.at_us), out, default)


def _last_measured(state: State) -> int | None:
    return max((number for number, slot in state.slots.items() if slot.readings), default=None)


def _home(state: State, names: SlotNames, number: int, rows: list[Envelope], measured: int | None) -> Home:
    reading = None if measured is None else state.slots[measured].readings.get(number)
    now = state.config.slot_of(state.at_us)
    row = next((row for row in rows if row.first_slot <= now < row.end_slot), None)
    limits = (row.import_w, row.export_w) if row is not None else state.envelope_default or (-1, -1)
    bill_u = -state.balance_u(number)
    home = Home(
        at=time_text(state.at_us),
        bill_u=bill_u,
        bill=bill_u / US,
        import_limit_w=_limit(limits[0]),
        export_limit_w=_limit(limits[1]),
    )
    if reading is None or measured is None:
        return home
    net_wh = reading.import_wh - reading.export_wh
    return Home(
        at=home.at,
        slot=names.text(measured),
        net_w=round(net_wh * _PER_HOUR / state.config.slot_s),
        net_wh=net_wh,
        import_wh=reading.import_wh,
        export_wh=reading.export_wh,
        bill_u=home.bill_u,
        bill=home.bill,
        import_limit_w=home.import_limit_w,
        export_limit_w=home.export_limit_w,
    )
