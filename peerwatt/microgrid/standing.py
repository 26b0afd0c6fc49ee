"""Outages of a district that stands alone: its supervisor over the physics of its island, slot by slot.

The supervisor works every 100 ms while anything changes and for a while afterwards; in an island at rest, where only
energy runs down, every five seconds. Powers are those of the slot: what is measured in a second is not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from controllers.microgrid.image import Do, Order, State
from controllers.microgrid.settings import Settings
from controllers.microgrid.supervisor import Supervisor
from grid.island import kernel as k
from grid.island.spec import IslandSpec, LoadSpec, SourceSpec
from grid.island.world import IslandWorld, Reading
from peerwatt.microgrid.adapter import Adapter
from peerwatt.microgrid.outcome import Happening, SlotOutcome, SlotPowers, TraceRow
from peerwatt.microgrid.tally import Tally

if TYPE_CHECKING:
    from peerwatt.microgrid.islanding import IslandSetup
    from peerwatt.microgrid.outages import OutageSpan
    from peerwatt.scenario.microgrid import Microgrid
    from peerwatt.system import System

Index = NDArray[np.int64]

CYCLE_S = 0.1
"""The island cycle [s] (hardware.md, layer 13)."""
CALM_S = 5.0
"""The cycle of an island, or of a connected district, at rest [s]."""
SWING_S = 0.2
"""Of a cycle at rest so long is followed by the millisecond; then only energy runs down [s]."""
RESTLESS_S = 30.0
"""So long after anything changed the island cycle stays short [s]."""
BEFORE_S = 2.0
"""So long before the slot's start the island is looked at, so that the supervisor knows it [s]."""
SETTLED_S = 30.0
"""The district is as it was when it has been connected, with everybody supplied, for so long [s]."""
GENERATION = "generation"
"""All sources that follow: PV and home batteries of supplied buildings."""
LOSS_SHARE = 0.02
"""Losses in the supervisor's island, a share of the load; the slot's own power flow has the true ones."""
FINE_S, MIDDLE_S, COARSE_S = 0.2, 2.0, 30.0
"""Spacing of the trace within ten seconds of a change, for a while after it, and at rest [s]."""
FINE_FOR_S = 10.0
"""So long after a change the trace is fine [s]."""
MILLI = 1000.0
RESTING = (State.ISLANDED, State.CONNECTED)
"""States in which nothing needs to be done within seconds."""
STIRRING = (Do.OPEN, Do.CLOSE, Do.FORM, Do.FOLLOW, Do.START, Do.HALT, Do.SHED, Do.RESTORE)
"""Commands after which the island needs to be watched closely again."""


@dataclass(frozen=True, slots=True)
class _Event:
    """What happens to the district from outside: at which second, and what."""

    at_s: float
    what: str


def events_of(spans: tuple[OutageSpan, ...]) -> list[_Event]:
    """Losses and returns of the grid, orders, trips of the forming source, in time order."""
    found: list[_Event] = []
    for span in spans:
        if span.planned:
            found += [_Event(span.start_s, "order-island"), _Event(span.end_s, "order-reconnect")]
            continue
        found += [_Event(span.start_s, "grid-lost"), _Event(span.end_s, "grid-back")]
        if span.black:
            found.append(_Event(span.start_s + 0.01, "forming-trips"))
    return sorted(found, key=lambda event: event.at_s)


class Standing:
    """The course of outages with a microgrid. Between outages nothing of it exists."""

    def __init__(self, system: System, setup: IslandSetup, microgrid: Microgrid) -> None:
        self._ids = system.building_ids
        self._blocks = _blocks(system, setup.forming)
        self._priority = setup.priority
        self._events = events_of(setup.spans)
        self._microgrid = microgrid
        self._battery = _forming_source(system, setup.forming, microgrid)
        self._most_kw = _most_generated_kw(system, setup.forming)
        self._seed = system.scenario.seed
        self._scene: _Scene | None = None

    @property
    def settled(self) -> bool:
        """Whether the district is connected, everybody supplied, and has been so for a while."""
        return self._scene is None

    def run_slot(self, start_s: float, length_s: float, powers: SlotPowers) -> SlotOutcome:
        """Let the supervisor and the island live through the slot."""
        if self._scene is None:
            spec = IslandSpec(
                sources=(self._battery, _generation(self._most_kw, powers)),
                loads=tuple(
                    LoadSpec(name, int(level), float(p_kw), tan_phi=0.0, exponent=0.0, per_hz=0.0)
                    for name, level, p_kw in (
                        (self._ids[i], self._priority[i], powers.drawn_kw[i]) for i in self._blocks.tolist()
                    )
                ),
                loss_share=LOSS_SHARE,
            )
            self._scene = _Scene(spec, self._settings(powers), start_s - BEFORE_S, self._seed, self._blocks)
        events = [event for event in self._events if start_s <= event.at_s < start_s + length_s]
        outcome = self._scene.slot(start_s, length_s, powers, events)
        if not events and self._scene.settled_at(start_s + length_s):
            self._scene = None
        return outcome

    def _settings(self, powers: SlotPowers) -> Settings:
        rating = max(self._battery.rating_kw, float(powers.drawn_kw.sum()), float(powers.generated_kw.sum()), 1.0)
        return Settings(
            rating_kw=rating,
            floor_soc=self._microgrid.floor_soc,
            droop_share=self._microgrid.droop_percent / 100.0,
            automatic_black_start=True,
            enter_service_s=60.0,
            reserve_charge_share=0.0,  # what is stored while connected is the plan's affair
        )


