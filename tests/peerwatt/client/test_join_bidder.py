"""The outside bidder's rules on a venue of the test's: one order per slot, one line per slot, nothing twice."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from core import ScenarioError
from peerwatt.client import StreamEvent
from peerwatt.joining import Bidder, Order, Plan, Profile, Refused, load_profile
from peerwatt.joining.bidder import SlotLine
from peerwatt.joining.http_venue import news_of
from peerwatt.joining.venue import Missed, Moment, News, Outcome, Place, SlotNews, Taken

PLACE = Place("house-07", "spot", "EUR", 900)


def _slot(hour: int, minute: int = 0) -> str:
    return f"2016-06-01T{hour:02}:{minute:02}:00Z"


class ScriptedVenue:
    """Plays news and keeps what it is asked."""

    def __init__(self, *news: News, open_: tuple[str, ...] = (), outcomes: dict[str, Outcome] | None = None) -> None:
        self.bids: list[tuple[Order, str]] = []
        self.readings: list[tuple[str, int, int, str]] = []
        self.refusals: dict[str, Refused] = {}
        self.withdrawn: list[str] = []
        self._news, self._open, self._outcomes = news, open_, outcomes or {}

    async def enter(self) -> Place:
        return PLACE

    async def news(self) -> AsyncGenerator[News, None]:
        for piece in self._news:
            yield piece

    async def open_slots(self) -> tuple[str, ...]:
        return self._open

    async def bid(self, order: Order, key: str) -> Taken | Refused:
        self.bids.append((order, key))
        return self.refusals.get(order.slot) or Taken(str(len(self.bids)))

    async def outcome(self, slot: str) -> Outcome | None:
        return self._outcomes.get(slot)

    async def report(self, slot: str, import_wh: int, export_wh: int, key: str) -> Refused | None:
        self.readings.append((slot, import_wh, export_wh, key))
        return self.refusals.get(f"meter {slot}")

    async def withdraw(self, key: str) -> int | None:
        self.withdrawn.append(key)
        return 1

    async def close(self) -> None:
        pass


PLAN = Plan(Profile({_slot(13): -400, _slot(14): 0}, {"12:15": 90}, 750), 250_000, 120_000)


async def _run(venue: ScriptedVenue, **options: object) -> tuple[Bidder, list[SlotLine]]:
    lines: list[SlotLine] = []
    bidder = Bidder(venue, PLAN, lines.append, **options)  # type: ignore[arg-type]
    await bidder.run(PLACE)
    return bidder, lines


def test_the_plan_buys_and_sells_within_its_limits() -> None:
    assert PLAN.order(_slot(12)) == Order(_slot(12), "buy", 750, 250_000)
    assert PLAN.order(_slot(12, 15)) == Order(_slot(12, 15), "buy", 90, 250_000)
    assert PLAN.order(_slot(13)) == Order(_slot(13), "sell", 400, 120_000)
    assert PLAN.order(_slot(14)) is None


async def test_one_order_for_every_slot_that_opens() -> None:
    venue = ScriptedVenue(
        Missed(),
        SlotNews(_slot(12), "open", 1),
        SlotNews(_slot(13), "open", 2),
        SlotNews(_slot(13), "open", 2),
        SlotNews(_slot(14), "open", 3),
        Missed(),
        open_=(_slot(11), _slot(12)),
    )
    _, lines = await _run(venue)
    assert [order.slot for order, _ in venue.bids] == [_slot(11), _slot(12), _slot(13)]
    assert len({key for _, key in venue.bids}) == 3
    assert lines == [SlotLine(_slot(14), None)]


async def test_a_run_of_its_own_has_keys_of_its_own() -> None:
    keys = []
    for _ in range(2):
        venue = ScriptedVenue(Missed(), open_=(_slot(11),))
        await _run(venue)
        keys.append(venue.bids[0][1])
    assert keys[0] != keys[1]


async def test_a_line_when_the_slot_is_over() -> None:
    won = Outcome(_slot(12), 500, 0, 91_666, 9)
    venue = ScriptedVenue(
        SlotNews(_slot(12), "open", 1), SlotNews(_slot(12), "gate_closed", 8), SlotNews(_slot(12), "cleared", 9), won,
        won, Outcome(_slot(10), 1, 0, 1, 9),
    )  # fmt: skip
    bidder, lines = await _run(venue)
    assert lines == [SlotLine(_slot(12), Order(_slot(12), "buy", 750, 250_000), won)]
    assert (bidder.tally.slots, bidder.tally.bought_wh, bidder.tally.amount_u) == (1, 500, 91_666)


async def test_a_slot_that_cleared_without_a_word_is_asked_for() -> None:
    nothing = Outcome(_slot(12), amount_u=0)
    venue = ScriptedVenue(
        SlotNews(_slot(12), "open", 1), SlotNews(_slot(12), "cleared", 9), Moment(_slot(12), 9), Moment(_slot(12), 10),
        outcomes={_slot(12): nothing},
    )  # fmt: skip
    _, lines = await _run(venue)
    assert [line.outcome for line in lines] == [nothing]


async def test_what_cleared_while_it_was_away_is_asked_for() -> None:
    venue = ScriptedVenue(
        Missed(), SlotNews(_slot(12), "open", 1), Missed(), outcomes={_slot(12): Outcome(_slot(12), 750, 0)}
    )
    bidder, lines = await _run(venue)
    assert lines[0].outcome == Outcome(_slot(12), 750, 0)
    assert bidder.tally.bought_wh == 750


async def test_refused_and_void() -> None:
    venue = ScriptedVenue(
        SlotNews(_slot(12), "open", 1), SlotNews(_slot(13), "open", 2), SlotNews(_slot(13), "void", 3)
    )
    venue.refusals[_slot(12)] = Refused("price_above_band", "is above 0.24")
    bidder, lines = await _run(venue)
    assert [line.note for line in lines] == ["refused: is above 0.24", "void"]
    assert (bidder.tally.refused, bidder.tally.slots) == (1, 2)


async def test_readings_follow_delivery() -> None:
    venue = ScriptedVenue(
        SlotNews(_slot(12), "open", 1), SlotNews(_slot(13), "open", 1), SlotNews(_slot(14), "open", 1),
        Moment("2016-06-01T12:14:59.999999Z", 2), Moment(_slot(12, 15), 3), Moment(_slot(14), 4), Moment(_slot(15), 5),
    )  # fmt: skip
    venue.refusals[f"meter {_slot(13)}"] = Refused("unknown_slot", "")
    _, lines = await _run(venue, report_meter=True)
    assert [reading[:3] for reading in venue.readings] == [
        (_slot(12), 750, 0), (_slot(13), 0, 400), (_slot(14), 0, 0)
    ]  # fmt: skip
    assert len({reading[3] for reading in venue.readings}) == 3
    assert lines[-1].note == "reading refused: unknown_slot"


async def test_it_leaves_after_so_many_slots_and_not_before_they_are_over() -> None:
    news = [
        SlotNews(_slot(12), "open", 1), SlotNews(_slot(13), "open", 2), SlotNews(_slot(15), "open", 3),
        Outcome(_slot(13), 0, 400, -60_000, 4), Outcome(_slot(12), 1, 0, 1, 5), Moment(_slot(13, 15), 6),
        SlotNews(_slot(16), "open", 7), SlotNews(_slot(17), "open", 8),
    ]  # fmt: skip
    venue = ScriptedVenue(*news)
    bidder, lines = await _run(venue, slots=2, report_meter=True)
    assert [line.slot for line in lines] == [_slot(13), _slot(12)]
    assert [order.slot for order, _ in venue.bids] == [_slot(12), _slot(13)]
    assert len(venue.readings) == 2
    assert bidder.tally.amount_u == -59_999
    assert await bidder.leave() == 1


def test_events_become_news() -> None:
    state = {"at": _slot(11), "market": "spot", "slot": _slot(12), "state": "open"}
    assert news_of(StreamEvent("snapshot", {}, "3-end"), "spot", "h") == [Missed()]
    assert news_of(StreamEvent("slot", state, "7-1"), "spot", "h") == [
        SlotNews(_slot(12), "open", 7),
        Moment(_slot(11), 7),
    ]
    assert news_of(StreamEvent("slot", {**state, "market": "dayahead"}, "7-1"), "spot", "h") == [Moment(_slot(11), 7)]
    result = {
        "at": _slot(11), "market": "spot", "slot": _slot(12), "participant": "h", "bought_wh": 5, "sold_wh": 0,
        "paid_u": 9, "received_u": 2,
    }  # fmt: skip
    assert news_of(StreamEvent("result", result, "8-2"), "spot", "h")[0] == Outcome(_slot(12), 5, 0, 7, 8)
    assert news_of(StreamEvent("result", result, "8-2"), "spot", "other") == [Moment(_slot(11), 8)]


def test_profiles_are_read(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("\ufeffslot, net_wh\n2016-06-01T12:00:00Z,-750\n\n12:00, +40\n")
    profile = load_profile(file)
    assert profile.net_wh(_slot(12)) == -750
    assert profile.net_wh("2016-06-02T12:00:00Z") == 40
    assert profile.net_wh(_slot(13)) == 0


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("time,wh\n", 1, "columns time,wh"),
        ("", None, "names no slot"),
        ("slot,net_wh\n", None, "names no slot"),
        ("slot,net_wh\n12:00,1\n12:00,2\n", 3, "second time"),
        ("slot,net_wh\n24:00,1\n", 2, "no slot"),
        ("slot,net_wh\n2016-06-01T12:00:00+02:00,1\n", 2, "no slot"),
        ("slot,net_wh\n2016-02-30T12:00:00Z,1\n", 2, "no slot"),
        ("slot,net_wh\n12:00,1.5\n", 2, "no whole number"),
        ("slot,net_wh\n12:00,٣\n", 2, "no whole number"),
        ("slot,net_wh\n12:00\n", 2, "1 cells"),
    ],
)
def test_profiles_that_mean_nothing(tmp_path: Path, text: str, line: int | None, what: str) -> None:
    file = tmp_path / "p.csv"
    file.write_text(text)
    with pytest.raises(ScenarioError, match=what) as e:
        load_profile(file)
    assert e.value.line == line
    assert "what to do" in str(e.value)
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_profile(tmp_path / "missing.csv")
