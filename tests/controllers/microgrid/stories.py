"""The seeded events of the campaign: which island, what happens to it, what is ordered, what fails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from controllers.microgrid.image import Order
from core.keyed_random import keyed_generator
from grid.island.spec import IslandSpec, LoadSpec, SourceSpec, SwitchSpec
from tests.controllers.microgrid.harness import Blind, Deaf, Story

Rng = np.random.Generator
Grid = tuple[float, str, str, float]


def _sources(rng: Rng, soc: tuple[float, float] = (0.35, 0.9), kwh_per_kw: float = 2.0) -> list[SourceSpec]:
    out = []
    for i in range(int(rng.integers(1, 4))):
        rating = float(rng.choice([10.0, 15.0, 20.0, 30.0, 40.0]))
        out.append(
            SourceSpec(
                f"battery{i + 1}",
                rating,
                inertia_s=float(rng.uniform(0.8, 2.0)),
                lag_s=float(rng.uniform(0.02, 0.05)),
                droop_hz_per_kw=0.5 / rating,
                droop_pu_per_kvar=0.05 / rating,
                charge_kw=rating,
                capacity_kwh=kwh_per_kw * rating,
                soc=float(rng.uniform(*soc)),
                overload=float(rng.uniform(1.1, 1.5)),
                overload_s=float(rng.uniform(1.0, 5.0)),
                ride_s=float(rng.uniform(1.0, 2.0)),
                form_s=float(rng.uniform(0.02, 0.05)),
                frequency_s=float(rng.uniform(0.3, 0.5)),
                self_forms=bool(rng.random() < 0.3),
            )
        )
    if rng.random() < 0.25:
        rating = float(rng.choice([20.0, 40.0]))
        out.append(
            SourceSpec(
                "diesel",
                rating,
                rotating=True,
                inertia_s=1.5,
                lag_s=0.25,
                droop_hz_per_kw=0.5 / rating,
                droop_pu_per_kvar=0.05 / rating,
                start_s=float(rng.uniform(3.0, 8.0)),
                form_s=0.2,
                frequency_s=0.5,
                running=False,
            )
        )
    for i in range(int(rng.integers(0, 3))):
        rating = float(rng.choice([8.0, 15.0, 25.0]))
        out.append(
            SourceSpec(
                f"pv{i + 1}",
                rating,
                can_form=False,
                lag_s=0.1,
                available_kw=rating * float(rng.uniform(0.0, 1.0)),
                ride_s=float(rng.uniform(0.3, 2.0)),
                return_s=float(rng.uniform(5.0, 20.0)),
                frequency_s=0.2,
                ramp_kw_per_s=float(rng.choice([0.5, 2.0, 10.0])),
            )
        )
    return out


def _loads(rng: Rng, total_kw: float, inrush: float = 0.5) -> list[LoadSpec]:
    n = int(rng.integers(3, 9))
    shares = rng.dirichlet(np.full(n, 2.0))
    priorities = rng.permutation(n) + 1
    if rng.random() < 0.3:
        priorities = np.maximum(1, priorities - 1)  # two blocks share a priority
    return [
        LoadSpec(
            f"block{j + 1}",
            int(priorities[j]),
            max(0.3, float(total_kw * shares[j])),
            exponent=float(rng.uniform(1.0, 2.0)),
            inrush=float(rng.uniform(0.0, inrush)),
            inrush_s=float(rng.uniform(0.1, 0.5)),
            close_s=float(rng.uniform(0.02, 0.05)),
            open_s=float(rng.uniform(0.02, 0.05)),
        )
        for j in range(n)
    ]


def forming_kw(sources: list[SourceSpec]) -> float:
    """What the sources that can form and run can give together [kW]."""
    return sum(s.rating_kw for s in sources if s.can_form and s.running)


def island(rng: Rng, need: tuple[float, float], *, relay: bool = True, **more: float) -> tuple[IslandSpec, list[Grid]]:
    """A random island whose loads want ``need`` times what its forming sources give, and its first set-points."""
    sources = _sources(
        rng, kwh_per_kw=more.get("kwh_per_kw", 2.0), soc=(more.get("soc_low", 0.35), more.get("soc", 0.9))
    )
    loads = _loads(rng, forming_kw(sources) * float(rng.uniform(*need)), more.get("inrush", 0.5))
    switch = SwitchSpec(
        open_s=float(rng.uniform(0.03, 0.06)),
        close_s=float(rng.uniform(0.04, 0.08)),
        self_opens_s=float(rng.uniform(0.06, 0.15)) if relay and rng.random() < 0.3 else np.inf,
    )
    # In the grid's company: PV gives what it has, batteries rest or do what a market sold.
    start: list[Grid] = [(0.0, "power", s.id, -s.rating_kw) for s in sources if not s.can_form]
    start += [
        (0.0, "power", s.id, float(rng.uniform(-0.5, 0.5)) * s.rating_kw)
        for s in sources
        if s.capacity_kwh > 0.0 and rng.random() < 0.5
    ]
    return IslandSpec(tuple(sources), tuple(loads), switch), start


def _story(
    kind: str,
    seed: int,
    made: tuple[IslandSpec, list[Grid]],
    seconds: float,
    **more: object,
) -> Story:
    spec, start = made
    return Story(
        kind=kind,
        seed=seed,
        spec=spec,
        seconds=seconds,
        at_start=tuple((action, device, value) for _, action, device, value in start),
        rating_kw=max(40.0, forming_kw(list(spec.sources))),
        **more,  # type: ignore[arg-type]
    )


def _loss(rng: Rng, t: float) -> list[Grid]:
    return [(t, "voltage", "grid", float(rng.choice([0.0, 0.0, 0.05, 0.2, 0.3])))]


def _back(rng: Rng, t: float, slip: float = 0.08) -> list[Grid]:
    f = 50.0 + float(rng.uniform(-slip, slip))
    return [(t, "frequency", "grid", f), (t, "voltage", "grid", float(rng.uniform(0.96, 1.04)))]


def planned(seed: int, rng: Rng) -> Story:
    """Ordered, with enough to balance the exchange."""
    return _story(
        "planned", seed, island(rng, (0.2, 0.7)), 22.0, orders=((2.0, Order.ISLAND),), wants=frozenset({"islanded"})
    )


def planned_back(seed: int, rng: Rng) -> Story:
    """Ordered out and ordered back."""
    orders = ((2.0, Order.ISLAND), (20.0, Order.RECONNECT))
    return _story(
        "planned-and-back", seed, island(rng, (0.2, 0.6)), 50.0, orders=orders, wants=frozenset({"connected"})
    )


def planned_impossible(seed: int, rng: Rng) -> Story:
    """Ordered although nothing that forms could ever balance it: no source that forms obeys."""
    made = island(rng, (0.5, 1.2))
    deaf = tuple(Deaf(0.0, 1e9, s.id, str(rng.choice(["lost", "refused"]))) for s in made[0].sources)
    return _story(
        "planned-impossible", seed, made, 15.0, orders=((2.0, Order.ISLAND),), deaf=deaf, wants=frozenset({"stays"})
    )


def outage(seed: int, rng: Rng) -> Story:
    """The grid goes; deficits and surpluses of all sizes."""
    made = island(rng, (0.05, 2.5))
    return _story(
        "outage", seed, made, 12.0, happens=tuple(_loss(rng, 2.0 + float(rng.random()))), wants=frozenset({"survives"})
    )


def outage_back(seed: int, rng: Rng) -> Story:
    """The grid goes and comes back with drift."""
    made = island(rng, (0.2, 1.2))
    happens = _loss(rng, 2.5) + _back(rng, float(rng.uniform(8.0, 14.0)))
    happens.append((15.0, "slope", "grid", float(rng.uniform(-0.002, 0.002))))
    happens += [(15.0, "low", "grid", 49.85), (15.0, "high", "grid", 50.09)]
    return _story(
        "outage-and-back", seed, made, 55.0, happens=tuple(happens), wants=frozenset({"survives", "connected"})
    )


def wrong_phases(seed: int, rng: Rng) -> Story:
    """The grid comes back with two phases swapped."""
    made = island(rng, (0.2, 0.8))
    happens = [*_loss(rng, 2.5), (6.0, "phases", "grid", 0.0), *_back(rng, 8.0)]
    orders = ((12.0, Order.RECONNECT),) if rng.random() < 0.5 else ()
    return _story(
        "wrong-phases", seed, made, 30.0, happens=tuple(happens), orders=orders, wants=frozenset({"survives", "open"})
    )


def bad_grid(seed: int, rng: Rng) -> Story:
    """The grid comes back far off in frequency or voltage, or runs away: no closing."""
    made = island(rng, (0.2, 0.8))
    back = [(8.0, "frequency", "grid", float(rng.choice([48.5, 49.0, 50.8, 51.5]))), (8.0, "voltage", "grid", 1.0)]
    if rng.random() < 0.5:
        back = [(8.0, "voltage", "grid", float(rng.choice([0.7, 0.8, 1.16])))]
    return _story(
        "bad-grid",
        seed,
        made,
        30.0,
        happens=(*_loss(rng, 2.5), *back),
        orders=((12.0, Order.RECONNECT),),
        wants=frozenset({"survives", "open"}),
    )


def lost_again(seed: int, rng: Rng) -> Story:
    """The grid goes again while the island turns towards it."""
    made = island(rng, (0.2, 0.8))
    again = float(rng.uniform(11.0, 22.0))
    happens = (
        _loss(rng, 2.5) + _back(rng, 6.0) + _loss(rng, again) + (_back(rng, again + 4.0) if rng.random() < 0.5 else [])
    )
    return _story("lost-again", seed, made, 35.0, happens=tuple(happens), wants=frozenset({"survives"}))


def repetition(seed: int, rng: Rng) -> Story:
    """The grid comes and goes within seconds or less."""
    made = island(rng, (0.2, 1.5))
    happens: list[Grid] = []
    t = 2.5
    for _ in range(int(rng.integers(2, 8))):
        happens += _loss(rng, t)
        t += float(rng.exponential(1.0)) + 0.02
        happens += _back(rng, t)
        t += float(rng.exponential(2.0)) + 0.02
    return _story("repetition", seed, made, t + 15.0, happens=tuple(happens), wants=frozenset({"survives"}))


def source_trip(seed: int, rng: Rng) -> Story:
    """A source trips in the island."""
    made = island(rng, (0.3, 1.0))
    victim = str(rng.choice([s.id for s in made[0].sources]))
    happens = [*_loss(rng, 2.5), (float(rng.uniform(6.0, 10.0)), "trip", victim, 1.0)]
    others = any(s.can_form and s.running and s.id != victim for s in made[0].sources)
    wants = frozenset({"survives"}) if others else frozenset()
    return _story("source-trip", seed, made, 18.0, happens=tuple(happens), wants=wants)


def load_step(seed: int, rng: Rng) -> Story:
    """Demand and sun jump while islanded."""
    made = island(rng, (0.3, 0.8))
    happens = _loss(rng, 2.5)
    for _ in range(int(rng.integers(1, 6))):
        load = made[0].loads[int(rng.integers(0, len(made[0].loads)))]
        happens.append((float(rng.uniform(6.0, 14.0)), "demand", load.id, load.p_kw * float(rng.uniform(0.2, 3.0))))
    for s in made[0].sources:
        if not s.can_form:
            happens.append((float(rng.uniform(6.0, 14.0)), "available", s.id, s.rating_kw * float(rng.random())))
    return _story("load-step", seed, made, 20.0, happens=tuple(happens), wants=frozenset({"survives"}))


def soc_out(seed: int, rng: Rng) -> Story:
    """Stored energy runs out."""
    made = island(rng, (0.4, 0.9), kwh_per_kw=float(rng.uniform(0.02, 0.06)), soc_low=0.2, soc=0.5)
    happens = [*_loss(rng, 2.5), *((3.0, "available", s.id, 0.1) for s in made[0].sources if not s.can_form)]
    return _story("soc-out", seed, made, 60.0, happens=tuple(happens), wants=frozenset({"floor"}))


def _black(rng: Rng, spec: IslandSpec, t: float) -> list[Grid]:
    """Everything that runs trips at ``t``; two seconds later it can be started again."""
    out: list[Grid] = [(t, "trip", s.id, 1.0) for s in spec.sources]
    return out + [(t + 2.0, "starts", s.id, 1.0) for s in spec.sources]


def black_start(seed: int, rng: Rng) -> Story:
    """The island collapsed; a black start is ordered and nothing fails."""
    made = island(rng, (0.2, 0.8), inrush=1.0)
    happens = _loss(rng, 2.5) + _black(rng, made[0], 5.0)
    return _story(
        "black-start",
        seed,
        made,
        60.0,
        happens=tuple(happens),
        orders=((9.0, Order.BLACK_START),),
        wants=frozenset({"started"}),
    )


def black_start_fails(seed: int, rng: Rng) -> Story:
    """A step of the black start fails: a source does not start or form, trips, or a block's contactor does not obey."""
    made = island(rng, (0.2, 0.9), inrush=1.5)
    spec = made[0]
    happens = _loss(rng, 2.5) + _black(rng, spec, 5.0)
    formers = [s.id for s in spec.sources if s.can_form]
    how = str(rng.choice(["start", "form", "trip", "stuck", "refused", "surprise"]))
    block = spec.loads[int(rng.integers(0, len(spec.loads)))]
    deaf: tuple[Deaf, ...] = ()
    if how == "start":
        happens += [(7.5, "starts", s, 0.0) for s in formers]
    elif how == "form":
        happens += [(7.5, "forms", s, 0.0) for s in formers]
    elif how == "trip":
        happens += [(float(rng.uniform(10.0, 16.0)), "trip", s, 1.0) for s in formers]
    elif how == "stuck":
        happens.append((8.5, "stuck", block.id, 1.0))
    elif how == "refused":
        deaf = (Deaf(8.5, 1e9, block.id, "refused", "restore"),)
    else:  # a block draws many times of what is known of it
        happens.append((8.5, "demand", block.id, block.p_kw * 5.0 + forming_kw(list(spec.sources))))
    return _story(
        f"black-start-fails-{how}",
        seed,
        made,
        45.0,
        happens=tuple(happens),
        deaf=deaf,
        orders=((9.0, Order.BLACK_START),),
    )


