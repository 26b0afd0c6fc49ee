"""Settings of the devices of an emulated island: sources, blocks of load and the switch at the connection point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from grid.island.spec import LoadSpec, SourceSpec, SwitchSpec
from hardware.emulator.device_settings import Behaviour, DeviceSettings, NotNegative, Positive, Share, Text

KW = 1000.0


class IslandDeviceSettings(DeviceSettings):
    """What every device of an island has."""

    watchdog_s: Annotated[int, Field(ge=0, le=65534)] = Field(0, description="dead man at the start [s]; 0: off")
    timer: Behaviour = Field("standard", description="how its dead man behaves")


class SourceSettings(IslandDeviceSettings):
    """A source: a battery inverter that can form a grid, or a PV inverter that follows one."""

    model_name: Text = Field("peerwatt emulated source", description="product in its identification")
    rating_w: Positive = Field(50_000.0, description="rating [W]")
    can_form: bool = Field(True, description="whether it can hold voltage and frequency alone")
    pv: bool = Field(False, description="gives what the site's irradiance lets it")
    charge_w: NotNegative = Field(0.0, description="highest charging power [W]")
    discharge_w: NotNegative | None = Field(None, description="highest power given [W]; rating_w by default")
    capacity_wh: NotNegative = Field(0.0, description="stored energy when full [Wh]; 0: nothing is stored")
    soc: Share = Field(0.5, description="share stored at the start")
    power_w: float = Field(0.0, allow_inf_nan=False, description="set-point at the start [W], > 0 draws")
    droop: Annotated[float, Field(gt=0.0, le=0.1)] = Field(0.01, description="fall of frequency at rating, share of 50")
    inertia_s: Positive = Field(1.0, description="virtual inertia constant [s]")
    start_s: NotNegative = Field(0.5, description="time to start [s]")
    form_s: NotNegative = Field(0.03, description="time to begin or end forming [s]")
    ride_s: Positive = Field(1.5, description="how long it waits without voltage [s]")
    return_s: NotNegative = Field(60.0, description="a follower that tripped comes back after this [s]")
    self_forms: bool = Field(False, description="forms by itself when the switch opens")
    running: bool = Field(True, description="whether it runs at the start")

    def spec(self, name: str) -> SourceSpec:
        """The same for the island's physics."""
        return SourceSpec(
            id=name,
            rating_kw=self.rating_w / KW,
            can_form=self.can_form,
            inertia_s=self.inertia_s,
            droop_hz_per_kw=self.droop * 50.0 / (self.rating_w / KW),
            charge_kw=self.charge_w / KW,
            discharge_kw=None if self.discharge_w is None else self.discharge_w / KW,
            available_kw=math.inf,
            capacity_kwh=self.capacity_wh / KW,
            soc=self.soc,
            ride_s=self.ride_s,
            start_s=self.start_s,
            form_s=self.form_s,
            return_s=self.return_s,
            self_forms=self.self_forms,
            running=self.running,
        )


class BlockSettings(IslandDeviceSettings):
    """A block of load behind a contactor of its own."""

    model_name: Text = Field("peerwatt emulated load block", description="product in its identification")
    power_w: NotNegative = Field(10_000.0, description="what it draws at nominal voltage [W]")
    inrush: NotNegative = Field(0.0, description="what it draws more when switched on, share of power_w")
    inrush_s: Positive = Field(0.3, description="time constant of that [s]")
    tan_phi: NotNegative = Field(0.2, description="reactive over active power")
    on: bool = Field(True, description="whether it is on at the start")

    def spec(self, name: str) -> LoadSpec:
        """The same for the island's physics."""
        return LoadSpec(
            id=name,
            priority=1,
            p_kw=self.power_w / KW,
            tan_phi=self.tan_phi,
            inrush=self.inrush,
            inrush_s=self.inrush_s,
            on=self.on,
        )


class IslandSwitchSettings(IslandDeviceSettings):
    """The switch between island and grid, with a synchronism-check relay of its own beside it."""

    model_name: Text = Field("peerwatt emulated island switch", description="product in its identification")
    open_s: NotNegative = Field(0.05, description="time to open [s]")
    close_s: NotNegative = Field(0.06, description="time to close [s]")
    self_opens_s: Positive | None = Field(
        None, description="its own relay opens on a dead grid after this [s]; or never"
    )
    closed: bool = Field(True, description="whether it is closed at the start")
    sync_check: bool = Field(True, description="whether its relay refuses to close out of step")
    sync_hz: Positive = Field(0.3, description="its relay's window: frequency [Hz]")
    sync_pu: Positive = Field(0.1, description="its relay's window: voltage [p.u.]")
    sync_deg: Positive = Field(20.0, description="its relay's window: angle [degrees]")

    def spec(self) -> SwitchSpec:
        """The same for the island's physics."""
        return SwitchSpec(
            open_s=self.open_s,
            close_s=self.close_s,
            self_opens_s=math.inf if self.self_opens_s is None else self.self_opens_s,
            closed=self.closed,
        )


ISLAND_KINDS: Mapping[str, type[IslandDeviceSettings]] = MappingProxyType(
    {"source": SourceSettings, "load-block": BlockSettings, "island-switch": IslandSwitchSettings}
)
"""Settings of each kind of device of an island."""
