"""What a site's guardian is told in its YAML file: devices, what they may be told, and where they have to fall back to.

Every bound in here can only narrow what a device's own ratings allow. Folders are relative to the file.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from core import ScenarioError
from hardware.driver import CONTROLS
from hardware.meeting import SunSpecOptions
from hardware.yaml_model import load_model

Released = Literal["released"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
DeviceId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]

_SOCKET_PATH_BYTES = 100  # the kernel takes 107; room for a temporary name


class Mode(enum.StrEnum):
    """What the guardian may do to a device."""

    OBSERVE = "observe"  # reads only
    REHEARSE = "rehearse"  # decides and writes down what it would do; writes nothing to the device
    ARMED = "armed"  # writes; needs a commissioning record
    LOCKOUT = "lockout"  # latched after a stop or a broken rule; a named person clears it


class OnForeignWrite(enum.StrEnum):
    """What to do when somebody else changes what we wrote."""

    ALARM = "alarm"  # say so and lock out
    YIELD = "yield"  # say so and stop writing until a person arms it again
    RETAKE = "retake"  # write ours again, three times at most, then lock out


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _raise_all(found: Sequence[str]) -> None:
    """Everything that is wrong, in one ValueError; nothing if nothing is."""
    if len(found) > 1:
        found = [", and ".join(one.replace("; ", ": ") for one in found)]
    if found:
        raise ValueError(found[0])


class ControlSettings(_Settings):
    """How one control of a device may be used, in the control's own unit (`hardware.driver.CONTROLS`).

    Parameters
    ----------
    low, high
        Narrower bounds than the device's own; None leaves those.
    safe
        Where it has to be when nobody is in charge: a value, or ``released`` (the device on its own). The device's own
        fallback, as commissioning measured it, has to lead there, or it cannot be armed.
    default
        Where it is held while the guardian lives and no lease does; None is ``safe``.
    ramp_per_s
        Fastest change on the wire [unit/s], both ways; None for no ramp. Stop and protection are exempt.
    dead_band
        A target nearer to 0 than this is 0.
    dwell_s
        A target changes its sign this long after the last change at the earliest, with 0 in between.
    effect_s
        Time the device needs to obey [s]; None takes the measured one from the commissioning record.
    effect_tolerance
        Share of the control's range within which the effect has to be.
    writes_per_day
        Most writes to any one of its registers in a day (UTC). Where a write wears out flash memory, only changes are
        written; set this low there.
    """

    low: Finite | None = None
    high: Finite | None = None
    safe: Finite | Released
    default: Finite | Released | None = None
    ramp_per_s: Positive | None = None
    dead_band: NotNegative = 0.0
    dwell_s: NotNegative = 60.0
    effect_s: Positive | None = None
    effect_tolerance: Share = 0.02
    writes_per_day: Annotated[int, Field(gt=0)] = 60_000

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} lies above high {self.high:g}")
        return self

    @property
    def at_rest(self) -> float | None:
        """Where it is held without a lease; None is released."""
        wanted = self.safe if self.default is None else self.default
        return None if isinstance(wanted, str) else wanted

    @property
    def safe_value(self) -> float | None:
        """Where it has to fall back to; None is released."""
        return None if isinstance(self.safe, str) else self.safe


class SocSettings(_Settings):
    """Guard of a storage's state of charge (0 .. 1), from what it reports and from our own count.

    Parameters
    ----------
    low, high
        No discharging at or below ``low``, no charging at or above ``high``.
    hysteresis
        How far it has to come back before it may go on.
    counted_by
        The reading whose power [W, positive charges] is counted, or empty where only the report is to be had.
    capacity_wh
        For the count; None takes the device's rating.
    efficiency
        Of one way, for the count.
    disagreement
        Report and count further apart than this: no discharging.
    """

    low: Share = 0.1
    high: Share = 0.95
    hysteresis: Share = 0.02
    counted_by: str = "w"
    capacity_wh: Positive | None = None
    efficiency: Annotated[float, Field(gt=0.5, le=1.0)] = 0.97
    disagreement: Share = 0.05

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low + self.hysteresis > self.high - self.hysteresis:
            raise ValueError("low and high lie closer together than the hysteresis allows")
        return self


class ProxySettings(_Settings):
    """Where others may read a device through the guardian's own session (`hardware.modbus.proxy`), and nothing else.

    Parameters
    ----------
    port, host
        Where to listen; port 0 takes a free one. Modbus has no passwords: whoever reaches it can read.
    """

    port: Annotated[int, Field(ge=0, le=65_535)]
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"


class DeviceSettings(_Settings):
    """One device.

    Parameters
    ----------
    id
        Its name at this site.
    building
        The building of the scenario that it stands in, or empty.
    address, unit, profile
        Where it is (``tcp://HOST:PORT``, ``rtu:///dev/ttyUSB0?baud=9600`` ...), its unit number there, and what it is:
        ``sunspec``, the name of a shipped profile or a YAML file.
    sunspec
        What a SunSpec device does not say of itself, such as ``{single_writes: true, part: 1, meter_sign: -1}``.
    timeout_s
        How long one answer may take [s].
    timer_s, refresh_s
        The device's own timer, set before anything else, and how often it is set anew.
    start_mode
        The mode it is in when the guardian starts; ``armed`` still needs a valid record, and lockout stays lockout.
    on_foreign_write
        What to do when somebody else changes what we wrote.
    out_of_range
        ``refuse`` says no to a target that cannot be held; ``clamp`` takes the nearest that can.
    soc
        Guard of its state of charge, for storages.
    proxy
        Where others may read it while the guardian holds its line; None for nowhere.
    controls
        What it may be told; a control that is not named here is never written.
    """

    id: DeviceId
    building: str = ""
    address: str
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    profile: str = "sunspec"
    sunspec: SunSpecOptions | None = None
    timeout_s: Positive = 0.5
    timer_s: Annotated[int, Field(gt=0, le=3600)] = 20
    refresh_s: Positive = 5.0
    start_mode: Literal[Mode.OBSERVE, Mode.REHEARSE, Mode.ARMED] = Mode.OBSERVE
    on_foreign_write: OnForeignWrite = OnForeignWrite.ALARM
    out_of_range: Literal["refuse", "clamp"] = "refuse"
    soc: SocSettings | None = None
    proxy: ProxySettings | None = None
    controls: dict[str, ControlSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = []
        if unknown := sorted(set(self.controls) - set(CONTROLS)):
            found.append(f"there is no control {' or '.join(map(repr, unknown))}; there are {', '.join(CONTROLS)}")
        if self.sunspec is not None and self.profile != "sunspec":
            found.append(f"sunspec: says something of SunSpec devices; this one is {self.profile!r}")
        if self.controls and 2 * self.refresh_s > self.timer_s:
            found.append(
                f"refresh_s {self.refresh_s:g} has to fit into timer_s {self.timer_s} twice: "
                "one lost refresh must not let the timer run out"
            )
        _raise_all(found)
        return self


class ConnectionSettings(_Settings):
    """The site's connection point.

    Parameters
    ----------
    export_w, import_w
        Most that may be fed in and drawn [W, >= 0]; None for no limit.
    meter
        Id of the device whose ``w`` is the exchange with the grid.
    load_w
        Largest load that nobody here controls [W, >= 0]: what is reckoned with when the meter is lost. None reckons
        with all that may be drawn, so that nothing is charged without a meter.
    source_w
        Largest feed-in that nobody here controls and no device here measures [W, >= 0].
    """

    export_w: NotNegative | None = None
    import_w: NotNegative | None = None
    meter: DeviceId | None = None
    load_w: NotNegative | None = None
    source_w: NotNegative = 0.0


class KeepingSettings(_Settings):
    """How much of the journal is kept, and when to say that its disk runs low.

    Parameters
    ----------
    days
        A part is removed when it is older than so many days and was followed by so many in which something was written
        (a wall clock that jumps ahead removes nothing); None keeps everything.
    megabytes
        Most that all parts may take up (10^6 bytes); the oldest go first. None for no limit.
    summarise_after_days
        Routine confirmations in parts older than this are counted instead of kept; None keeps them.
    alarm_free_mb
        Less than this free on the journal's disk (10^6 bytes) is an alarm.
    """

    days: Annotated[int, Field(ge=2)] | None = 365
    megabytes: Annotated[int, Field(ge=50)] | None = None
    summarise_after_days: Annotated[int, Field(ge=1)] | None = None
    alarm_free_mb: Annotated[int, Field(ge=0)] = 2_000


class SiteSettings(_Settings):
    """A site: everything its guardian needs to know.

    Parameters
    ----------
    name
        Of the site.
    socket_dir
        Folder of ``guardian.sock`` and ``stop.sock``; made with mode 0700, for this user alone.
    journal, records, state
        Folders of the guardian's journal, of commissioning records, and of what survives a restart (lockouts, counts).
    journal_keeping
        How much of the journal is kept.
    cycle_s
        Length of a cycle [s].
    client_silent_s
        A client that says nothing for so long [s] loses its leases, as if it had gone.
    max_lease_s
        Longest life of a lease [s].
    connection
        Limits at the connection point.
    devices
        Everything that is read or told.
    """

    name: DeviceId
    socket_dir: Path = Path("run")
    journal: Path = Path("journal")
    records: Path = Path("records")
    state: Path = Path("state")
    journal_keeping: KeepingSettings = KeepingSettings()
    cycle_s: Annotated[float, Field(ge=0.05, le=60.0)] = 1.0
    client_silent_s: Positive = 3.0
    max_lease_s: Annotated[float, Field(gt=0.0, le=3600.0)] = 60.0
    connection: ConnectionSettings = ConnectionSettings()
    devices: tuple[DeviceSettings, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [device.id for device in self.devices]
        if not names:
            raise ValueError("a site has one device at least; add it under devices")
        found = [f"two devices are called {name!r}" for name in sorted({one for one in names if names.count(one) > 1})]
        if self.connection.meter is not None and self.connection.meter not in names:
            found.append(f"the meter {self.connection.meter!r} is none of the devices")
        ports = [device.proxy.port for device in self.devices if device.proxy is not None and device.proxy.port]
        found += [f"two proxies listen on port {port}" for port in sorted({p for p in ports if ports.count(p) > 1})]
        for device in self.devices:
            if device.controls and self.cycle_s > device.refresh_s:
                found.append(f"{device.id}: refresh_s {device.refresh_s:g} is shorter than a cycle")
        _raise_all(found)
        return self

    def device(self, name: str) -> DeviceSettings:
        """The device of this id; KeyError if there is none."""
        for device in self.devices:
            if device.id == name:
                return device
        raise KeyError(name)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all devices."""
        return tuple(device.id for device in self.devices)

    @property
    def socket(self) -> Path:
        """The socket that clients talk to."""
        return self.socket_dir / "guardian.sock"

    @property
    def stop_socket(self) -> Path:
        """The socket that stops everything."""
        return self.socket_dir / "stop.sock"


def load_site(file: Path) -> SiteSettings:
    """Read a site's YAML file; folders come back absolute.

    Raises
    ------
    ScenarioError
        If it cannot be read or is not valid; says where.
    """
    site = load_model(file, SiteSettings)
    home = file.absolute().parent
    site = site.model_copy(
        update={name: (home / getattr(site, name)) for name in ("socket_dir", "journal", "records", "state")}
    )
    if len(bytes(site.stop_socket)) > _SOCKET_PATH_BYTES:
        raise ScenarioError(
            f"the path {site.stop_socket} is too long for a socket",
            file=file,
            path="socket_dir",
            remedy="name a folder with a short path, such as /run/peerwatt",
        )
    return site
