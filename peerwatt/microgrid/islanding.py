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
from grid.assets.quantise import quantise_wh
from market.registry import make_rule
from peerwatt.envelopes import kept_in_outage
from peerwatt.grid_support import support_grid, with_inverters
from peerwatt.messages import Flows, Forecast, Observation, Plan, Prices, SetPoints, Window
from peerwatt.microgrid.outcome import Course, SlotOutcome
from peerwatt.microgrid.reliability import Reliability
from peerwatt.microgrid.story import Story
from peerwatt.microgrid.wishes import Share, SlotWishes
from peerwatt.plants import PPM
from peerwatt.wires import bus_power

if TYPE_CHECKING:
    from grid.network import Network
    from peerwatt.microgrid.outages import OutageSpan
    from peerwatt.system import System

Int = NDArray[np.int64]
Float = NDArray[np.float64]

PATIENCE = 10
"""After so many rounds twice as much is shed, or held back, than is missing."""
ROUNDS, EASED_FOR = 80, 40
"""So often the lattice is asked whether the forming battery can balance the island before that is an error; and so
often of these whether it can within its building's limits too."""


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


class Islanding:
    """Outages of one run: carried from slot to slot."""

    def __init__(self, system: System, setup: IslandSetup, course: Course) -> None:
        self._system = system
        self._setup = setup
        self._course = course
        self._now: tuple[Window, SlotOutcome] | None = None
        self._supplied = np.ones(system.n_buildings)  # share of the slot ``_now``
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
    ) -> tuple[SetPoints, Int | None]:
        """Let the slot happen to the district, and say what the plant does in it: what is supplied, nothing else.

        With it, how limits at connection points fared (`peerwatt.envelopes.kept_in_outage`); None without any.

        Parameters
        ----------
        intent, forecast, seen
            What the controllers would do, what is expected, and the plant's state.
        remainder_wh
            The remainder of the losses, as the physics of this slot will get it.
        window
            One slot.
        """
        wishes = SlotWishes(self._system, self._setup.forming, intent, forecast, seen, window)
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
        share = Share(np.rint(outcome.supplied * PPM).astype(np.int64), round(outcome.generated * PPM))
        if self._whole_island(outcome):
            points, share = self._balanced(wishes, share, seen, remainder_wh, window)
        else:
            points = self._partly(wishes, share, intent, outcome)
        self._supplied = share.ppm / PPM
        self.reliability.unserved_wh += wishes.unserved(share)
        curtailed_wh = wishes.island_curtailed_wh(points)
        self.reliability.curtailed_wh += curtailed_wh
        planned_wh = wishes.planned_net_wh(share)
        kept = kept_in_outage(self._system, intent.kept, share.ppm, curtailed_wh, wishes.home, planned_wh)
        return points, kept

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

    def in_service(self, window: Window) -> Float | None:
        """Share of ``window`` in which each inverter follows its functions (1, K); None: all of it.

        What has no supply does nothing, and the forming battery holds the voltage instead of answering it.
        """
        setup = self._system.inverters
        if setup is None or self._now is None or self._now[0] != window:
            return None
        share = self._supplied[setup.building]
        if self._setup.forming >= 0:
            share[setup.battery == self._setup.forming] = self._now[1].connected
        return share[None, :]

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

    def _partly(self, wishes: SlotWishes, share: Share, intent: Plan, outcome: SlotOutcome) -> SetPoints:
        """Set-points of a slot that is an island in part, or not at all: the forming battery does both parts' energy.

        For its building's limits the others give way as in an island, no further than the energy that it moves in the
        island's part.
        """
        points, k = wishes.granted(share), self._setup.forming
        if k < 0:
            return points
        island_wh = outcome.forming_kw * 1000.0 * self._system.grid.hours
        points.battery_wh[0, k] = told_wh = round(float(intent.battery_wh[0, k]) * outcome.connected + island_wh)
        eased = wishes.easier(share, points, 1.0 - outcome.connected)
        less_wh = min(eased.eased_wh, max(-int(island_wh), 0))
        fewer_wh = min(eased.held_wh, max(int(island_wh), 0))
        if less_wh or fewer_wh:
            points = wishes.granted(replace(share, eased_wh=less_wh, held_wh=fewer_wh))
            points.battery_wh[0, k] = told_wh + less_wh - fewer_wh
        return points

    def _balanced(
        self, wishes: SlotWishes, share: Share, seen: Observation, remainder_wh: Float, window: Window
    ) -> tuple[SetPoints, Share]:
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
        for turn in range(ROUNDS):
            points = wishes.granted(share)
            points.battery_wh[0, k] = guess_wh  # what it gives has no say in the losses but for the last bit
            self._supplied = share.ppm / PPM
            flows = support_grid(self.system_of(window), wishes.flows(points), window, self.in_service(window))
            need_wh = guess_wh - int(flows.net_wh.sum()) - self._loss_wh(flows, remainder_wh, window)
            points.battery_wh[0, k] = need_wh
            able_wh = int(step_batteries(system.storage.columns, seen.battery, points.battery_wh)[0].net_wh[0, k])
            if able_wh != need_wh:
                gap_wh = able_wh - need_wh
                if gap_wh < 0:  # what inverters curtail anyway is no help
                    gap_wh -= int((flows.curtailed_wh - points.curtail_wh).sum())
                # who is shed takes the own generation along, so that less than asked for may come of it
                share = wishes.less(share, self._setup.priority, gap_wh * 2 ** (turn // PATIENCE), points)
            elif need_wh == guess_wh:
                eased = wishes.easier(share, points) if turn < EASED_FOR else share
                if (eased.eased_wh, eased.held_wh) == (share.eased_wh, share.held_wh):
                    return points, share
                share = eased
            guess_wh = need_wh
        raise GridError(
            f"the forming battery cannot balance the island: {need_wh} Wh asked for, {able_wh} Wh possible",
            slot=window.first,
            remedy="give it more power or energy, or a higher microgrid.floor_soc",
        )

    def _loss_wh(self, flows: Flows, remainder_wh: Float, window: Window) -> int:
        """Losses of the island's wires, as the physics will round them."""
        wires, alone = self._system.wires, self._setup.alone
        if wires is None or alone is None:
            return 0
        hours = self._system.grid.hours
        p_kw = bus_power(wires, flows.net_wh) / (1000.0 * hours)
        q_kvar = with_inverters(self._system, flows, bus_power(wires, flows.q_kvar))
        flow = alone.power_flow(p_kw, q_kvar, engine=wires.engine, threads=wires.threads, first_slot=window.first)
        loss_wh, _ = quantise_wh(flow.losses_kw[:, None] * hours, remainder_wh)
        return int(loss_wh[0, 0])