def switch_faults(seed: int, rng: Rng) -> Story:
    """Welded shut, stuck open, contacts that contradict each other."""
    made = island(rng, (0.2, 0.8), relay=False)
    how = str(rng.choice(["welded", "stuck", "unknown"]))
    happens = _loss(rng, 2.5)
    feedback: tuple[tuple[float, float, str], ...] = ()
    if how == "welded":
        happens.insert(0, (1.5, "welded", "switch", 1.0))
    elif how == "stuck":
        happens = [(1.5, "stuck", "switch", 1.0), *happens, *_back(rng, 7.0)]
    else:
        a = float(rng.uniform(1.5, 12.0))
        feedback = ((a, a + float(rng.uniform(0.1, 20.0)), "unknown"),)
        happens += _back(rng, 7.0)
    return _story(f"switch-{how}", seed, made, 40.0, happens=tuple(happens), feedback=feedback, wants=frozenset({how}))


def blindness(seed: int, rng: Rng) -> Story:
    """Measurements fail, for a moment or for good, around an outage and a return."""
    made = island(rng, (0.2, 1.2))
    spec = made[0]
    fields = ["exchange", "angle", "grid.v", "grid.f", "grid.phases", "island.v", "island.f"]
    fields += [f"{what}:{s.id}" for s in spec.sources for what in ("p", "soc", "running")]
    fields += [f"{what}:{load.id}" for load in spec.loads for what in ("p", "on")]
    blind = []
    for _ in range(int(rng.integers(1, 4))):
        a = float(rng.uniform(1.2, 25.0))
        blind.append(Blind(a, a + float(rng.exponential(8.0)), str(rng.choice(fields))))
    happens = _loss(rng, 2.5) + _back(rng, 12.0)
    return _story("blind", seed, made, 40.0, happens=tuple(happens), blind=tuple(blind))


