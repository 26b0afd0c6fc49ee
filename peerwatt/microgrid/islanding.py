"""The island between the slot cycle and the course of an outage: who is supplied, what is told to the plant, and which
network and market hold in such a slot.

Slots that an outage touches are run one at a time. In them the market is frozen: no books, no standing contracts;
what is metered is shared by the mid-market rate, or billed at the island's published price (`microgrid.market`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core import GridError
from grid.assets.battery import step_batteries
from grid.assets.quantise import quantise_wh, sum_by_building
from market.registry import make_rule
from peerwatt.messages import Forecast, Observation, Plan, Prices, SetPoints, Window
from peerwatt.microgrid.outcome import Course, SlotOutcome, SlotPowers
from peerwatt.microgrid.reliability import Reliability
from peerwatt.microgrid.story import Story
from peerwatt.plants import reactive_kvar
from peerwatt.wires import bus_power

if TYPE_CHECKING:
    from grid.network import Network
    from peerwatt.microgrid.outages import OutageSpan
    from peerwatt.system import System

Int = NDArray[np.int64]
Float = NDArray[np.float64]

PPM = 1_000_000
ROUNDS = 40
"""So often the lattice is asked whether the forming battery can balance the island before that is an error."""


@dataclass(frozen=True, slots=True)
class IslandSetup:
    """What a run with outages needs: the spans, and of a microgrid its source, wires and rules.

    ``forming`` is the row of the forming battery, -1 without a microgrid; ``alone`` the network held by it;
    ``priority`` (B,) with 1 kept longest; ``island_price_u`` the published price of a repriced island, None: frozen.
    """

    spans: tuple[OutageSpan, ...]
    forming: int
    alone: Network | None
    priority: Int
    island_price_u: int | None


@dataclass(frozen=True, slots=True)
class _Share:
    """What of its wishes each building gets, in millionths (B,), and of the generation that is let in."""

    ppm: Int
    generated_ppm: int


class Islanding:
    """Outages of one run: carried from slot to slot."""

    def __init__(self, system: System, setup: IslandSetup, course: Course) -> None:
        self._system = system
        self._setup = setup
        self._course = course
        self._now: tuple[Window, SlotOutcome] | None = None
        self.reliability = Reliability.of(system.n_buildings)
        self.story = Story()

    @property
    def at_rest(self) -> bool:
        """Whether no outage goes on, so that a checkpoint can be taken."""
        return self._course.settled

    def cut(self, window: Window) -> Window:
        """The part of ``window`` up to the next outage; a slot that an outage touches stands alone."""
        if self.touches(window.first):
            return Window(window.first, 1)
        length_s = self._system.grid.length_s
        ahead = [int(s.start_s // length_s) for s in self._setup.spans if s.start_s >= window.first * length_s]
        last = min([window.first + window.n, *ahead])
        return Window(window.first, last - window.first)

    def concerns(self, window: Window) -> bool:
        """Whether ``window`` is a slot of an outage.

        Raises
        ------
        RuntimeError
            If it holds more than such a slot: windows come from ``cut``.
        """
        if self.touches(window.first) and window.n == 1:
            return True
        if self.cut(window) != window:
            raise RuntimeError("an outage falls into a window of several slots")
        self._rest()
        return False

    def dark(self, window: Window) -> bool:
        """Whether nobody had supply in ``window``, from its beginning to its end."""
        return self._now is not None and self._now[0] == window and not self._now[1].supplied.any()

    def touches(self, slot: int) -> bool:
        """Whether an outage, or the way back from one, falls into ``slot``."""
        length_s = self._system.grid.length_s
        start_s, end_s = slot * length_s, (slot + 1) * length_s
        inside = any(span.start_s < end_s and span.end_s > start_s for span in self._setup.spans)
        return inside or not self._course.settled

    def dispatch(
        self, intent: Plan, forecast: Forecast, seen: Observation, remainder_wh: Float, window: Window
    ) -> SetPoints:
        """Let the slot happen to the district, and say what the plant does in it: what is supplied, nothing else.

        Parameters
        ----------
        intent, forecast, seen
            What the controllers would do, what is expected, and the plant's state.
        remainder_wh
            The remainder of the losses, as the physics of this slot will get it.
        window
            One slot.
        """
        wishes = _Wishes(self._system, self._setup.forming, intent, forecast, window)
        length_s = float(self._system.grid.length_s)
        state = seen.battery
        soc = 0.0
        if self._setup.forming >= 0:
            columns = self._system.storage.columns
            soc = float(state.e_wh[self._setup.forming]) / float(columns.capacity_wh[self._setup.forming])
        outcome = self._course.run_slot(window.first * length_s, length_s, wishes.powers(soc))
        self._now = (window, outcome)
        for seconds, dark in outcome.dark_steps:
            self.reliability.pass_time(dark, seconds)
        self.story.add(outcome)
        share = _Share(np.rint(outcome.supplied * PPM).astype(np.int64), round(outcome.generated * PPM))
        if self._whole_island(outcome):
            points, share = self._balanced(wishes, share, seen, remainder_wh, window)
        else:
            points = wishes.granted(share)
            if self._setup.forming >= 0:
                hours = self._system.grid.hours
                planned_wh = float(intent.battery_wh[0, self._setup.forming]) * outcome.connected
                points.battery_wh[0, self._setup.forming] = round(planned_wh + outcome.forming_kw * 1000.0 * hours)
        self.reliability.unserved_wh += wishes.unserved(share)
        return points

    def system_of(self, window: Window) -> System:
        """The system as it holds in ``window``: in an outage the market is frozen, an island has its own wires."""
        if self._now is None or self._now[0] != window:
            return self._system
        system = self._system
        market = replace(system.market, ahead=(), levels=(), backstop="after", rounds=1)
        if system.market.rule.name != "no_market":
            market = replace(market, rule=make_rule("mid_market_rate"))
        wires = system.wires
        if wires is not None and self._setup.alone is not None and self._whole_island(self._now[1]):
            wires = replace(wires, network=self._setup.alone)
        return replace(system, market=market, wires=wires)

    def prices_of(self, prices: Prices, window: Window) -> Prices:
        """The prices of ``window``: in a repriced island one for everybody, bought or sold."""
        price_u = self._setup.island_price_u
        if price_u is None or self._now is None or self._now[0] != window:
            return prices
        same = np.full_like(prices.retail_u, price_u)
        return replace(prices, retail_u=same, feed_in_u=same)

    def _rest(self) -> None:
        """A window without an outage has begun: whoever was dark is supplied again."""
        self._now = None
        self.reliability.pass_time(np.zeros(self._system.n_buildings, np.bool_), 0.0)

    def summary(self) -> dict[str, Any]:
        """The block ``reliability`` of summary.json; the run is over."""
        self.reliability.finish()
        system = self._system
        customers = np.zeros(system.n_buildings, np.bool_)
        for rows in (system.demand.load.building, system.demand.heat_pump.building, system.heating.columns.building):
            customers[rows] = True
        told = [{"at_s": h.at_s, "kind": h.kind, "text": h.text} for h in self.story.happenings]
        figures = self.reliability.summary(system.building_ids, customers)
        return {"outages": len(self._setup.spans), "microgrid": self._setup.forming >= 0, **figures, "events": told}

    def checkpoint(self) -> dict[str, np.ndarray]:
        """State as arrays, taken while no outage goes on."""
        return self.reliability.checkpoint() | self.story.checkpoint()

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Return to a state that ``checkpoint`` gave."""
        counts = {f.name: arrays[f.name] for f in fields(Reliability)}
        self.reliability = Reliability.restore(counts)
        self.story = Story.restore(arrays)

    def _whole_island(self, outcome: SlotOutcome) -> bool:
        return self._setup.forming >= 0 and outcome.connected == 0.0 and bool(outcome.supplied.any())

    def _balanced(
        self, wishes: _Wishes, share: _Share, seen: Observation, remainder_wh: Float, window: Window
    ) -> tuple[SetPoints, _Share]:
        """Set-points with which nothing crosses the switch: the forming battery gives what others and losses take.

        Where its integer law allows less than that, the last watt-hours are shed (highest number of priority first) or
        held back (generation).

        Raises
        ------
        GridError
            If the battery cannot balance the island even so.
        """
        system, k = self._system, self._setup.forming
        guess_wh = 0
        for _ in range(ROUNDS):
            points = wishes.granted(share)
            others_wh = int(wishes.net_wh(points).sum())
            points.battery_wh[0, k] = guess_wh  # what it gives has no say in the losses but for the last bit
            need_wh = -others_wh - self._loss_wh(wishes.net_wh(points), points, wishes, remainder_wh, window)
            points.battery_wh[0, k] = need_wh
            able_wh = int(step_batteries(system.storage.columns, seen.battery, points.battery_wh)[0].net_wh[0, k])
            if able_wh == need_wh == guess_wh:
                return points, share
            guess_wh = need_wh
            if able_wh != need_wh:
                share = wishes.less(share, self._setup.priority, able_wh - need_wh)
        raise GridError(
            f"the forming battery cannot balance the island: {need_wh} Wh asked for, {able_wh} Wh possible",
            slot=window.first,
            remedy="give it more power or energy, or a higher microgrid.floor_soc",
        )

    def _loss_wh(self, net_wh: Int, points: SetPoints, wishes: _Wishes, remainder_wh: Float, window: Window) -> int:
        """Losses of the island's wires, as the physics will round them."""
        wires, alone = self._system.wires, self._setup.alone
        if wires is None or alone is None:
            return 0
        hours = self._system.grid.hours
        p_kw = bus_power(wires, net_wh) / (1000.0 * hours)
        q_kvar = bus_power(wires, wishes.q_kvar(points))
        flow = alone.power_flow(p_kw, q_kvar, engine=wires.engine, threads=wires.threads, first_slot=window.first)
        loss_wh, _ = quantise_wh(flow.losses_kw[:, None] * hours, remainder_wh)
        return int(loss_wh[0, 0])


