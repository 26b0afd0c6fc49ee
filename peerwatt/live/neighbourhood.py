"""The driver: it runs a neighbourhood's plant and its modelled members beside the market engine, slot by slot.

At a slot's start, which is the market's gate: the plant has done the slot before; modelled members plan and bid from
what their batteries hold now; the engine closes the gate and clears; set-points go out; then power flow and meters tell
what the slot before came to. The steps are those of `peerwatt.cycle`; clearing and settling are the engine's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from core import GridError, ServiceError
from market.engine.commands import (
    AnnouncePlans,
    Command,
    Done,
    EnterMany,
    Leave,
    Measure,
    MeasureNetwork,
    NewOrder,
    Refused,
    Tick,
)
from market.engine.engine import Overloaded
from market.engine.state import ERASED
from peerwatt.clearing import no_contracts
from peerwatt.clocks import Stopwatch
from peerwatt.cycle import SlotCycle, dispatch, meter, physics, plan
from peerwatt.devices.banks import Banks
from peerwatt.grid_support import support_grid
from peerwatt.live.beside import Clock, Missing, Outside
from peerwatt.live.desk import Desk, as_told, desk_for, with_own_terms
from peerwatt.live.genesis import Roll
from peerwatt.live.lateness import METER, StageLateness
from peerwatt.live.planners import Planners, Silent, book_of, known_silent
from peerwatt.live.readings import sourced_readings
from peerwatt.live.reports import SetPoint, SlotReport, network_state, set_points_of
from peerwatt.messages import Flows, NetworkState, Plan, Window
from peerwatt.own_terms import agree
from peerwatt.planning import Standing
from peerwatt.plants import ModelBatteries, ModelPlant, ModelSources
from peerwatt.prices import window_prices
from peerwatt.simulate import SIMULATION_WINDOW, windows

if TYPE_CHECKING:
    from market.book import BookBatch
    from market.engine.engine import Engine
    from market.engine.state import State
    from peerwatt.live.feeder import FeederBooks
    from peerwatt.live.recovery import PlantFile
    from peerwatt.plants import Arrays
    from peerwatt.system import System

HELD_AHEAD = 100
"""Gates that wait beyond the next one: more than can become due while one tick is on its way."""

_LOSS = "loss_remainder_wh"
_STANDING = "standing."
_ATTEMPTS = 3
_AGAIN_S = 0.02


class Neighbourhood:
    """A scenario's buildings as members of a live market.

    Parameters
    ----------
    system
        The prepared scenario; its buildings are members 0 to B - 1 of the engine, by ASCII order of ids.
    engine
        The market, with its writer running.
    clock
        The engine's clock.
    plant_file
        Where the plant's state is kept from slot to slot; None keeps nothing.
    outside
        Who is bid for by others.
    books
        Told of the plans of each gate, for rules that look at the network.
    on_slot, on_set_points
        Told of each gate, and of what the devices are to do.
    banks
        Batteries and PV, some of them devices; None takes models.
    lateness
        Told how late each stage of the cycle is.
    planners
        Asks planners of buildings; None waits for each as long as it takes.
    news
        Told what people should know.
    """

    def __init__(
        self,
        system: System,
        engine: Engine,
        clock: Clock,
        *,
        plant_file: PlantFile | None = None,
        outside: Outside | None = None,
        books: FeederBooks | None = None,
        on_slot: Callable[[SlotReport], None] | None = None,
        on_set_points: Callable[[list[SetPoint]], None] | None = None,
        banks: Banks | None = None,
        lateness: StageLateness | None = None,
        planners: Planners | None = None,
        news: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.system = system
        self.market = engine.config.markets[0].market_id
        self.roll = Roll.of(system, engine.member_of)
        self.slot = 0
        """The next slot whose gate has not been served."""
        self._engine = engine
        self._clock = clock
        self._plant_file = plant_file
        self._outside = outside or Outside()
        self._books = books
        self._on_slot = on_slot
        self._on_set_points = on_set_points
        self.lateness = lateness or StageLateness()
        self._planners = planners or Planners()
        self._news = news
        self._loss_remainder_wh = np.zeros(1)
        self._standing = Standing.none(system)
        self._banks = banks or Banks(ModelBatteries(system), ModelSources())
        self._plant = ModelPlant(system, self._banks.batteries, self._banks.sources)

    # --- the clockwork ------------------------------------------------------------------------------------------------

    def hold(self) -> frozenset[tuple[str, int]]:
        """Gates that must wait for the modelled members' bids: all from the next one that is not served."""
        return self._held(self.slot)

    def _held(self, first: int) -> frozenset[tuple[str, int]]:
        due = max(self._engine.config.slot_of(self._clock()), first) + HELD_AHEAD
        return frozenset((self.market, slot) for slot in range(first, min(due, self.system.grid.n)))

    async def run(self, stop: asyncio.Event, slots: int | None = None) -> None:
        """Serve gates from where the journal stands until ``stop``, the scenario's end, or ``slots`` are delivered.

        A slot whose gate an earlier life served is delivered, and not one of ``slots``.
        """
        end = self.system.grid.n if slots is None else min(self.slot + slots, self.system.grid.n)
        config = self._engine.config
        delivering = False
        while True:
            slot = self.slot
            due_us = config.slot_start_us(slot)
            if not await self._reached(due_us, stop):
                return
            flows = await self._measured(slot - 1) if delivering else None
            kept = self._plant.checkpoint() | {_STANDING + k: v for k, v in self._standing.checkpoint().items()}
            missed = slot < end and self._clock() >= config.slot_start_us(slot + 1)
            if missed:  # time is not pressing any more, and slots settle in their order
                await self._close(slot, flows, kept)
            if slot < end:
                if not await self._gate(slot, due_us, missed=missed):
                    end = min(end + 1, self.system.grid.n)
                self.slot = slot + 1
            if not missed:
                await self._close(slot, flows, kept)
            if slot >= end:
                return
            delivering = not missed

    async def _close(self, slot: int, flows: Flows | None, kept: Arrays) -> None:
        """Read the meters of the slot before, if they are not, and keep the plant's state at the start of ``slot``."""
        if flows is not None:
            await self._meters(slot - 1, flows)
            self.lateness.add(METER, self._late_s(self._engine.config.slot_start_us(slot)))
        if self._plant_file is not None:
            self._plant_file.save(slot, kept | {_LOSS: self._loss_remainder_wh})

    async def _reached(self, due_us: int, stop: asyncio.Event) -> bool:
        """Wait for a moment of engine time; False if the service is to stop before it comes."""
        wait = asyncio.create_task(self._clock.until(due_us))
        halt = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({wait, halt}, return_when=asyncio.FIRST_COMPLETED)
            return not stop.is_set()
        finally:
            for task in (wait, halt):
                task.cancel()
            await asyncio.gather(wait, halt, return_exceptions=True)

    async def _tell(self, *commands: Command) -> list[Done | Refused]:
        """Have commands carried out in their order, in one group if there is room for all of them.

        The neighbourhood's own commands are not given up when the engine is overloaded: they come again at once.
        """
        replies: list[Done | Refused] = []
        while len(replies) < len(commands):
            asked = [self._engine.submit(command) for command in commands[len(replies) :]]
            for reply in await asyncio.gather(*asked, return_exceptions=True):
                if isinstance(reply, Overloaded):  # and so is whatever comes behind it
                    await asyncio.sleep(_AGAIN_S)
                    break
                if isinstance(reply, BaseException):
                    raise reply
                replies.append(reply)
        for command, done in zip(commands, replies, strict=True):
            if isinstance(done, Refused) and isinstance(command, EnterMany | Tick):
                raise ServiceError(
                    f"the market refused the neighbourhood's own {type(command).__name__}: {done.reason}",
                    remedy="this is a mistake of peerwatt's, please report it with the journal's last records",
                )
        return replies

    # --- a gate -------------------------------------------------------------------------------------------------------

    async def _gate(self, slot: int, due_us: int, *, missed: bool) -> bool:
        """Bid, clear, set. False if the gate was served before a restart: then devices are set again, and that is all.

        Of a slot that is over before its gate is served, nothing can be waited for any more: its meters are read before
        it clears, so that it is settled by them.
        """
        self.roll = Roll.of(self.system, self._engine.member_of)
        await self._tell(self._tick(slot))  # opens what is due; this gate waits
        outside = self._outside.bidders()
        modelled = self._modelled(outside)
        desk = await self._engine.read(lambda state: desk_for(state, self.market, slot, self.roll))
        intent, book = await asyncio.to_thread(self._plan, slot, desk, modelled)
        if self._books is not None:
            self._books.note(slot, intent.net_wh[0], self.roll)
        bids: list[Command] = []
        if not desk.planned:  # refused after the gate, and standing contracts do without
            bids.append(AnnouncePlans(slot, self._by_member(intent.net_wh[0]), self._fallen_back()))
        orders = self._orders(slot, book)
        if orders and desk.takes_orders and not desk.entered:
            bids.append(EnterMany(self.market, orders))
        if missed:
            await self._set_points(slot, intent, desk)
            await self._tell(*bids)
            await self._meters(slot, await self._measured(slot))
            bids = []
        watch = Stopwatch()
        await self._tell(*bids, self._tick(slot + 1))  # closes the gate and clears
        clearing_s, late_s = watch.elapsed_s(), self._late_s(due_us)
        if not missed:
            await self._set_points(slot, intent, desk)
        if not desk.served:
            self.lateness.gate(late_s, self._late_s(due_us), missed=missed)
        await self._departures(slot + 1)
        if self._on_slot is not None and not desk.served:
            report = await self._engine.read(lambda state: self._report(state, slot))
            self._on_slot(replace(report, late_s=late_s, halted=desk.halted, clearing_s=clearing_s))
        return not desk.served

    def _late_s(self, due_us: int) -> float:
        """So long ago [s of the wall clock]."""
        return self._clock.wall_s(self._clock() - due_us)

    def _tick(self, first_held: int) -> Tick:
        return Tick(self._held(first_held))

    async def _departures(self, slot: int) -> None:
        """Members that leave by the scenario's will before ``slot``, whose gate is the next one."""
        if slot < self.system.grid.n:
            for building in np.flatnonzero(self.system.market.active_until == slot).tolist():
                await self._tell(Leave(self.roll.member_of[building]))  # refused where it has left already

    def _modelled(self, outside: frozenset[str]) -> frozenset[int]:
        ids = self.system.building_ids
        return frozenset(m for m, b in self.roll.pairs if ids[b] not in outside)

    def _plan(self, slot: int, desk: Desk, modelled: frozenset[int]) -> tuple[Plan, BookBatch]:
        """Observe, plan, serve standing contracts and bid, as the simulation does; nobody bids for outside members."""
        window = Window(slot, 1)
        system = with_own_terms(self.system, desk)
        system = self._planners.at_gate(system, self._planned_before(slot, desk))
        forecast = self._plant.forecast(window)
        prices = window_prices(system, window)
        intent, self._standing = plan(system, self._plant.observe(), forecast, prices, window, self._standing)
        _, net_wh = agree(system, intent.net_wh, window)
        ours = np.array([m in modelled for m in self.roll.member_of], np.bool_)
        active = (desk.bids & ours)[None, :]
        book, silent = book_of(system, net_wh, active, prices, window, intent)
        for building, error in silent.items():
            self._news(f"BIDDER SILENT: {self.system.building_ids[building]}: {error}. It has no order for this slot")
        return intent, book

    def _orders(self, slot: int, book: BookBatch) -> tuple[tuple[int, NewOrder], ...]:
        """Orders of a book of one slot, by rising member number."""
        side, e_wh, price_u = book.side[0], book.e_wh[0], book.price_u[0]
        return tuple(
            (member, NewOrder(slot, int(side[b]), int(e_wh[b]), int(price_u[b])))
            for member, b in self.roll.pairs
            if side[b] and e_wh[b]
        )

    def _planned_before(self, slot: int, desk: Desk) -> Silent | None:
        """Of a slot that was planned before a restart: who fell back then."""
        return {slot: frozenset(b for m, b in self.roll.pairs if m in desk.fell_back)} if desk.planned else None

    def _fallen_back(self) -> tuple[int, ...]:
        """Members whose planner gave no plan for the slot."""
        return tuple(m for m, b in self.roll.pairs if self._standing.silent[b])

    def _by_member(self, per_building: np.ndarray) -> tuple[tuple[int, int], ...]:
        return tuple((m, int(per_building[b])) for m, b in self.roll.pairs)

    async def _measured(self, slot: int) -> Flows:
        """What flowed in a slot that is over. Devices are read in a thread: the market goes on meanwhile."""
        window = Window(slot, 1)
        if not self._banks.accounts:
            return self._plant.measure(window)
        return await asyncio.to_thread(self._plant.measure, window)

    async def _set_points(self, slot: int, intent: Plan, desk: Desk) -> None:
        """Tell the plant. A trade obliges to pay, not to move a battery: the controllers' plan stands in any case.

        While the market is suspended nothing of it reaches a device, and set-points say that they are the default.
        """
        window = Window(slot, 1)
        told = dispatch(intent, no_contracts(1, self.system.n_buildings))
        if not self._banks.accounts:
            self._plant.apply(told, window)
        else:
            with self._banks.replaying() if desk.halted else nullcontext():
                await asyncio.to_thread(self._plant.apply, told, window)
        if self._on_set_points is not None:
            source = "default" if desk.halted else "market"
            self._on_set_points(set_points_of(self.system, self._engine.config, slot, told, source))

    def _report(self, state: State, slot: int) -> SlotReport:
        book = state.markets[self.market].books.get(slot)
        result = None if book is None else book.result
        orders = [] if book is None else list(book.orders.values())
        gate_us = state.config.gate_us(state.markets[self.market].config, slot)
        return SlotReport(
            slot=slot,
            start_us=state.config.slot_start_us(slot),
            status="unknown" if book is None else str(book.status),
            price_u=None if result is None else result.price_u,
            volume_wh=0 if result is None else result.volume_wh,
            members=sum(m.takes_part(slot) for m in state.members.values()),
            orders=len(orders),
            outside_orders=sum(order.t_us < gate_us for order in orders),
        )

    # --- after delivery -----------------------------------------------------------------------------------------------

    async def _meters(self, slot: int, flows: Flows) -> None:
        """Power flow and meters of a slot that is over; then the engine can settle it.

        What the engine does not take any more (of somebody erased a moment ago, of a slot long gone) is left out.
        """
        flows, state, failure = await asyncio.to_thread(self._physics, slot, flows)
        self.roll = Roll.of(self.system, self._engine.member_of)
        meters = meter(self.system, flows, Window(slot, 1))
        for _ in range(_ATTEMPTS):
            missing = await self._engine.read(lambda market: self._missing(market, slot))
            end_us = self._engine.config.slot_start_us(slot + 1)
            readings = sourced_readings(self.system, self.roll, self._banks, meters, slot, end_us, missing.members)
            commands: list[Command] = []
            if missing.network:
                shown = network_state(self.system, state, failure)
                commands.append(MeasureNetwork(slot, int(state.loss_wh[0]), shown))
            commands += [Measure(of_source, source) for source, of_source in readings.items()]
            replies = await self._tell(*commands, self._tick(self.slot))
            if not any(isinstance(reply, Refused) for reply in replies):
                break

    def _physics(self, slot: int, flows: Flows) -> tuple[Flows, NetworkState, str]:
        """What inverters and wires did. A power flow that does not converge is told; the slot then has no losses."""
        window = Window(slot, 1)
        try:
            flows = support_grid(self.system, flows, window)
            state, rest = physics(self.system, flows, self._loss_remainder_wh, window)
        except GridError as error:
            return flows, NetworkState(np.zeros(1, np.int64), None, None, None, None, None), str(error)
        self._loss_remainder_wh = rest
        return flows, state, ""

    def _missing(self, state: State, slot: int) -> Missing:
        """What the engine has not heard of a slot, and takes. Members that are being erased are measured no longer."""
        left_out = self._outside.bidders() if self._outside.meters else frozenset()
        known = state.slots.get(slot)
        if known is None or (known.erased and known.versions):
            return Missing(network=False, members=frozenset())
        gone = {m.member for m in state.members.values() if m.status == ERASED or (m.erasing and not m.inside(slot))}
        return Missing(network=not known.network_seq, members=self._modelled(left_out) - set(known.readings) - gone)

    # --- starting and coming back -------------------------------------------------------------------------------------

    async def warm_up(self) -> None:
        """Load what the first slot needs, on a plant of its own: compiled code, the network's factors."""
        if self.system.grid.n:
            await asyncio.to_thread(self._try_a_slot)

    def _try_a_slot(self) -> None:
        cycle = SlotCycle(self.system, self._models())
        window = Window(0, 1)
        with suppress(GridError):  # told when it happens in earnest
            cycle.close(window, cycle.open(window))

    async def recover(self) -> int:
        """Find the slot to go on with, and bring the plant to its start; returns how many slots were computed again."""
        slot: int = await self._engine.read(self._first_undone)
        found = None if self._plant_file is None else self._plant_file.load()
        first = 0
        if found is not None and found[0] <= slot:
            first = found[0]
            arrays = dict(found[1])
            self._loss_remainder_wh = arrays.pop(_LOSS)
            standing = {k: arrays.pop(k) for k in list(arrays) if k.startswith(_STANDING)}
            self._standing = self._standing.restore({k.removeprefix(_STANDING): v for k, v in standing.items()})
            self._plant.restore(arrays)
        roll = Roll.of(self.system, self._engine.member_of)
        told = await self._engine.read(lambda state: as_told(self.system, state, roll))
        silent: Silent = await self._engine.read(
            lambda state: known_silent(state, Roll.of(self.system, self._engine.member_of))
        )
        system = self._planners.at_gate(told, silent)
        await asyncio.to_thread(self._replay, first, slot, system)
        self.slot = slot
        return slot - first

    def _first_undone(self, state: State) -> int:
        """The first slot whose measurements are not all in the journal; they come in order."""
        last = max((slot for slot, known in state.slots.items() if known.network_seq), default=None)
        if last is None:
            return state.dropped_until
        return last if self._missing(state, last).members else last + 1

    def _replay(self, first: int, end: int, system: System) -> None:
        """Let the plant do slots again that the journal has: what it does follows from the scenario alone."""
        with self._banks.replaying():
            self._replay_windows(first, end, system)

    def _replay_windows(self, first: int, end: int, system: System) -> None:
        for window in windows(first, end, SIMULATION_WINDOW):
            forecast = self._plant.forecast(window)
            prices = window_prices(system, window)
            seen = self._plant.observe()
            intent, self._standing = plan(system, seen, forecast, prices, window, self._standing)
            self._plant.apply(dispatch(intent, no_contracts(window.n, self.system.n_buildings)), window)
            flows = support_grid(self.system, self._plant.measure(window), window)
            _, self._loss_remainder_wh = physics(self.system, flows, self._loss_remainder_wh, window)

    def _models(self) -> ModelPlant:
        return ModelPlant(self.system, ModelBatteries(self.system))
