"""Devices beside models: batteries and sources of a plant of which some are devices.

A twin of each device is stepped along with the same kernel, because a register holds whole Wh and the controllers plan
with the remainders too. A device that did something else is believed, and the twin follows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from core import DeviceError, Quality
from peerwatt.devices.account import DeviceAccount
from peerwatt.devices.assets import MARGIN_S, Asset
from peerwatt.devices.counting import Booked, CounterBook, Counters
from peerwatt.devices.scaling import Scale
from peerwatt.plants import Arrays, Int, ModelBatteries, ModelSources

if TYPE_CHECKING:
    from grid.assets.battery import BatteryFlows, BatteryState
    from peerwatt.system import System


@dataclass(slots=True)
class Confirmed:
    """The last set-point that a device took [Wh per slot; None: released], and for how long it stands [s]."""

    request_wh: int | None = None
    left_s: float = 0.0
    fresh: bool = False  # taken for the slot that runs

    def take(self, request_wh: int | None, slot_s: int) -> None:
        """It took one for the slot that begins."""
        self.request_wh, self.left_s, self.fresh = request_wh, slot_s + MARGIN_S, True

    def share(self, slot_s: int) -> float:
        """Share of a slot that it still stands in; after that the device is left to its own timer."""
        return min(self.left_s / slot_s, 1.0)

    def pass_slot(self, slot_s: int) -> None:
        """A slot is over."""
        self.left_s, self.fresh = max(self.left_s - slot_s, 0.0), False


@dataclass(slots=True)
class Stand:
    """A device where a model would stand.

    Parameters
    ----------
    asset
        The device.
    account
        Its figures.
    most_wh
        Greatest energies of a slot [Wh of the building], drawn and fed in.
    exact
        Whether its errors are errors of the run (zero-latency), and not substituted.
    """

    asset: Asset
    account: DeviceAccount
    most_wh: tuple[int, int]
    exact: bool
    book: CounterBook
    slot_s: int
    stored_at_first: int | None
    begun: bool = False
    confirmed: Confirmed = field(default_factory=Confirmed)

    @classmethod
    def of(cls, asset: Asset, account: DeviceAccount, most_wh: tuple[int, int], slot_s: int, *, exact: bool) -> Stand:
        """With the first reading taken; DeviceError if it is not good: a run begins with known counters."""
        first = asset.read()
        if first.drawn_wh is None or first.fed_wh is None:
            raise DeviceError(
                f"the {account.asset} device of {account.building} cannot be read: {first.reason or first.quality}",
                local=False,
                remedy="check its address and its guardian, and that it has counters of both energies",
            )
        book = CounterBook(account.scale, first, most_wh, slot_s)
        return cls(asset, account, most_wh, exact, book, slot_s, first.stored_wh)

    @property
    def scale(self) -> Scale:
        """From the device to the building."""
        return self.account.scale

    def tell(self, request_wh: int, slot_s: int, *, limited: bool = True, available_wh: int = 0) -> None:
        """Hand over a request; one that does not get through is counted, and the device falls back by its timer.

        Counting begins with the first one: what a device did before is not the run's.
        """
        if not self.begun and not self.exact:
            now = self.asset.read()
            if now.quality is Quality.GOOD:
                self.book = CounterBook(self.scale, now, self.most_wh, self.slot_s)
                self.stored_at_first = now.stored_wh if self.stored_at_first is None else self.stored_at_first
        self.begun = True
        try:
            self.asset.tell(request_wh, slot_s, limited=limited, available_wh=available_wh)
        except DeviceError as error:
            if self.exact:
                raise
            self.account.refuse(str(error))
        else:
            self.confirmed.take(request_wh if limited else None, slot_s)

    def finish(self, slot_s: int, expected: tuple[int, int], substitute: tuple[int, int]) -> tuple[Booked, Counters]:
        """Book the slot that is over: drawn and fed in [Wh], of the model as it was wished, and as it was confirmed."""
        self.asset.pass_slot(slot_s)
        now = self.asset.read()
        booked = self.book.book(now, *substitute)
        self.account.note(booked, expected[0] - expected[1])
        self.confirmed.pass_slot(slot_s)
        return booked, now

    def stored_wh(self, now: Counters, initial_wh: int) -> int | None:
        """Energy stored [Wh of the building]: the scenario's at the start, plus what the device's has changed by."""
        if now.stored_wh is None or self.stored_at_first is None:
            return None
        return initial_wh + self.scale.building_wh(now.stored_wh) - self.scale.building_wh(self.stored_at_first)


class _Replayable:
    """While slots are computed again that the devices have done already, nothing of it reaches them."""

    def __init__(self) -> None:
        self.replaying = False


_UNKNOWN = -1
"""Stands for an energy stored that was not known, among whole numbers."""


def _keep(stands: Mapping[int, Stand]) -> Arrays:
    found = {}
    for k, stand in stands.items():
        first = _UNKNOWN if stand.stored_at_first is None else stand.stored_at_first
        found[f"device.{k}"] = np.array([*stand.book.state(), first], np.int64)
    return found


def _take_back(stands: Mapping[int, Stand], arrays: Arrays) -> None:
    for k, stand in stands.items():
        if stand.exact:
            raise DeviceError(
                "a run with devices cannot be resumed", local=True, remedy="start it anew, with overwrite"
            )
        if (found := arrays.get(f"device.{k}")) is not None:
            *book, first = (int(value) for value in found)
            stand.book.restore(tuple(book))
            stand.begun = True
            stand.stored_at_first = None if first == _UNKNOWN else first


class DeviceBatteries(_Replayable):
    """Batteries of which some are devices, by their row."""

    def __init__(self, system: System, stands: Mapping[int, Stand]) -> None:
        super().__init__()
        self._initial = system.storage.initial
        self._stands = stands
        self._models = ModelBatteries(system)

    def state(self) -> BatteryState:
        """State of each battery (K,): of devices the stored energy they report."""
        return self._models.state()

    def tell(self, request_wh: Int, slot_s: int) -> None:
        """Write the set-points of one slot (1, K)."""
        if self.replaying:
            return
        if len(request_wh) != 1:
            raise DeviceError("devices are driven one slot at a time", local=True)
        for row, stand in self._stands.items():
            stand.tell(int(request_wh[0, row]), slot_s)

    def run(self, request_wh: Int, slot_s: int) -> BatteryFlows:
        """Let the slot pass in the devices and read what they did."""
        before = self._models.state()
        flows = self._models.run(request_wh, slot_s)
        if self.replaying:
            return flows
        for row, stand in self._stands.items():
            expected = int(flows.charge_wh[0, row]), int(flows.discharge_wh[0, row])
            substitute = expected if stand.confirmed.fresh else self._held(stand.confirmed, before, row, slot_s)
            booked, now = stand.finish(slot_s, expected, substitute)
            stored = stand.stored_wh(now, int(self._initial.e_wh[row]))
            same_store = stored is None or stored == int(self._models.state().e_wh[row])
            if (booked.drawn_wh, booked.fed_wh) != expected or not (booked.substituted or same_store):
                flows = self._believe(flows, before, row, booked, None if booked.substituted else stored)
        return flows

    def _held(self, confirmed: Confirmed, before: BatteryState, row: int, slot_s: int) -> tuple[int, int]:
        """What the battery does that was not told anew: the set-point of before until it expires, and rest."""
        flows, _ = self._step(before, row, round((confirmed.request_wh or 0) * confirmed.share(slot_s)))
        return int(flows.charge_wh[0, 0]), int(flows.discharge_wh[0, 0])

    def _believe(
        self, flows: BatteryFlows, before: BatteryState, row: int, booked: Booked, stored_wh: int | None
    ) -> BatteryFlows:
        """Flows of a battery that did something else than its twin.

        The energy stored at the end is what the device reports, but never more than what was there and was charged
        less what was discharged: a battery makes no energy, and a coarse register must not either. Without a report
        the twin does what was measured.
        """
        charge, discharge = booked.drawn_wh, booked.fed_wh
        start = int(before.e_wh[row])
        most = max(start + charge - discharge, 0)
        if stored_wh is None:
            stored_wh = self._twin_after(before, row, charge - discharge)
        end = min(max(stored_wh, 0), most)
        gained = min(max(end - start + discharge, 0), charge)
        drawn = gained - (end - start)
        columns = {"charge_wh": charge, "discharge_wh": discharge, "stored_wh": gained, "drawn_wh": drawn, "self_wh": 0}
        changed = {name: getattr(flows, name).copy() for name in columns}
        for name, value in columns.items():
            changed[name][0, row] = value
        stored = self._models.state().e_wh.copy()
        stored[row] = end
        self._models.follow(stored)
        return replace(flows, **changed)

    def _twin_after(self, before: BatteryState, row: int, net_wh: int) -> int:
        """Where the twin would stand after moving ``net_wh``."""
        _, after = self._step(before, row, net_wh)
        return int(after.e_wh[0])

    def _step(self, before: BatteryState, row: int, net_wh: int) -> tuple[BatteryFlows, BatteryState]:
        from grid.assets.battery import step_batteries

        only = np.array([row])
        request = np.array([[net_wh]], np.int64)
        return step_batteries(self._models.columns.take(only), before.take(only), request)

    def checkpoint(self) -> Arrays:
        """Stored energies, remainders, and what of each device's counters has been booked."""
        return self._models.checkpoint() | _keep(self._stands)

    def restore(self, arrays: Arrays) -> None:
        """Return to a state. Refused where a device's time passes only in a run: its state is its own."""
        _take_back(self._stands, arrays)
        self._models.restore(arrays)


