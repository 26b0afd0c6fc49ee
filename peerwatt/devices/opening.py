"""Starts or reaches the devices of a run, and gives the banks with them in their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from core import DeviceError
from peerwatt.devices.account import Bound, DeviceAccount
from peerwatt.devices.assets import FRESH_S, MARGIN_S, Asset, DevicePort, SteppedAsset, TimedAsset
from peerwatt.devices.banks import Banks, DeviceBatteries, DeviceSources, Stand
from peerwatt.devices.scaling import PPM, Scale
from peerwatt.plants import ModelBatteries, ModelSources
from peerwatt.scenario.plant import DevicePlant

if TYPE_CHECKING:
    from hardware import BatteryPhysics, BlockingStorage
    from peerwatt.system import System

SPARE = 1.2
"""A device is believed up to this share of its rating in a slot; what is beyond comes with the next slots."""

Opener = Callable[["Place", ExitStack], DevicePort]
"""Reaches the device of a place that is in real time; what it opens is closed with the stack."""


@dataclass(frozen=True, slots=True)
class Place:
    """An asset of a building that a device stands for.

    ``row`` of the battery, or the building's index for PV; ``most_wh`` greatest energies per slot, drawn and fed in;
    ``speed`` device seconds per second of the wall clock.
    """

    system: System
    plant: DevicePlant
    building: int
    asset: Literal["battery", "pv"]
    row: int
    most_wh: tuple[int, int]
    speed: float = 1.0

    @property
    def name(self) -> str:
        """Of the building."""
        return self.system.building_ids[self.building]

    @property
    def most_w(self) -> float:
        """Greatest power [W of the building]."""
        return max(self.most_wh) * 3600.0 / self.system.grid.length_s

    @property
    def control(self) -> str:
        """What it is told."""
        return "power_w" if self.asset == "battery" else "limit_w"


def places(system: System, speed: float = 1.0) -> list[Place]:
    """Every asset that a device is to stand for, batteries first."""
    found: list[Place] = []
    columns = system.storage.columns
    for row, building in enumerate(columns.building.tolist()):
        plant = system.plants[building]
        if plant is not None and (not plant.covers or "battery" in plant.covers):
            most = (int(columns.charge_max_wh[row]), int(columns.discharge_max_wh[row]))
            found.append(Place(system, plant, building, "battery", row, most, speed))
    batteries = {place.building for place in found}
    for building in sorted(set(system.demand.pv.building.tolist())):
        plant = system.plants[building]
        if plant is None or (plant.covers and "pv" not in plant.covers):
            continue
        if (plant.device or plant.address) is not None and building in batteries:
            continue  # one device, and it is the battery
        peak_kw = float(system.demand.pv.scale[system.demand.pv.building == building].sum())
        most = (0, round(peak_kw * 1000.0 * system.grid.hours))
        found.append(Place(system, plant, building, "pv", building, most, speed))
    return found


@contextmanager
def opened_banks(
    system: System,
    *,
    speed: float | None,
    guardian: Opener | None = None,
    own: Opener | None = None,
    stepped: bool = True,
) -> Iterator[Banks]:
    """The plant's banks: models, and with a ``speed`` devices where the scenario wants them.

    Parameters
    ----------
    speed
        Device seconds per second of the wall clock; None for a run in virtual time, which takes models alone.
    guardian
        Reaches devices that a guardian owns; without one those are refused.
    own
        Starts emulated devices in real time; None starts those of `peerwatt.devices.emulated_port`.
    stepped
        Whether devices of the zero-latency profile are started, too: a live market, which has to come back after a
        crash, takes models for them.

    Raises
    ------
    DeviceError
        If a device cannot be had or read.
    """
    wanted = [] if speed is None else places(system, speed)
    wanted = [place for place in wanted if stepped or place.plant.timing != "zero-latency"]
    if not wanted:
        yield Banks(ModelBatteries(system), ModelSources())
        return
    assert speed is not None
    with ExitStack() as stack:
        stands = [_stand(place, speed, guardian, own, stack) for place in wanted]
        batteries = {p.row: s for p, s in zip(wanted, stands, strict=True) if p.asset == "battery"}
        sources = {p.row: s for p, s in zip(wanted, stands, strict=True) if p.asset == "pv"}
        yield Banks(
            DeviceBatteries(system, batteries),
            DeviceSources(sources),
            tuple(stand.account for stand in stands),
        )


def _stand(place: Place, speed: float, guardian: Opener | None, own: Opener | None, stack: ExitStack) -> Stand:
    plant = place.plant
    scale = Scale.of(plant.scale)
    exact = plant.timing == "zero-latency"
    timed = Bound.timed(scale, place.most_w, plant.settle_s, plant.accuracy, speed)
    account = DeviceAccount(
        place.name,
        place.asset,
        plant.kind,
        plant.timing,
        scale,
        plant.device or plant.address or "own",
        Bound.exact(scale) if exact else timed,
    )
    most = (int(place.most_wh[0] * SPARE) + 1, int(place.most_wh[1] * SPARE) + 1)
    asset: Asset
    if exact:
        asset = SteppedAsset(_start_stepped(place, stack), scale)
    else:
        port = _opener(place, guardian, own)(place, stack)
        asset = TimedAsset(port, scale, place.control, MARGIN_S, FRESH_S * speed)
    return Stand.of(asset, account, most, place.system.grid.length_s, exact=exact)


def check_place(place: Place, *, guarded: bool) -> None:
    """DeviceError if its device cannot be had whatever it answers; ``guarded``: whether there is a guardian."""
    if place.plant.kind == "real" and place.speed != 1.0:
        raise DeviceError(
            f"the {place.asset} of {place.name} is a real device: its time does not run {place.speed:g} times as fast",
            local=True,
            remedy="use speed 1, or plant.kind: emulated",
        )
    if place.plant.device is not None and not guarded:
        raise DeviceError(
            f"the {place.asset} of {place.name} is the device {place.plant.device!r} of a guardian, and there is none",
            local=True,
            remedy="start `peerwatt guardian SITE.yaml` and name its socket with --guardian SOCKET; `peerwatt live` "
            "starts one that its site file names as guardian",
        )


def _opener(place: Place, guardian: Opener | None, own: Opener | None) -> Opener:
    check_place(place, guarded=guardian is not None)
    if place.plant.device is not None:
        assert guardian is not None, "it was asked whether there is one"
        return guardian
    if own is not None:
        return own
    from peerwatt.devices.emulated_port import start_emulated

    return start_emulated


def _start_stepped(place: Place, stack: ExitStack) -> BlockingStorage:
    """An emulated zero-latency device on a free port of 127.0.0.1, and a client connected to it."""
    from hardware import BatteryClient, BlockingStorage, EmulatedBattery, LoopThread

    label = f"{place.asset} of {place.name}"
    device = stack.enter_context(EmulatedBattery(_physics(place), serial=f"EMULATED-{place.asset[0]}{place.row + 1}"))
    thread = LoopThread(f"client of the {label}")
    stack.callback(thread.close)
    storage = BlockingStorage(BatteryClient(device.host, device.port), thread)
    storage.connect()
    stack.callback(storage.close)
    return storage


def _physics(place: Place) -> BatteryPhysics:
    """The same kernel as the model's, in the device's size."""
    from hardware import KernelBattery
    from peerwatt.devices.sources import ProfileSource, source_assets

    system = place.system
    scale = Scale.of(place.plant.scale)
    if place.asset == "pv":
        return ProfileSource(system, source_assets(system, place.building, 1.0 / scale.factor))
    only = np.array([place.row])
    columns, state = system.storage.columns.take(only), system.storage.initial.take(only)
    if scale.ppm != PPM:
        from dataclasses import replace

        sizes = ("capacity_wh", "min_wh", "max_wh", "charge_max_wh", "discharge_max_wh")
        smaller = {name: _smaller(getattr(columns, name), scale) for name in sizes}
        columns = replace(columns, **smaller)
        energy = np.clip(_smaller(state.e_wh, scale), columns.min_wh, columns.max_wh)
        state = replace(state, e_wh=energy)
    return KernelBattery(columns, state, system.grid.length_s)


def _smaller(wh: np.ndarray, scale: Scale) -> np.ndarray:
    return np.array([scale.device_wh(int(value)) for value in wh], np.int64)
