"""What is to be served and how, and what people are told once it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PPM = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is to be served, and how.

    Parameters
    ----------
    scenario, overrides
        Which scenario, and values laid over it.
    data
        The data folder.
    factor_ppm
        Millionths of an engine second per second of the wall clock.
    host, port, tls_cert, tls_key, behind_proxy
        Where to listen; see `peerwatt.api.binding.check_binding`. Port 0 takes a free one.
    journal
        ``postgresql://...`` instead of files in the data folder.
    mqtt, mqtt_password, mqtt_ca, mqtt_plain
        The broker, if there is one; see `hardware.mqtt.BrokerSettings`.
    outside, outside_meters
        Buildings left to outside clients, and whether these send their meter readings.
    guardian
        Socket of the guardian that owns the site's devices; None without one.
    guardian_site
        Or its site file: a guardian that runs is joined, else it is started and ended with the service.
    guardian_awaited
        Whether the service waits at its start until the guardian answers.
    plan_seconds
        Longest time that planners of buildings may take at a gate [s]; None: half a slot, at least a second.
    slots
        Stop after so many.
    threads
        Of the power flow.
    """

    scenario: str
    data: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    factor_ppm: int = PPM
    host: str = "127.0.0.1"
    port: int = 8000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False
    journal: str | None = None
    mqtt: str | None = None
    mqtt_password: str | None = None
    mqtt_ca: Path | None = None
    mqtt_plain: bool = False
    outside: frozenset[str] = frozenset()
    outside_meters: bool = False
    guardian: Path | None = None
    guardian_site: Path | None = None
    guardian_awaited: bool = False
    plan_seconds: float | None = None
    slots: int | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Started:
    """What people have to know of a service that has just started.

    Parameters
    ----------
    title
        One line: what is served, how fast.
    addresses
        Where, by what.
    currency
        ISO 4217 code.
    first_key, key_file
        The admin's key, at the first start only.
    computed_again
        Slots of the plant that had to be computed again.
    """

    title: str
    addresses: Mapping[str, str]
    currency: str
    first_key: str | None
    key_file: Path | None
    computed_again: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a life of the service ended.

    Parameters
    ----------
    lateness
        Of the stages of the slot cycle; see `peerwatt.live.lateness.StageLateness.summary`.
    guardian_code
        Exit code of the guardian that was started with the service: 0 if every device was brought to its safe value,
        negative after a signal; None where none was started, or it still runs.
    """

    lateness: Mapping[str, Any]
    guardian_code: int | None
