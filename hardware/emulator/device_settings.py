"""Settings of emulated devices, one model per kind; all have defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Base = Literal[0, 40000, 50000]
Text = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[ -~]+$")]
Behaviour = Literal[
    "standard", "none", "cosmetic", "late", "rearmed-by-read", "rearmed-by-write", "rearmed-by-same-point",
    "persisted", "minutes", "revert-to-last", "remaining-stands",
]  # fmt: skip


class DeviceSettings(BaseModel):
    """What every kind has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Annotated[int, Field(ge=0, le=247)] = Field(1, description="Modbus unit")
    serial: Text = Field("PW-0001", description="serial number")
    firmware: Annotated[str, Field(min_length=1, max_length=16)] = Field("1.0.0", description="firmware version")
    manufacturer: Text = Field("peerwatt emulated", description="manufacturer in model 1")
    seed: int = Field(0, description="of the noise")
    noise: Share = Field(0.002, description="half width of the noise of measurements, share of the value; 0: none")

    @property
    def identification(self) -> dict[int, str]:
        """What the device says to function 43/14: manufacturer, product, version."""
        product = str(getattr(self, "model_name", type(self).__name__.removesuffix("Settings").lower()))
        return {0: self.manufacturer, 1: product, 2: self.firmware}


class SunSpecSettings(DeviceSettings):
    """What every SunSpec device has."""

    base: Base = Field(40000, description="first register of the map")
    leave_out: tuple[int, ...] = Field((), description="models that the device does not have")


class InverterSettings(SunSpecSettings):
    """A PV inverter. Powers at the AC terminals unless they are called DC."""

    model_name: Text = Field("peerwatt emulated inverter", description="model in model 1")
    rating_w: Positive = Field(10_000.0, description="highest active power [W]")
    rating_va: Positive | None = Field(None, description="highest apparent power [VA]; 1.1 times rating_w by default")
    phases: Literal[1, 3] = Field(3, description="1: model 101, 3: model 103")
    floats: bool = Field(False, description="111 or 113 (float) instead of 101 or 103")
    pv_w: NotNegative = Field(12_000.0, description="DC power of the PV array under full sun [W]")
    timer: Behaviour = Field("standard", description="how its revert timers behave")
    timer_factor: Positive | None = Field(None, description="real seconds per second set; 1.33 where timer is late")
    effect_s: NotNegative = Field(0.2, description="time from a write until it is acted upon [s]")
    ramp_w_per_s: Annotated[float, Field(gt=0.0)] = Field(5_000.0, description="fastest change of the output [W/s]")
    heartbeat_s: NotNegative = Field(
        0.0, description="without a new controller heartbeat (715, 802) for so long all controls fall back; 0: never"
    )
    service_delay_s: NotNegative = Field(60.0, description="wait after the grid has come back [s]")
    energy_wh: NotNegative = Field(1_234_567.0, description="energy fed in before it was switched on [Wh]")
    seconds_2000: NotNegative = Field(0.0, description="its clock at the start, seconds since 2000 began, UTC")
    steady: bool = Field(True, description="starts at the power that it would reach; false: ramps up from zero")

    @property
    def va(self) -> float:
        """Highest apparent power [VA]."""
        return 1.1 * self.rating_w if self.rating_va is None else max(self.rating_va, self.rating_w)


class StorageSettings(InverterSettings):
    """An inverter with a battery."""

    capacity_wh: Positive = Field(10_000.0, description="nominal capacity [Wh]")
    soc: Share = Field(0.5, description="share stored at the start")
    min_soc: Share = Field(0.05, description="share that the device keeps back")
    max_soc: Share = Field(1.0, description="share at which the device stops charging")
    charge_w: Positive = Field(5_000.0, description="highest charging power at the AC terminals [W]")
    discharge_w: Positive = Field(5_000.0, description="highest discharging power at the AC terminals [W]")
    efficiency: Annotated[float, Field(gt=0.0, le=1.0)] = Field(0.95, description="one way")


class HybridSettings(StorageSettings):
    """A PV inverter with a battery on its DC side."""

    model_name: Text = Field("peerwatt emulated hybrid", description="model in model 1")


class BatterySettings(StorageSettings):
    """A battery with an inverter of its own: no PV."""

    model_name: Text = Field("peerwatt emulated battery", description="model in model 1")
    rating_w: Positive = Field(5_000.0, description="highest active power [W]")
    pv_w: Literal[0] = Field(0, description="it has no PV array")
    energy_wh: NotNegative = Field(0.0, description="energy fed in before it was switched on [Wh]")


class MeterSettings(SunSpecSettings):
    """A SunSpec meter, model 201 (one phase), 202 (split phase) or 203 (three phases)."""

    model_name: Text = Field("peerwatt emulated meter", description="model in model 1")
    model: Literal[201, 202, 203] = Field(203, description="SunSpec model")
    power_w: float = Field(500.0, allow_inf_nan=False, description="what it measures without a site [W], > 0 draws")
    imported_wh: NotNegative = Field(2_345_678.0, description="counter at the start [Wh]")
    exported_wh: NotNegative = Field(345_678.0, description="counter at the start [Wh]")
    rating_w: Positive = Field(30_000.0, description="highest power that its registers have to hold [W]")


class Sdm630Settings(DeviceSettings):
    """A three-phase meter with a map of floats in input registers."""

    power_w: float = Field(500.0, allow_inf_nan=False, description="what it measures without a site [W], > 0 draws")
    imported_wh: NotNegative = Field(2_345_678.0, description="counter at the start [Wh]")
    exported_wh: NotNegative = Field(345_678.0, description="counter at the start [Wh]")


class ChargerSettings(DeviceSettings):
    """A car charger with a map of its own."""

    max_current_a: Annotated[float, Field(ge=6.0, le=80.0)] = Field(32.0, description="highest current per phase [A]")
    fallback_a: Annotated[float, Field(ge=0.0, le=80.0)] = Field(6.0, description="current when its watchdog runs out")
    watchdog_s: Annotated[int, Field(ge=0, le=65534)] = Field(0, description="watchdog at the start [s]; 0: off")
    timer: Behaviour = Field("standard", description="how its watchdog behaves")
    phases: Literal[1, 3] = Field(3, description="phases that the car draws from")
    plugged: bool = Field(True, description="whether a car is plugged in at the start")
    car_current_a: NotNegative = Field(16.0, description="most that the car draws per phase [A]")
    car_needs_wh: NotNegative = Field(30_000.0, description="energy until the car is full [Wh]")
    ramp_a_per_s: Positive = Field(4.0, description="how fast the car follows [A/s]")


class LoadSettings(DeviceSettings):
    """A load that can be shed, behind a relay."""

    power_w: NotNegative = Field(2_000.0, description="what it draws while it runs [W]")
    watchdog_s: Annotated[int, Field(ge=0, le=65534)] = Field(0, description="watchdog at the start [s]; 0: off")
    timer: Behaviour = Field("standard", description="how its watchdog behaves")