def deafness(seed: int, rng: Rng) -> Story:
    """Commands are lost or refused, for a moment or for good, by one device or by all."""
    made = island(rng, (0.2, 1.2))
    spec = made[0]
    names = ["switch", "*"] + [s.id for s in spec.sources] + [load.id for load in spec.loads]
    deaf = []
    for _ in range(int(rng.integers(1, 4))):
        a = float(rng.uniform(1.2, 25.0))
        deaf.append(
            Deaf(a, a + float(rng.exponential(4.0)), str(rng.choice(names)), str(rng.choice(["lost", "refused"])))
        )
    happens = _loss(rng, 2.5) + _back(rng, 12.0)
    return _story("deaf", seed, made, 40.0, happens=tuple(happens), deaf=tuple(deaf))


def stopped(seed: int, rng: Rng) -> Story:
    """A person stops it, in any state, and clears it later."""
    made = island(rng, (0.2, 0.8))
    t = float(rng.uniform(1.5, 14.0))
    happens = _loss(rng, 2.5) + _back(rng, 8.0)
    return _story("stop", seed, made, 30.0, happens=tuple(happens), orders=((t, Order.STOP), (t + 8.0, Order.CLEAR)))


KINDS: dict[Callable[[int, Rng], Story], float] = {
    planned: 6.0,
    planned_back: 5.0,
    planned_impossible: 4.0,
    outage: 22.0,
    outage_back: 8.0,
    wrong_phases: 4.0,
    bad_grid: 4.0,
    lost_again: 5.0,
    repetition: 6.0,
    source_trip: 8.0,
    load_step: 6.0,
    soc_out: 4.0,
    black_start: 4.0,
    black_start_fails: 6.0,
    switch_faults: 5.0,
    blindness: 6.0,
    deafness: 6.0,
    stopped: 2.0,
}
"""The kinds and how often each comes."""


def make(seed: int, n: int) -> Story:
    """Event ``n`` of the campaign of ``seed``."""
    rng = keyed_generator(seed, "microgrid-campaign", n)
    kinds = list(KINDS)
    weights = np.array(list(KINDS.values()))
    return kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))](seed * 1_000_003 + n, rng)
