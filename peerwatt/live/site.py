"""The site file of ``peerwatt live``: which scenario is run, by which guardian, where it listens and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware.yaml_model import parse_model
from hardware.yaml_source import Source, read_text
from peerwatt.live.options import PPM, Options

_YAML = (".yaml", ".yml")
_READ = {"guardian", "tls_cert", "tls_key", "mqtt_ca"}
"""Keys of files that have to be there."""


class LiveSite(BaseModel):
    """A site as `load_live_site` reads it; folders and files are relative to its file.

    Parameters
    ----------
    scenario
        Name of a shipped scenario, or a YAML file.
    guardian
        The site file of the guardian that owns the devices (docs/guardian.md): one that runs is joined, else it is
        started, and ended after the market.
    guardian_socket
        Or the ``guardian.sock`` of one that somebody else starts: it is waited for, and left alone at the end.
    data
        The data folder.
    host, port, tls_cert, tls_key, behind_proxy
        Where the API listens.
    journal
        ``postgresql://...`` instead of files in the data folder.
    mqtt, mqtt_ca, mqtt_plain
        The broker; its password comes from the environment.
    outside, meters
        Buildings whose own clients bid, and whose their meters are.
    speed
        Engine seconds per second; 1 wherever a device is real.
    days, set
        As ``--days`` and ``--set`` of ``peerwatt serve``.
    plan_seconds
        Longest time that the planners of buildings may take at a gate [s]; None: half a slot.
    threads
        Of the power flow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: Annotated[str, Field(min_length=1)]
    guardian: Path | None = None
    guardian_socket: Path | None = None
    data: Path = Path("live")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False
    journal: str | None = None
    mqtt: str | None = None
    mqtt_ca: Path | None = None
    mqtt_plain: bool = False
    outside: tuple[str, ...] = ()
    meters: Literal["modelled", "outside"] = "modelled"
    speed: Annotated[float, Field(ge=1 / PPM, le=100_000.0)] = 1.0
    days: Annotated[int, Field(gt=0)] | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    plan_seconds: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    threads: Annotated[int, Field(gt=0)] = 1

    @model_validator(mode="after")
    def _one_guardian(self) -> Self:
        if self.guardian is not None and self.guardian_socket is not None:
            raise ValueError(
                "guardian: starts a guardian and guardian_socket: joins one that others start; choose one of them"
            )
        return self


def load_live_site(file: Path) -> LiveSite:
    """Read a site file; its paths come back absolute.

    Raises
    ------
    ScenarioError
        If it cannot be read or is not valid: all that is wrong, with line, place, reason and remedy.
    """
    text = read_text(file)
    site = parse_model(text, LiveSite, file)
    home = file.absolute().parent
    paths = ("guardian", "guardian_socket", "data", "tls_cert", "tls_key", "mqtt_ca")
    given = {name: home / path for name in paths if (path := getattr(site, name)) is not None}
    scenario = str(home / site.scenario) if site.scenario.endswith(_YAML) else site.scenario
    named: dict[str, Path] = {name: path for name, path in given.items() if name in _READ}
    if scenario != site.scenario:
        named["scenario"] = Path(scenario)
    _there(Source(text, str(file)), named)
    return site.model_copy(update={**given, "scenario": scenario})


def _there(source: Source, files: Mapping[str, Path]) -> None:
    """ScenarioError with line and key for every file that a site names and that is not there."""
    for key, path in files.items():
        if not path.is_file():
            source.add(
                (key,), f"there is no file {path}", "correct the path; it is relative to the folder of this file"
            )
    source.raise_any()


def live_options(site: LiveSite, *, mqtt_password: str | None = None, slots: int | None = None) -> Options:
    """What the service is started with: the same as ``peerwatt serve``, and the guardian besides."""
    laid: Mapping[str, Any] = {} if site.days is None else {"time.end": None, "time.days": site.days}
    return Options(
        scenario=site.scenario,
        overrides={**laid, **site.set},
        data=site.data,
        factor_ppm=round(site.speed * PPM),
        host=site.host,
        port=site.port,
        tls_cert=site.tls_cert,
        tls_key=site.tls_key,
        behind_proxy=site.behind_proxy,
        journal=site.journal,
        mqtt=site.mqtt,
        mqtt_password=mqtt_password,
        mqtt_ca=site.mqtt_ca,
        mqtt_plain=site.mqtt_plain,
        outside=frozenset(site.outside),
        outside_meters=site.meters == "outside",
        guardian=site.guardian_socket,
        guardian_site=site.guardian,
        guardian_awaited=True,
        slots=slots,
        threads=site.threads,
        plan_seconds=site.plan_seconds,
    )
