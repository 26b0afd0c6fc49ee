"""What buildings would do in a slot of an outage, what of it is supplied, and how limits at connection points are kept.

Shares say who is supplied and how much generation is let in; the wishes are scaled by them in whole Wh. Where that
breaks a limit, devices give way as everywhere (`controllers.envelope`): docs/outages.md, `Limits in an outage`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grid.assets.quantise import sum_by_building
from peerwatt.envelopes import NONE_WH, limits_of
from peerwatt.messages import Flows, Forecast, Observation, Plan, SetPoints, Window
from peerwatt.microgrid.outcome import SlotPowers
from peerwatt.plants import PPM, reactive_kvar

if TYPE_CHECKING:
    from peerwatt.system import System

Int = NDArray[np.int64]
Float = NDArray[np.float64]

MOST_WH = 10**9
"""No limit that is one is higher [Wh per slot]; millionths of it do not overflow."""


@dataclass(frozen=True, slots=True)
class Share:
    """What of its wishes each building gets, in millionths (B,), and of the generation that is let in.

    ``eased_wh`` is what all but the forming building draw less so that it feeds in less, ``held_wh`` what they
    generate less so that it draws less: for its own limits, where devices are left that can give way.
    """

    ppm: Int
    generated_ppm: int
    eased_wh: int = 0
    held_wh: int = 0


class SlotWishes:
    """What all buildings would do in the slot if they were supplied [Wh], and what of it is granted."""

    def __init__(
        self, system: System, forming: int, intent: Plan, forecast: Forecast, seen: Observation, window: Window
    ) -> None:
        self._system, self._seen, self._window = system, seen, window
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
        self._forming = forming
        self.home = -1 if forming < 0 else int(self._stores[forming])
        """Building of the forming battery, -1 without one."""
        if forming >= 0:
            self._home[0, forming] = 0
        self._available = forecast.pv_wh
        self._limits = _limits(system, window, forecast)

    def powers(self, soc: float) -> SlotPowers:
        """Mean powers of the slot [kW]."""
        home = sum_by_building(np.maximum(self._home, 0), self._stores, self._n)
        given = sum_by_building(np.maximum(-self._home, 0), self._stores, self._n)
        drawn = self._consumed() + home
        per_kw = 1.0 / (1000.0 * self._hours)
        return SlotPowers(drawn[0] * per_kw, (self._pv + given)[0] * per_kw, soc)

    def granted(self, share: Share) -> SetPoints:
        """Set-points of what is supplied, within all limits but the forming building's; without its battery's."""
        points = self._scaled(share)
        if self._limits is None:
            return points
        points = self._within(points, share)
        if share.eased_wh or share.held_wh:
            points = self._for_the_forming_building(points, share)
        return points

    def planned_net_wh(self, share: Share) -> Int:
        """Net energy of every building (B,) had it done what was planned for as long as it was supplied."""
        points = self._scaled(replace(share, generated_ppm=PPM))
        if self._forming >= 0:
            planned = int(self._intent.battery_wh[0, self._forming])
            points.battery_wh[0, self._forming] = planned * int(share.ppm[self.home]) // PPM
        net: Int = self.net_wh(points)[0]
        return net

    def island_curtailed_wh(self, points: SetPoints) -> Int:
        """Generation (B,) that was curtailed beyond what the plan held back of it while there was supply."""
        assert points.served_ppm is not None
        planned_wh = self._intent.curtail_wh * points.served_ppm // PPM
        more: Int = np.maximum(points.curtail_wh - planned_wh, 0)[0]
        return more

    def _scaled(self, share: Share) -> SetPoints:
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

    # --- limits -------------------------------------------------------------------------------------------------------

    def _limits_while_supplied(self, share: Share) -> tuple[Int, Int]:
        """Limits of drawing and of feeding in (1, B), for the part of the slot in which each building has supply.

        The forming building has none here: what its battery does is decided by all others.
        """
        assert self._limits is not None
        found = []
        for limit in self._limits:
            out = np.where(limit < NONE_WH, np.minimum(limit, MOST_WH) * share.ppm // PPM, NONE_WH)
            if self.home >= 0:
                out[0, self.home] = NONE_WH
            found.append(out)
        return found[0], found[1]

    def _within(self, points: SetPoints, share: Share) -> SetPoints:
        """The same with every building within its limits while it is supplied, where devices can see to it.

        Generation that the island holds back is let in first as far as the own building draws too much: PV, then
        batteries that were planned to discharge. Nobody is fed by it, so it does not burden the island.
        """
        most_wh, feed_wh = self._limits_while_supplied(share)
        over = np.maximum(self.net_wh(points) - most_wh, 0)
        if over.any():
            back = np.minimum(over, points.curtail_wh - (self._available - self._available * share.ppm // PPM))
            over -= back
            battery = points.battery_wh.copy()
            planned = self._scaled(replace(share, generated_ppm=PPM)).battery_wh
            for k in np.flatnonzero((battery > planned)[0]).tolist():
                more = min(int(battery[0, k] - planned[0, k]), int(over[0, self._stores[k]]))
                battery[0, k] -= more
                over[0, self._stores[k]] -= more
            points = replace(points, battery_wh=battery, curtail_wh=points.curtail_wh - back)
        return self._give_way(points, most_wh, feed_wh)

    def _for_the_forming_building(self, points: SetPoints, share: Share) -> SetPoints:
        """The others draw ``eased_wh`` less and generate ``held_wh`` less, each in proportion to what it can."""
        net_wh = self.net_wh(points)
        draws, gives = self._room(points, share)
        less = np.where(draws > 0, net_wh - _spread(share.eased_wh, draws), NONE_WH)
        fewer = np.where(gives > 0, -net_wh - _spread(share.held_wh, gives), NONE_WH)
        return self._give_way(points, less, fewer)

    def _room(self, points: SetPoints, share: Share) -> tuple[Int, Int]:
        """How much less each but the forming building can draw, and generate, within its own limits (1, B)."""
        net_wh = self.net_wh(points)
        most_wh, feed_wh = self._limits_while_supplied(share)
        draws, gives = self._flexible(points)
        found = np.minimum(draws, net_wh + feed_wh), np.minimum(gives, most_wh - net_wh)
        for room in found:
            np.maximum(room, 0, out=room)
            room[0, self.home] = 0
        return found

    def _flexible(self, points: SetPoints) -> tuple[Int, Int]:
        """What devices of each building draw, and what its devices and PV generate, (1, B) each."""
        amounts = ((points.battery_wh, self._stores), (points.ev_wh, self._cars), (points.heat_wh, self._rooms))
        nothing = np.zeros((1, self._n), np.int64)
        draws, gives = (
            sum((sum_by_building(np.maximum(sign * wh, 0), rows, self._n) for wh, rows in amounts), nothing)
            for sign in (1, -1)
        )
        return draws, gives + self._available - points.curtail_wh

    def _give_way(self, points: SetPoints, most_wh: Int, feed_wh: Int) -> SetPoints:
        """`controllers.envelope.keep_within` over set-points; what the island holds back is not let in."""
        from controllers.envelope import Homes, Wishes, keep_within, urgent_charge_wh

        net_wh = self.net_wh(points)
        if not ((net_wh > most_wh) | (-net_wh > feed_wh)).any():
            return points
        cars, made = self._system.chargers, self._available - points.curtail_wh
        urgent = urgent_charge_wh(cars.columns, cars.sessions, self._seen.ev, self._window.first, points.ev_wh)
        wishes = Wishes(points.battery_wh, points.ev_wh, points.heat_wh, np.zeros_like(made))
        homes = Homes(self._stores, self._cars, self._rooms)
        kept = keep_within(wishes, homes, net_wh, made, most_wh, feed_wh, urgent).wishes
        return replace(
            points,
            battery_wh=kept.battery_wh,
            ev_wh=kept.car_wh,
            heat_wh=kept.heat_wh,
            curtail_wh=points.curtail_wh + kept.curtail_wh,
        )

    def easier(self, share: Share, points: SetPoints, part: float = 1.0) -> Share:
        """A share with which the forming building keeps to its limits, with its battery as in ``points``.

        The same if it does already, or if nobody is left who could help: nobody is shed for it. ``part`` of the slot is
        an island: what the others do in the rest of it is no help.
        """
        if self._limits is None or self.home < 0:
            return share
        net_wh = int(self.net_wh(points)[0, self.home])
        most_wh, feed_wh = (int(limit[0, self.home]) for limit in self._limits)
        draws, gives = (int(part * int(room.sum())) for room in self._room(points, share))
        return replace(
            share,
            eased_wh=share.eased_wh + min(max(-net_wh - feed_wh, 0), draws),
            held_wh=share.held_wh + min(max(net_wh - most_wh, 0), gives),
        )

    # --- sums ---------------------------------------------------------------------------------------------------------

    def net_wh(self, points: SetPoints) -> Int:
        """Net energy of every building (1, B) under ``points``."""
        assert points.served_ppm is not None
        cars = sum_by_building(points.ev_wh, self._cars, self._n)
        stores = sum_by_building(points.battery_wh, self._stores, self._n)
        rooms = sum_by_building(points.heat_wh, self._rooms, self._n)
        made = self._available - points.curtail_wh
        net: Int = self._served(points.served_ppm) + cars + rooms + stores - made
        return net

    def flows(self, points: SetPoints) -> Flows:
        """What flows under ``points``, as the plant will have it; without what concerns stored energy."""
        assert points.served_ppm is not None
        nothing = np.zeros((1, self._n), np.int64)
        load_wh, pump_wh = (load * points.served_ppm // PPM for load in self._loads)
        return Flows(
            load_wh=load_wh,
            heat_pump_wh=pump_wh + sum_by_building(points.heat_wh, self._rooms, self._n),
            pv_wh=self._available - points.curtail_wh,
            curtailed_wh=points.curtail_wh,
            ev_wh=sum_by_building(points.ev_wh, self._cars, self._n),
            charge_wh=sum_by_building(np.maximum(points.battery_wh, 0), self._stores, self._n),
            discharge_wh=sum_by_building(np.maximum(-points.battery_wh, 0), self._stores, self._n),
            stored_wh=nothing,
            gained_wh=nothing,
            drawn_wh=nothing,
            leaked_wh=nothing,
            undelivered_wh=nothing,
            q_kvar=self._q_of(points),
            battery_wh=points.battery_wh.copy(),
        )

    def _q_of(self, points: SetPoints) -> Float:
        """Reactive power of every building (1, B) under ``points`` [kvar]."""
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

    def unserved(self, share: Share) -> Int:
        """Load that was not supplied, (B,) [Wh]; cars and heated rooms catch up later."""
        left: Int = (self._load - self._served(share.ppm))[0]
        return left

    def _served(self, ppm: Int) -> Int:
        total: Int = sum((load * ppm // PPM for load in self._loads), np.zeros_like(self._load))
        return total

    def less(self, share: Share, priority: Int, gap_wh: int, points: SetPoints) -> Share:
        """A smaller share than that of ``points``: ``gap_wh`` > 0 more is to be shed, < 0 less is to be generated."""
        if gap_wh < 0:
            wanted = self._pv * share.ppm // PPM * share.generated_ppm // PPM
            free = (
                self._available - points.curtail_wh <= wanted
            )  # where more is let in, less of a share changes nothing
            made = int(wanted[free].sum())
            keep = max(made + gap_wh - 2, 0)
            return replace(share, generated_ppm=share.generated_ppm * keep // max(made, 1))
        ppm = share.ppm.copy()
        drawn = self._consumed()[0]
        for level in np.unique(priority)[::-1]:
            rows = np.flatnonzero((priority == level) & (ppm > 0) & (drawn > 0))
            got = int((drawn[rows] * ppm[rows] // PPM).sum())
            if not got:
                continue
            keep = max(got - gap_wh - 2, 0)
            ppm[rows] = ppm[rows] * keep // got
            gap_wh -= got - keep
            if gap_wh <= 0:
                break
        return replace(share, ppm=ppm)


def _limits(system: System, window: Window, forecast: Forecast) -> tuple[Int, Int] | None:
    """Limits of drawing and of feeding in (1, B); None where nobody has any."""
    limits = limits_of(system, window, forecast)
    if limits is not None:
        return limits.import_wh, limits.export_wh
    if (system.export_limit_wh < 0).all():
        return None
    feed_wh = np.where(system.export_limit_wh < 0, NONE_WH, system.export_limit_wh)[None, :]
    return np.full_like(feed_wh, NONE_WH), feed_wh


def _spread(total_wh: int, most_wh: Int) -> Int:
    """``total_wh``, or as much as there is, over buildings in proportion to ``most_wh`` (1, B)."""
    up_to = np.cumsum(most_wh[0])
    total_wh = min(total_wh, int(up_to[-1]))
    shares: Int = np.diff(total_wh * up_to // max(int(up_to[-1]), 1), prepend=0)[None, :]
    return shares