class DeviceSources(_Replayable):
    """PV of buildings, of which some are devices, by building."""

    def __init__(self, stands: Mapping[int, Stand]) -> None:
        super().__init__()
        self._stands = stands
        self._models = ModelSources()
        self._available: dict[int, int] = {}

    def tell(self, generate_wh: Int, curtail_wh: Int, slot_s: int) -> None:
        """Hand over what is to be generated, (1, B) [Wh]; a source is limited only where it has to hold back."""
        if len(generate_wh) == 1:
            self._available = {b: int(generate_wh[0, b] + curtail_wh[0, b]) for b in self._stands}
        if self.replaying:
            return
        if len(generate_wh) != 1:
            raise DeviceError("devices are driven one slot at a time", local=True)
        for building, stand in self._stands.items():
            generate, curtail = int(generate_wh[0, building]), int(curtail_wh[0, building])
            stand.tell(-generate, slot_s, limited=curtail > 0, available_wh=generate + curtail)

    def run(self, generate_wh: Int, slot_s: int) -> Int:
        """What was generated (1, B), read from the devices where there are some."""
        made = self._models.run(generate_wh, slot_s)
        if self.replaying or not self._stands:
            return made
        made = made.copy()
        for building, stand in self._stands.items():
            expected = 0, int(made[0, building])
            substitute = expected if stand.confirmed.fresh else (0, self._held(stand.confirmed, building, slot_s))
            booked, _ = stand.finish(slot_s, expected, substitute)
            made[0, building] = booked.fed_wh
        return made

    def _held(self, confirmed: Confirmed, building: int, slot_s: int) -> int:
        """What a source does that was not told anew: the limit of before until it expires, and what the sun gives."""
        available = self._available.get(building, 0)
        if confirmed.request_wh is None:
            return available
        share = confirmed.share(slot_s)
        return round(min(-confirmed.request_wh, available) * share + available * (1.0 - share))

    def checkpoint(self) -> Arrays:
        """What of each device's counters has been booked."""
        return _keep(self._stands)

    def restore(self, arrays: Arrays) -> None:
        """Return to a state, as for batteries."""
        _take_back(self._stands, arrays)


@dataclass(frozen=True, slots=True)
class Banks:
    """Batteries and sources of a plant, with the accounts of those that are devices."""

    batteries: DeviceBatteries | ModelBatteries
    sources: DeviceSources | ModelSources
    accounts: tuple[DeviceAccount, ...] = ()

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Compute slots again without telling the devices, nor reading them."""
        banks = [bank for bank in (self.batteries, self.sources) if isinstance(bank, _Replayable)]
        for bank in banks:
            bank.replaying = True
        try:
            yield
        finally:
            for bank in banks:
                bank.replaying = False