def _forming_source(system: System, row: int, microgrid: Microgrid) -> SourceSpec:
    """The forming battery as the island's physics sees it."""
    columns, hours = system.storage.columns, system.grid.hours
    charge_kw = float(columns.charge_max_wh[row]) / MILLI / hours
    discharge_kw = float(columns.discharge_max_wh[row]) / MILLI / hours
    capacity_kwh = float(columns.capacity_wh[row]) / MILLI
    rating = max(charge_kw, discharge_kw)
    return SourceSpec(
        id=f"battery of {system.building_ids[int(columns.building[row])]}",
        rating_kw=rating,
        inertia_s=max(microgrid.inertia_s, 0.05),
        droop_hz_per_kw=50.0 * microgrid.droop_percent / 100.0 / rating,
        charge_kw=charge_kw,
        discharge_kw=discharge_kw,
        capacity_kwh=capacity_kwh,
        soc_empty=float(columns.min_wh[row]) / MILLI / capacity_kwh,
        soc_full=float(columns.max_wh[row]) / MILLI / capacity_kwh,
        efficiency=float(columns.discharge_ppm[row]) / 1e6,
        self_forms=True,
        start_s=microgrid.start_seconds,
    )


def _blocks(system: System, forming: int) -> Index:
    """Buildings with a contactor of their own: all but one that holds nothing than the forming battery."""
    home = int(system.storage.columns.building[forming])
    rows = [a.building for a in (system.demand.load, system.demand.heat_pump, system.demand.pv)]
    rows += [system.chargers.columns.building, system.heating.columns.building]
    alone = system.community[home] and not any((r == home).any() for r in rows)
    return np.array([i for i in range(system.n_buildings) if not (alone and i == home)], np.int64)


def _generation(most_kw: float, powers: SlotPowers) -> SourceSpec:
    """All that follows, as one source of rating ``most_kw``: the supervisor's dead bands are shares of it."""
    possible_kw = float(powers.generated_kw.sum())
    return SourceSpec(
        id=GENERATION, rating_kw=max(most_kw, possible_kw, 1.0), can_form=False, available_kw=possible_kw,
        ride_s=1.5, return_s=30.0,
    )  # fmt: skip


def _most_generated_kw(system: System, forming: int) -> float:
    """Rated power of all PV, and of all batteries that do not form [kW]."""
    given_wh = system.storage.columns.discharge_max_wh
    home_wh = float(given_wh.sum() - given_wh[forming])
    return sum(b.pv_kw for b in system.static.buildings) + home_wh / MILLI / system.grid.hours


