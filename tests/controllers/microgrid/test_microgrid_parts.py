"""The supervisor's parts by themselves: ledger, shedding order, tapers, hours left, droop sharing, the sync window."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.microgrid import dispatch, resync, sharing, shedding
from controllers.microgrid.context import Context, Memory
from controllers.microgrid.image import Do, Image, Load, Side, State, Switch
from controllers.microgrid.ledger import Ledger
from controllers.microgrid.settings import Settings
from tests.controllers.microgrid.small import QUICK, battery, block, image

CALM = replace(QUICK, forgive_s=1000.0)
LEFT_OUT = {"phases": "phase", "unknown": "unknown", "v": "voltages", "f": "frequencies", "angle": "angle"}


def _context(now: Image, settings: Settings = QUICK) -> Context:
    context = Context(settings, Memory(state=State.ISLANDED.value), 0)
    context.take(now)
    return context


# --- the ledger ---


Wanted = tuple[Do, str, float | None]


def _heard(ledger: Ledger, now: Image, seconds: float, *wanted: Wanted, **more: object) -> tuple[Image, int]:
    """Cycles in which these commands are wanted; the last image, and how many were issued."""
    issued = 0
    for _ in range(round(seconds * 10)):
        now = replace(now, now_s=now.now_s + 0.1, **more)  # type: ignore[arg-type]
        ledger.hear(now)
        for do, device, value in wanted:
            issued += ledger.want(now, do, device, value) is not None
    return now, issued


def test_a_command_without_effect_is_repeated_under_new_numbers_and_given_up() -> None:
    ledger, now = Ledger(CALM), image()
    assert ledger.want(now, Do.SHED, "a") is not None
    assert ledger.want(now, Do.SHED, "a") is None, "it is on its way"
    now, issued = _heard(ledger, now, 5.0, (Do.SHED, "a", None))
    assert issued == CALM.retries
    failure = ledger.failed("a", Do.SHED)
    assert failure is not None
    assert not failure.refused
    assert ledger.want(now, Do.SHED, "a") is None, "failed: left alone"
    now, _ = _heard(ledger, now, 0.1, loads=(block("a", 1, on=False),))
    assert ledger.failed("a", Do.SHED) is None, "it went off after all"


def test_an_acknowledgement_without_effect_is_no_success() -> None:
    ledger, now = Ledger(CALM), image()
    command = ledger.want(now, Do.SHED, "a")
    assert command is not None
    _heard(ledger, now, 5.0, (Do.SHED, "a", None), acknowledged=frozenset({command.number}))
    assert ledger.failed("a", Do.SHED) is not None


def test_what_nobody_wants_any_more_is_not_said_again() -> None:
    ledger, now = Ledger(CALM), image()
    ledger.want(now, Do.FORM, "battery", 50.0)
    now, _ = _heard(ledger, now, 5.0)
    assert ledger.number == 1
    assert ledger.failed("battery", Do.FORM) is None


def test_a_refusal_counts_at_once_and_close_is_never_repeated() -> None:
    ledger, now = Ledger(CALM), image(switch=Switch.OPEN)
    close = ledger.want(now, Do.CLOSE, "switch")
    form = ledger.want(now, Do.FORM, "battery", 50.0)
    assert close is not None
    assert form is not None
    now, issued = _heard(ledger, now, 0.1, refused=frozenset({form.number}))
    refused = ledger.failed("battery", Do.FORM)
    assert refused is not None
    assert refused.refused
    _, issued = _heard(ledger, now, 3.0, (Do.CLOSE, "switch", None), (Do.FORM, "battery", 50.0), refused=frozenset())
    assert issued == 0
    assert ledger.failed("switch", Do.CLOSE) is not None


def test_a_newer_set_point_supersedes_and_an_equal_one_is_not_told() -> None:
    ledger, now = Ledger(CALM), image()
    first = ledger.want(now, Do.POWER, "battery", 1.0, tolerance=0.1)
    assert first is not None
    assert ledger.want(now, Do.POWER, "battery", 1.05, tolerance=0.1) is None
    second = ledger.want(now, Do.POWER, "battery", 2.0, tolerance=0.1)
    assert second is not None
    _heard(ledger, now, 5.0, acknowledged=frozenset({second.number}))
    assert ledger.failed("battery", Do.POWER) is None
    with pytest.raises(ValueError, match="nan"):
        ledger.want(now, Do.POWER, "battery", math.nan)


def test_an_acknowledgement_of_another_command_does_not_count() -> None:
    ledger, now = Ledger(CALM), image()
    ledger.want(now, Do.SHED, "a")
    other = ledger.want(now, Do.POWER, "battery", 1.0)
    assert other is not None
    _heard(ledger, now, 5.0, (Do.SHED, "a", None), acknowledged=frozenset({other.number}))
    assert ledger.failed("battery", Do.POWER) is None
    assert ledger.failed("a", Do.SHED) is not None


# --- shedding ---

_BLOCKS = st.lists(st.tuples(st.integers(1, 5), st.floats(0.0, 20.0)), min_size=1, max_size=8)


@given(_BLOCKS, st.floats(-5.0, 60.0))
def test_lowest_priority_first_enough_and_never_one_more(found: list[tuple[int, float]], deficit: float) -> None:
    loads = [(Load(f"x{i}", priority, kw, True), kw) for i, (priority, kw) in enumerate(found)]
    gone = shedding.blocks_for(loads, deficit)
    kept = [load for load, _ in loads if load not in gone]
    assert not gone or not kept or min(x.priority for x in gone) >= max(x.priority for x in kept)
    shed_kw = sum(x.p_kw or 0.0 for x in gone)
    assert shed_kw >= deficit - 1e-6 or not kept
    assert not gone or shed_kw - (gone[-1].p_kw or 0.0) < deficit


def test_an_unknown_load_counts_as_what_it_last_drew_then_as_the_worst() -> None:
    island = image(switch=Switch.OPEN, exchange_kw=0.0)
    context = _context(island)
    assert context.know.load_kw(island.loads[0]) == 5.0
    blind = replace(island, now_s=0.1, loads=(block("a", 1, p_kw=None, on=None), *island.loads[1:]))
    context.take(blind)
    assert context.know.load_kw(blind.loads[0]) == 5.0
    assert context.know.on(blind.loads[0])
    fresh = _context(blind)
    assert fresh.know.load_kw(blind.loads[0]) == QUICK.unknown_load_kw


def test_a_dead_bus_does_not_make_loads_small() -> None:
    context = _context(image())
    dark = image(
        now_s=0.1,
        switch=Switch.OPEN,
        island=Side(0.0, None),
        loads=tuple(block(x, i, 0.0) for i, x in enumerate("abc", 1)),
    )
    context.take(dark)
    assert context.know.drawn_kw() == pytest.approx(15.0)


def test_a_source_whose_state_is_unknown_carries_nothing_after_a_moment() -> None:
    context = _context(image())
    for n in range(1, 10):
        context.take(image(now_s=0.1 * n, sources=(battery(running=None, forming=None),)))
        able = dispatch.forming_able(context)
        assert bool(able) == (0.1 * n <= QUICK.bridge_s + 1e-9)
    context.take(image(now_s=1.0, sources=(battery(running=None, forming=None, p_kw=-9.0),)))
    assert dispatch.forming_able(context), "it visibly carries load"
    stranger = _context(image(sources=(battery(running=None, forming=None, p_kw=-9.0),)))
    assert not dispatch.forming_able(stranger), "it was never seen to run"


# --- energy ---


def test_what_a_store_gives_falls_to_nothing_at_the_floor() -> None:
    s = QUICK
    context = _context(image(sources=(battery(soc=0.6),)))
    gives = [
        dispatch.give_kw(_context(image(sources=(battery(soc=soc),))).know, battery(soc=soc), s)
        for soc in (0.0, s.floor_soc, s.floor_soc + 0.5 * s.taper_soc, s.floor_soc + s.taper_soc, 1.0)
    ]
    assert gives == pytest.approx([0.0, 0.0, 15.0, 30.0, 30.0])
    never_seen = battery("other", soc=None)
    assert dispatch.give_kw(context.know, never_seen, s) == 0.0
    assert dispatch.take_kw(context.know, never_seen, s) == 0.0


def test_a_charge_that_is_unknown_is_assumed_to_fall() -> None:
    context = _context(image(sources=(battery(soc=0.6, p_kw=-30.0),)))
    context.take(image(now_s=360.0, sources=(battery(soc=None, p_kw=-30.0),)))
    assert context.know.soc(battery(soc=None)) == pytest.approx(0.6 - 30.0 * 0.1 / 60.0)


@given(
    st.floats(0.0, 50.0),
    st.floats(0.0, 20.0),
    st.lists(st.floats(-20.0, 20.0), max_size=12),
    st.floats(-5.0, 20.0),
)
def test_hours_left_agree_with_small_steps(stored: float, room: float, forecast: list[float], then: float) -> None:
    hours = dispatch.hours_left(stored, room, forecast, then)
    energy, step, t = stored, 0.25 / 100, 0.0
    while t < min(hours - 2 * step, len(forecast) * 0.25 + 1.0):
        kw = forecast[int(t / 0.25)] if t < len(forecast) * 0.25 - 1e-9 else then
        energy = min(stored + room, energy - kw * step)
        t += step
        assert energy > -0.2
    if hours < len(forecast) * 0.25 + 1.0:
        assert energy == pytest.approx(0.0, abs=0.3)


def test_connected_the_reserve_is_filled_and_then_left_alone() -> None:
    s = replace(QUICK, reserve_h=2.0)  # 10 kWh of 60: reserve at 0.15 + 0.167
    context = Context(s, Memory(), 0)
    context.take(image(sources=(battery(soc=0.2),)))
    dispatch.keep_reserve(context)
    assert [(c.do, c.value) for c in context.ledger.issued] == [(Do.POWER, 15.0)]
    context.take(image(now_s=1.0, sources=(battery(soc=0.34),), acknowledged=frozenset({1})))
    dispatch.keep_reserve(context)
    assert context.ledger.issued == [], "hysteresis"
    context.take(image(now_s=2.0, sources=(battery(soc=0.4),)))
    dispatch.keep_reserve(context)
    assert [(c.do, c.value) for c in context.ledger.issued] == [(Do.POWER, 0.0)]
    context.take(image(now_s=2.1, sources=(battery(soc=0.4),), acknowledged=frozenset({2})))
    dispatch.keep_reserve(context)
    assert context.now.filling == {}
    context.take(image(now_s=3.0, grid=Side(None, None), sources=(battery(soc=0.1),)))
    dispatch.keep_reserve(context)
    assert context.ledger.issued == [], "the grid is not known to be good"


# --- sharing ---


@pytest.mark.parametrize("ratings", [(30.0, 10.0), (30.0, 10.0, 20.0), (40.0, 10.0, 20.0, 5.0)])
@pytest.mark.parametrize("drawn", [0.3, 0.9, -0.4])
@pytest.mark.parametrize("fixed", [False, True])
def test_shares_within_5_percent_and_frequency_in_band(ratings: tuple[float, ...], drawn: float, fixed: bool) -> None:
    """G3, with droop that obeys, and with one source whose droop is wrong and cannot be set."""
    total = drawn * sum(ratings)
    droops = [0.5 / rating for rating in ratings]
    if fixed:
        droops[0] *= 2.0
    names = [f"s{i}" for i in range(len(ratings))]
    refs = dict.fromkeys(names, 50.0)
    context = Context(CALM, Memory(state=State.ISLANDED.value), 0)
    f, powers = 50.0, dict.fromkeys(names, 0.0)
    for n in range(400):
        stiff = sum(1.0 / m for m in droops)
        f = (sum(refs[x] / m for x, m in zip(names, droops, strict=True)) - total) / stiff
        powers = {x: (refs[x] - f) / m for x, m in zip(names, droops, strict=True)}
        sources = tuple(
            battery(x, r, forming=True, p_kw=-powers[x], droop_hz_per_kw=m)
            for x, r, m in zip(names, ratings, droops, strict=True)
        )
        acks = frozenset(c.number for c in context.ledger.issued if c.do is not Do.DROOP)
        now = image(now_s=0.1 * n, switch=Switch.OPEN, island=Side(1.0, f), exchange_kw=0.0, sources=sources)
        context.take(replace(now, acknowledged=acks))
        sharing.island(context)
        for c in context.ledger.issued:
            if c.do is Do.REFERENCE and c.value is not None:
                refs[c.device] = c.value
    assert abs(f - 50.0) < 0.05
    shares = [powers[x] / r for x, r in zip(names, ratings, strict=True)]
    assert max(abs(x / drawn - 1.0) for x in shares) < 0.05
    assert sharing.sharing_error(list(sources)) == pytest.approx(max(abs(x / drawn - 1.0) for x in shares), abs=0.01)


def test_a_source_at_its_floor_carries_nothing_while_others_can() -> None:
    low, high = battery("low", 30.0, 0.15, forming=True), battery("high", 10.0, 0.8, forming=True)
    context = _context(image(switch=Switch.OPEN, sources=(low, high)))
    assert sharing.shares(context, [low, high], 5.0) == {"low": 0.0, "high": 1.0}
    assert sharing.shares(context, [low, high], -5.0) == {"low": 0.75, "high": 0.25}


# --- the sync window ---

_READY = image(switch=Switch.OPEN, sources=(battery(forming=True),), exchange_kw=0.0)


def test_nothing_stands_in_the_way_of_a_synchronised_island() -> None:
    assert resync.obstacles(_READY, QUICK, QUICK.window) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"grid": Side(1.0, 50.0, False)},
        {"grid": Side(1.0, 50.0, None)},
        {"island": Side(1.0, 50.0, False)},
        {"grid": Side(None, 50.0)},
        {"grid": Side(1.0, None)},
        {"island": Side(None, 50.0)},
        {"island": Side(1.0, None)},
        {"grid": Side(0.9, 50.0)},
        {"grid": Side(1.0, 50.2)},
        {"grid": Side(1.0, 49.4)},
        {"island": Side(1.0, 50.31)},
        {"island": Side(0.89, 50.0)},
        {"angle_deg": None},
        {"angle_deg": 20.1},
        {"angle_deg": -20.1},
        {"angle_deg": 179.0},
        {"angle_deg": 15.0, "island": Side(1.0, 50.2)},  # 7.2 degrees further when the contacts touch
        {"switch": Switch.UNKNOWN},
        {"switch": Switch.CLOSED},
        {"sources": (battery(forming=False),)},
        {"sources": (battery(forming=None),)},
    ],
    ids=str,
)
def test_each_of_these_alone_forbids_closing(change: dict[str, object]) -> None:
    assert resync.obstacles(replace(_READY, **change), QUICK, QUICK.window)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"island": Side(None, None)},
        {"island": Side(0.2, None)},
        {"grid": Side(1.0, 50.0, None)},
        {"grid": Side(1.0, 50.5)},
        {"switch": Switch.UNKNOWN},
        {"sources": (battery(running=None),)},
        {"sources": (battery(running=True),)},
        {"loads": (block("a", 1),)},
        {"loads": (block("a", 1, on=None),)},
    ],
    ids=str,
)
def test_each_of_these_alone_forbids_closing_onto_a_dead_bus(change: dict[str, object]) -> None:
    dark = image(
        switch=Switch.OPEN,
        island=Side(0.0, None, None),
        sources=(battery(running=False),),
        loads=(block("a", 1, on=False),),
    )
    quick = replace(QUICK, enter_service_s=0.0)
    assert resync.dead_bus_obstacles(_context(dark, quick)) == ()
    assert resync.dead_bus_obstacles(_context(replace(dark, **change), quick))  # type: ignore[arg-type]
    assert resync.dead_bus_obstacles(_context(dark, replace(quick, dead_bus_close=False)))
