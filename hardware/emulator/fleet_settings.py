"""The YAML of a fleet of emulated devices: sites, their lines and weather, the devices and their faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware.emulator.fault_script import ScriptedFault
from hardware.yaml_model import load_model

Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]
Phase = Literal["a", "b", "c", "abc"]
Kind = Literal[
    "inverter", "hybrid", "battery", "meter", "sdm630", "charger", "load", "switch",
    "source", "load-block", "island-switch",
]  # fmt: skip
ISLAND_KINDS = frozenset({"source", "load-block", "island-switch"})
"""Kinds that only a site with the physics of an island has; it has no others."""

_HIGHEST_PORT = 65535


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Node(_Model):
    """A connection point below another one; impedance of the line between them, of one phase."""

    id: Id = Field(description="name of the node; `source` is the grid")
    above: str = Field("source", description="the node that it hangs on")
    r_ohm: NotNegative = Field(0.1, description="resistance of the line")
    x_ohm: NotNegative = Field(0.05, description="reactance of the line")


class BaseLoad(_Model):
    """Consumption that is no device."""

    node: str = Field("source", description="where it is drawn")
    phase: Phase = Field("abc", description="its phases")
    w: Finite = Field(description="active power, positive draws")
    var: Finite = Field(0.0, description="reactive power, positive absorbs")


class Device(_Model):
    """One emulated device behind a TCP port; with ``count``, that many on ports in a row."""

    id: Id = Field(description="name of the device; with a count they are named id-1, id-2 ...")
    kind: Kind = Field(description="what it is")
    port: Port = Field(0, description="TCP port; 0 takes a free one; the same port may carry several units")
    unit: Annotated[int, Field(ge=0, le=247)] = Field(1, description="Modbus unit")
    count: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="how many of them, on ports in a row")
    node: str = Field("source", description="node of the site that it is connected to; a meter measures what is below")
    phase: Phase = Field("abc", description="its phases")
    offline: Literal["mute", "refuse"] = Field("mute", description="while it is off: silent, or its port is closed")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of its kind")
    faults: tuple[ScriptedFault, ...] = Field((), description="scripted faults of this device, or of its port")


class Site(_Model):
    """Devices that share lines and weather."""

    id: Id = Field("site", description="name of the site")
    physics: Literal["lines", "island"] = Field(
        "lines", description="what its devices share: lines of a street, or an island with frequency and voltage"
    )
    v_pu: Positive = Field(1.0, description="voltage of the source, share of 230 V")
    hz: Positive = Field(50.0, description="frequency")
    irradiance: NotNegative | Literal["day"] = Field(
        0.8, description="share of full sun, or `day`: a clear day's curve"
    )
    hour: Annotated[float, Field(ge=0.0, lt=24.0)] = Field(12.0, description="hour of the day at the start, for `day`")
    temperature_c: Finite = Field(20.0, description="air temperature")
    nodes: tuple[Node, ...] = Field((), description="connection points below the source")
    loads: tuple[BaseLoad, ...] = Field((), description="consumption that is no device")
    devices: tuple[Device, ...] = Field(description="the emulated devices")
    faults: tuple[ScriptedFault, ...] = Field((), description="scripted faults of the site and its devices")

    @model_validator(mode="after")
    def _nodes_are_there(self) -> Site:
        known = {"source", *(node.id for node in self.nodes)}
        named = [node.above for node in self.nodes]
        named += [load.node for load in self.loads] + [device.node for device in self.devices]
        for name in named:
            if name not in known:
                raise ValueError(f"no node {name!r}; there are {', '.join(sorted(known))}")
        return self

    @model_validator(mode="after")
    def _kinds_fit(self) -> Site:
        island = self.physics == "island"
        for device in self.devices:
            if (device.kind in ISLAND_KINDS) is not island:
                fits = ", ".join(sorted(ISLAND_KINDS)) if island else "the others"
                raise ValueError(f"{device.id}: a site with the physics {self.physics!r} has no {device.kind}; {fits}")
        switches = sum(device.kind == "island-switch" for device in self.devices)
        if island and switches != 1:
            raise ValueError(f"an island has one island-switch, this one {switches}")
        return self


class Fleet(_Model):
    """A whole file."""

    name: Id = Field("fleet", description="name of the fleet")
    speed: Positive = Field(1.0, description="device seconds per second")
    seed: int = Field(0, description="of noise and of faults with a probability")
    processes: Annotated[int, Field(ge=1, le=64)] = Field(1, description="worker processes; a site lives in one")
    host: str = Field("127.0.0.1", description="address that the devices listen on")
    control_port: Port | None = Field(None, description="port of the HTTP control on this machine; none without it")
    log: str | None = Field(None, description="file for the log of injected faults, JSON lines; relative to this file")
    sites: tuple[Site, ...] = Field(description="the sites")

    @model_validator(mode="after")
    def _named_once(self) -> Fleet:
        names = [device.id for site in self.sites for device in expanded(site)] + [site.id for site in self.sites]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"a name stands twice: {', '.join(twice[:5])}")
        if not any(site.devices for site in self.sites):
            raise ValueError("no site has a device")
        taken: dict[tuple[int, int], str] = {}
        owner: dict[int, str] = {}
        for site in self.sites:
            for device in expanded(site):
                if device.port == 0:
                    continue
                if device.port > _HIGHEST_PORT:
                    raise ValueError(f"{device.id}: there is no port {device.port}")
                other = taken.setdefault((device.port, device.unit), device.id)
                if other != device.id:
                    raise ValueError(f"{device.id} and {other} have one port and unit")
                if owner.setdefault(device.port, site.id) != site.id:
                    raise ValueError(f"{device.id}: port {device.port} belongs to site {owner[device.port]}")
        return self


def expanded(site: Site) -> Iterator[Device]:
    """The devices of a site, each with ``count`` 1."""
    for device in site.devices:
        if device.count == 1:
            yield device
            continue
        for i in range(device.count):
            port = device.port + i if device.port else 0
            yield device.model_copy(update={"id": f"{device.id}-{i + 1}", "port": port, "count": 1})


def load_fleet(file: Path) -> Fleet:
    """Read a fleet's YAML file. Raises ScenarioError with file, line, path, reason and remedy."""
    return load_model(file, Fleet)


def default_fleet(port: int, speed: float = 1.0) -> Fleet:
    """What `peerwatt emulate` starts without a file: one 10 kW hybrid inverter with a battery, in daylight."""
    hybrid = Device(id="hybrid", kind="hybrid", port=port)
    return Fleet(name="default", speed=speed, sites=(Site(devices=(hybrid,)),))