class _Scene:
    """One outage from its beginning to the end of the way back."""

    def __init__(self, spec: IslandSpec, settings: Settings, start_s: float, seed: int, blocks: Index) -> None:
        self._spec = spec
        self._blocks = blocks
        self._world = IslandWorld(spec, seed)
        self._zero_s = start_s  # of the world's clock
        self._adapter = Adapter(spec, self._world)
        self._supervisor = Supervisor(settings)
        self._forming = spec.sources[0].id
        self._restless_until = start_s + BEFORE_S + RESTLESS_S
        self._good_since = start_s
        self._traced_s = -np.inf
        self._stirred_s = -np.inf
        self._generated_kw = np.zeros(0)
        self._now_s = start_s
        self._world.tell("follow", self._forming, 0.0)
        self._world.tell("power", GENERATION, -spec.sources[1].rating_kw)
        self._orders: tuple[Order, ...] = ()

    def settled_at(self, now_s: float) -> bool:
        """Whether everything has been as usual for long enough."""
        return now_s - self._good_since >= SETTLED_S

    def slot(self, start_s: float, length_s: float, powers: SlotPowers, events: list[_Event]) -> SlotOutcome:
        """Run from where the scene stands to the slot's end."""
        tally = Tally(len(powers.drawn_kw))
        self._demand(start_s, powers)
        end_s = start_s + length_s
        waiting = list(events)
        while self._now_s < end_s - 1e-9:
            if waiting and waiting[0].at_s <= self._now_s + 1e-9:
                self._happen(waiting.pop(0), tally)
                continue
            step_s = self._step_s(end_s, waiting)
            self._cycle(step_s, tally, counted=self._now_s >= start_s - 1e-9)
        return tally.outcome(length_s)

    def _step_s(self, end_s: float, waiting: list[_Event]) -> float:
        calm = self._supervisor.state in RESTING and self._now_s >= self._restless_until
        step_s = CALM_S if calm else CYCLE_S
        limits = [end_s, *(event.at_s for event in waiting[:1])]
        return max(min(step_s, min(limits) - self._now_s), 0.001)

    def _demand(self, start_s: float, powers: SlotPowers) -> None:
        """The slot's powers: what each building draws, and may generate, from now on."""
        for spec, p_kw in zip(self._spec.loads, powers.drawn_kw[self._blocks].tolist(), strict=True):
            self._world.tell("demand", spec.id, p_kw)
        self._generated_kw = powers.generated_kw
        self._world.tell("soc", self._forming, powers.forming_soc)
        self._restless_until = max(self._restless_until, start_s + 5.0)

    def _happen(self, event: _Event, tally: Tally) -> None:
        world, text = self._world, event.what
        self._restless_until = event.at_s + RESTLESS_S
        self._stirred_s = event.at_s
        self._good_since = event.at_s
        if event.what == "grid-lost":
            world.tell("voltage", "grid", 0.0)
            text = "the grid above is lost"
        elif event.what == "grid-back":
            world.tell("voltage", "grid", 1.0)
            text = "the grid above is back"
        elif event.what == "forming-trips":
            world.tell("halt", self._forming)
            text = f"the {self._forming} trips: the district is dark"
        else:
            self._orders = (Order.ISLAND if event.what == "order-island" else Order.RECONNECT,)
            text = "the order to island" if event.what == "order-island" else "the order to reconnect"
        tally.happenings.append(Happening(event.at_s, event.what, text))

    def _cycle(self, step_s: float, tally: Tally, *, counted: bool) -> None:
        """Look, decide, act, and let ``step_s`` pass."""
        reading = self._world.read()
        decision = self._supervisor.step(self._adapter.image(self._now_s, reading, self._orders))
        self._orders = ()
        self._adapter.tell(decision.commands)
        if any(command.do in STIRRING for command in decision.commands):
            self._restless_until = max(self._restless_until, self._now_s + RESTLESS_S / 3)
            self._stirred_s = self._now_s
        if counted:
            tally.happenings += [Happening(self._now_s, news.kind, news.text) for news in decision.news]
        supplied = np.full(len(self._generated_kw), reading.live)
        supplied[self._blocks] &= reading.loads[:, k.L_ON] > 0.0
        self._world.tell("available", GENERATION, float(self._generated_kw @ supplied))
        if not (decision.state == State.CONNECTED and supplied.all() and reading.closed):
            self._good_since = self._now_s + step_s
        until_s = self._now_s + step_s - self._zero_s
        self._world.run(min(until_s, self._world.t_s + SWING_S))
        if self._world.t_s < until_s:
            self._world.rest(until_s)
        if counted:
            after = self._world.read()
            tally.add(step_s, supplied, reading.closed, after, float(self._generated_kw @ supplied))
            self._trace(after, decision.state, tally)
        self._now_s = round(self._now_s + step_s, 3)

    def _trace(self, reading: Reading, state: State, tally: Tally) -> None:
        since_s = self._now_s - self._stirred_s
        calm = self._now_s >= self._restless_until
        spacing_s = FINE_S if since_s < FINE_FOR_S else COARSE_S if calm else MIDDLE_S
        if self._now_s - self._traced_s < spacing_s - 1e-9:
            return
        self._traced_s = self._now_s
        on = reading.live & (reading.loads[:, k.L_ON] > 0.0)
        forming, others = -reading.p_kw
        tally.trace.append(
            TraceRow(
                at_s=self._now_s,
                state=state.value,
                frequency_hz=float(reading.bus[k.B_F]) if reading.live else 0.0,
                forming_kw=round(float(forming), 9),
                generated_kw=round(float(others), 9),
                load_kw=round(float(reading.bus[k.B_LOAD]), 9),
                shed_kw=float(reading.loads[~on, k.L_P0].sum()),
                exchange_kw=round(float(reading.bus[k.B_EXCHANGE]), 9),
                soc=float(reading.sources[0, k.S_ENERGY] / reading.sources[0, k.S_CAPACITY]),
            )
        )
