"""An emulated site whose devices share an island: one bus with voltage and frequency of its own behind a switch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from core.errors import DeviceError
from core.keyed_random import keyed_hash_u64
from grid.island.spec import IslandSpec
from hardware.emulator import fleet_settings as given
from hardware.emulator.device import EmulatedDevice
from hardware.emulator.fault_log import FaultLog
from hardware.emulator.faults import CATALOGUE, FaultBoard
from hardware.emulator.island_devices import BlockDevice, SourceDevice, SwitchDevice
from hardware.emulator.island_physics import IslandPhysics
from hardware.emulator.island_settings import (
    ISLAND_KINDS,
    KW,
    BlockSettings,
    IslandDeviceSettings,
    IslandSwitchSettings,
    SourceSettings,
)

_AT_THE_SWITCH = frozenset({"switch-welded", "breaker-contradicts"})
Logs = Callable[[str], FaultLog]


class IslandSite:
    """The devices of one island.

    Of the faults of a site it plays ``grid-loss``, ``frequency-excursion``, ``voltage-excursion``, ``phase-swap`` (the
    phase order of the grid), ``switch-welded`` and ``breaker-contradicts``.

    Parameters
    ----------
    settings
        What is there.
    clock
        Device time [s].
    seed
        Of noise and of the angle at which a dark island comes up.
    log_of
        Gives the log of a device or of the site, by its id.

    Raises
    ------
    DeviceError
        If a device's settings are wrong.
    GridError
        If they make no island.
    """

    tick_s = 0.05
    """How often it is stepped [s], whether anybody asks or not: dead men are at most so late."""
    switch = None
    switch_id = ""  # its switch is a device like the others

    def __init__(self, settings: given.Site, clock: Callable[[], float], seed: int, log_of: Logs) -> None:
        self.id = settings.id
        self.board = FaultBoard(None, log_of(settings.id))
        self.irradiance = settings.irradiance
        self.v_pu = settings.v_pu
        self.hz = settings.hz
        self._clock = clock
        self._devices = list(given.expanded(settings))
        own = {device.id: _settings(device, seed) for device in self._devices}
        sources = {name: one for name, one in own.items() if isinstance(one, SourceSettings)}
        spec = IslandSpec(
            sources=tuple(one.spec(name) for name, one in sources.items()),
            loads=tuple(one.spec(name) for name, one in own.items() if isinstance(one, BlockSettings)),
            switch=next(one.spec() for one in own.values() if isinstance(one, IslandSwitchSettings)),
            grid_v_pu=settings.v_pu,
            grid_f_hz=settings.hz,
        )
        self.physics = IslandPhysics(spec, seed, clock())
        self._sunny = {name: one.rating_w / KW for name, one in sources.items() if one.pv}
        self._told: dict[tuple[str, str], float] = {}
        self.devices: dict[str, EmulatedDevice] = {}
        for device in self._devices:
            self.devices[device.id] = self._made(device.id, own[device.id], FaultBoard(device.unit, log_of(device.id)))
            if device.kind == "island-switch":
                self._at_the_switch = self.devices[device.id].board
        self.step()

    def _made(self, name: str, settings: IslandDeviceSettings, board: FaultBoard) -> EmulatedDevice:
        if isinstance(settings, SourceSettings):
            return SourceDevice(name, settings, self._clock, board, self.physics)
        if isinstance(settings, BlockSettings):
            return BlockDevice(name, settings, self._clock, board, self.physics)
        assert isinstance(settings, IslandSwitchSettings)
        return SwitchDevice(name, settings, self._clock, board, self.physics)

    @property
    def now_s(self) -> float:
        """Device time [s]."""
        return self._clock()

    def step(self) -> None:
        """Let the island and every device come to the present."""
        now_s = self._clock()
        self._disturb(now_s)
        for device in self.devices.values():
            device.advance_to(now_s)
        self.physics.advance(now_s)

    def _disturb(self, now_s: float) -> None:
        """Tell the island what the site's faults and weather make of grid and sun."""
        board = self.board
        gone = board.lasting("grid-loss", now_s) is not None
        volts = board.lasting("voltage-excursion", now_s)
        hertz = board.lasting("frequency-excursion", now_s)
        v_pu = 0.0 if gone else self.v_pu if volts is None else volts.number("v_pu")
        self._tell("voltage", "grid", v_pu)
        self._tell("frequency", "grid", self.hz if hertz is None else hertz.number("hz"))
        self._tell("phases", "grid", float(board.lasting("phase-swap", now_s) is None))
        sun = 0.8 if self.irradiance == "day" else float(self.irradiance)
        for name, rating_kw in self._sunny.items():
            self._tell("available", name, sun * rating_kw)

    def _tell(self, what: str, whom: str, value: float) -> None:
        if self._told.get((what, whom)) != value:
            self._told[what, whom] = value
            self.physics.advance(self._clock())
            self.physics.world.tell(what, whom, value)

    # --- control --------------------------------------------------------------------------------------------------

    def board_for(self, name: str, kind: str) -> FaultBoard:
        """The board that plays ``kind`` for the device, or for the site, called ``name``."""
        if kind in _AT_THE_SWITCH:
            return self._at_the_switch
        if name == self.id or (kind in CATALOGUE and CATALOGUE[kind].group == "site"):
            return self.board
        return self.devices[name].board

    def set_surroundings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change sun and grid. Raises DeviceError for what is not there or no number."""
        for name, value in values.items():
            if name not in {"irradiance", "v_pu", "hz"}:
                raise DeviceError(f"an island has no {name!r}", local=True, remedy="use irradiance, v_pu, hz")
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < 0.0:
                raise DeviceError(f"{name} cannot be {value!r}", local=True, remedy="give a number")
            setattr(self, name, float(value))
        return {"irradiance": self.irradiance, "v_pu": self.v_pu, "hz": self.hz}


def _settings(device: given.Device, seed: int) -> IslandDeviceSettings:
    own = {"seed": keyed_hash_u64(seed, "emulated device", device.id) >> 1, "serial": device.id.upper()[:32]}
    model = ISLAND_KINDS[device.kind]
    try:
        return model.model_validate(own | {"unit": device.unit} | device.settings)
    except ValidationError as reason:
        first = reason.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DeviceError(
            f"{device.id}: {place}: {first['msg']}", local=True, remedy=f"settings are {', '.join(model.model_fields)}"
        ) from None