class _Wishes:
    """What all buildings would do in the slot if they were supplied [Wh], and what of it is granted."""

    def __init__(self, system: System, forming: int, intent: Plan, forecast: Forecast, window: Window) -> None:
        self._n = system.n_buildings
        self._q_kvar = reactive_kvar(
            system.demand, system.profiles.window(window.first, window.n), system.n_buildings, system.grid.hours
        )
        self._tan_phi = system.heating.tan_phi
        self._cars = system.chargers.columns.building
        self._stores = system.storage.columns.building
        self._rooms = system.heating.columns.building
        self._hours = system.grid.hours
        self._intent = intent
        self._loads = (forecast.load_wh, forecast.heat_pump_wh)  # rounded down each, as the plant does
        self._load = forecast.load_wh + forecast.heat_pump_wh
        self._pv = forecast.pv_wh - intent.curtail_wh
        self._home = intent.battery_wh.copy()
        if forming >= 0:
            self._home[0, forming] = 0
        self._available = forecast.pv_wh

    def powers(self, soc: float) -> SlotPowers:
        """Mean powers of the slot [kW]."""
        home = sum_by_building(np.maximum(self._home, 0), self._stores, self._n)
        given = sum_by_building(np.maximum(-self._home, 0), self._stores, self._n)
        drawn = self._consumed() + home
        per_kw = 1.0 / (1000.0 * self._hours)
        return SlotPowers(drawn[0] * per_kw, (self._pv + given)[0] * per_kw, soc)

    def granted(self, share: _Share) -> SetPoints:
        """Set-points of what is supplied, without the forming battery's."""
        ppm = share.ppm
        battery = np.sign(self._home) * (np.abs(self._home) * ppm[self._stores] // PPM)
        battery = np.where(battery < 0, -(-battery * share.generated_ppm // PPM), battery)
        made = self._pv * ppm // PPM * share.generated_ppm // PPM
        return SetPoints(
            ev_wh=self._intent.ev_wh * ppm[self._cars] // PPM,
            battery_wh=battery,
            heat_wh=self._intent.heat_wh * ppm[self._rooms] // PPM,
            curtail_wh=self._available - made,
            served_ppm=ppm[None, :].copy(),
        )

    def net_wh(self, points: SetPoints) -> Int:
        """Net energy of every building (1, B) under ``points``, without the forming battery's."""
        assert points.served_ppm is not None
        cars = sum_by_building(points.ev_wh, self._cars, self._n)
        stores = sum_by_building(points.battery_wh, self._stores, self._n)
        rooms = sum_by_building(points.heat_wh, self._rooms, self._n)
        made = self._available - points.curtail_wh
        net: Int = self._served(points.served_ppm) + cars + rooms + stores - made
        return net

    def q_kvar(self, points: SetPoints) -> Float:
        """Reactive power of every building (1, B) under ``points`` [kvar], as the plant will have it."""
        assert points.served_ppm is not None
        q = self._q_kvar * (points.served_ppm / PPM)
        q[:, self._rooms] += points.heat_wh * (self._tan_phi / 1000.0 / self._hours)
        return q

    def _consumed(self) -> Int:
        """Load, rooms and cars of every building (1, B)."""
        cars = sum_by_building(self._intent.ev_wh, self._cars, self._n)
        rooms = sum_by_building(self._intent.heat_wh, self._rooms, self._n)
        total: Int = self._load + rooms + cars
        return total

    def unserved(self, share: _Share) -> Int:
        """Load that was not supplied, (B,) [Wh]; cars and heated rooms catch up later."""
        left: Int = (self._load - self._served(share.ppm))[0]
        return left

    def _served(self, ppm: Int) -> Int:
        total: Int = sum((load * ppm // PPM for load in self._loads), np.zeros_like(self._load))
        return total

    def less(self, share: _Share, priority: Int, gap_wh: int) -> _Share:
        """A smaller share: ``gap_wh`` > 0 more is to be shed (the battery gives less), < 0 less is to be generated."""
        if gap_wh < 0:
            made = int((self._pv * share.ppm // PPM * share.generated_ppm // PPM).sum())
            keep = max(made + gap_wh - 2, 0)
            return replace(share, generated_ppm=share.generated_ppm * keep // max(made, 1))
        ppm = share.ppm.copy()
        wanted = self._consumed()[0]
        for level in np.unique(priority)[::-1]:
            rows = np.flatnonzero((priority == level) & (ppm > 0) & (wanted > 0))
            got = int((wanted[rows] * ppm[rows] // PPM).sum())
            if not got:
                continue
            keep = max(got - gap_wh - 2, 0)
            ppm[rows] = ppm[rows] * keep // got
            gap_wh -= got - keep
            if gap_wh <= 0:
                break
        return replace(share, ppm=ppm)
