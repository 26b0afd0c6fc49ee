"""What the microgrid's process is told in its YAML file: devices, their priorities, the supervisor's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from controllers.microgrid.ledger import SWITCH
from controllers.microgrid.settings import Settings, SyncWindow
from core import ScenarioError
from hardware.yaml_model import load_model

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
DeviceId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]

_SOCKET_PATH_BYTES = 100
_OWN = frozenset({"rating_kw", "cycle_s"})  # said by the site itself
W_PER_KW = 1000.0


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SwitchDevice(_Part):
    """The switch at the connection point and the measurements on both sides of it.

    Parameters
    ----------
    address, unit, profile
        Where it is, its unit number there, and what its registers mean: the name of a shipped profile or a YAML file.
    timeout_s
        How long one answer may take [s].
    """

    address: str
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    profile: str = "emulated-island-switch"
    timeout_s: Positive = 0.3


class SourceDevice(SwitchDevice):
    """A source.

    Parameters
    ----------
    id
        Its name.
    rating_w
        Its rating [W].
    can_form
        Whether it may hold the island's voltage.
    charge_w, discharge_w
        What it can take and give at most [W]; None is the rating. What it says itself may only be less.
    capacity_wh
        Energy stored when full [Wh]; None where nothing is stored.
    """

    id: DeviceId
    profile: str = "emulated-source"
    rating_w: Positive
    can_form: bool = True
    charge_w: NotNegative = 0.0
    discharge_w: NotNegative | None = None
    capacity_wh: Positive | None = None


class LoadDevice(SwitchDevice):
    """A block of load behind its own contactor.

    Parameters
    ----------
    id
        Its name.
    priority
        1 is kept longest; the largest number is shed first.
    inrush_w
        What it may draw for a moment when switched on [W]; None is what it says itself.
    """

    id: DeviceId
    profile: str = "emulated-load-block"
    priority: Annotated[int, Field(ge=1)]
    inrush_w: NotNegative | None = None


class MicrogridSite(_Part):
    """A microgrid.

    Parameters
    ----------
    name
        Of the microgrid.
    mode
        ``observe`` reads, shows, and writes nothing; ``armed`` leads. A person who has proved every dead man writes it.
    socket_dir
        Folder of ``microgrid.sock``; made with mode 0700, for this user alone.
    journal, state
        Folders of the journal, and of what a restarted process has to know.
    rating_w
        Rating of the connection point [W].
    cycle_s
        The island cycle [s].
    timer_s, refresh_s
        The devices' dead men, and how often they are set anew [s].
    stale_s
        A reading older than this is none [s].
    heartbeat_s
        A device whose own counter stands still for so long is not believed [s].
    switch_bridge_s
        So long a switch that does not answer counts as standing where it stood [s]; then as one that nobody knows.
    switch, sources, loads
        The devices.
    supervisor
        Settings of the supervisor that differ from their defaults (`controllers.microgrid.settings.Settings`).
    """

    name: DeviceId
    mode: Literal["observe", "armed"] = "observe"
    socket_dir: Path = Path("run")
    journal: Path = Path("journal")
    state: Path = Path("state")
    rating_w: Positive
    cycle_s: Annotated[float, Field(ge=0.05, le=1.0)] = 0.1
    timer_s: Annotated[int, Field(ge=1, le=60)] = 2
    refresh_s: Positive = 0.5
    stale_s: Positive = 0.25
    heartbeat_s: Positive = 0.5
    switch_bridge_s: NotNegative = 1.0
    switch: SwitchDevice
    sources: Annotated[tuple[SourceDevice, ...], Field(min_length=1)]
    loads: tuple[LoadDevice, ...] = ()
    supervisor: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> MicrogridSite:
        names = [*(one.id for one in self.sources), *(one.id for one in self.loads)]
        if len(set(names)) != len(names) or SWITCH in names:
            raise ValueError(f"each device has a name of its own, and none is called {SWITCH!r}")
        if 3.0 * self.refresh_s > self.timer_s:
            raise ValueError(f"refresh_s {self.refresh_s:g} has to fit into timer_s {self.timer_s} three times")
        if self.mode == "armed" and not any(one.can_form for one in self.sources):
            raise ValueError("no source can form: there is nothing to lead")
        self.settings()
        return self

    def settings(self) -> Settings:
        """The supervisor's settings; ValueError if one of them is wrong."""
        known = {field.name for field in fields(Settings)} - _OWN
        if unknown := sorted(set(self.supervisor) - known):
            raise ValueError(f"supervisor: there is no setting {' or '.join(unknown)}")
        values = dict(self.supervisor)
        if isinstance(values.get("window"), Mapping):
            try:
                values["window"] = SyncWindow(**values["window"])
            except TypeError:
                raise ValueError("supervisor: a window has df_hz, dv_pu and angle_deg") from None
        defaults = Settings(rating_kw=1.0)
        for name, value in values.items():
            if type(value) is int and isinstance(getattr(defaults, name), float):
                values[name] = value = float(value)
            if type(value) is not type(getattr(defaults, name)):
                raise ValueError(f"supervisor: {name} cannot be {value!r}")
        return Settings(rating_kw=self.rating_w / W_PER_KW, cycle_s=self.cycle_s, **values)

    @property
    def socket(self) -> Path:
        """The socket that orders come in on."""
        return self.socket_dir / "microgrid.sock"

    @property
    def snapshot(self) -> Path:
        """The file that a restarted process reads."""
        return self.state / "microgrid.json"


def load_microgrid(file: Path) -> MicrogridSite:
    """Read a microgrid's YAML file; folders come back absolute.

    Raises
    ------
    ScenarioError
        If it cannot be read or is not valid; says where.
    """
    site = load_model(file, MicrogridSite)
    home = file.absolute().parent
    site = site.model_copy(update={name: home / getattr(site, name) for name in ("socket_dir", "journal", "state")})
    if len(bytes(site.socket)) > _SOCKET_PATH_BYTES:
        raise ScenarioError(
            f"the path {site.socket} is too long for a socket",
            file=file,
            path="socket_dir",
            remedy="name a folder with a short path, such as /run/peerwatt",
        )
    return site
