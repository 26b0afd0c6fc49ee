"""How a device of a profile is met: from reads alone to the driver that fits it. The one place that knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hardware.driver import Driver, Sample, Span

Read = Callable[[Span], Awaitable[Sample]]
"""Reads one span; never raises for trouble of the device or the line."""

Meet = Callable[[Read], Awaitable[Driver]]
"""How a driver comes to know a device: reads what it needs and returns the driver."""


class SunSpecOptions(BaseModel):
    """What a SunSpec device does not say of itself.

    Parameters
    ----------
    single_writes
        It takes one register a request only (function 6).
    max_registers
        Most registers of one read.
    part
        Which unit of a map that holds several, from 0.
    meter_sign
        -1 for a meter that is mounted the other way round.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    single_writes: bool = False
    max_registers: Annotated[int, Field(ge=12, le=125)] = 125
    part: Annotated[int, Field(ge=0)] = 0
    meter_sign: Literal[1, -1] = 1


def meeting(profile: str, sunspec: SunSpecOptions | None = None) -> Meet:
    """How a device of that profile is met. A profile is read from the disk here, once.

    Parameters
    ----------
    profile
        ``sunspec``, a shipped profile's name or a YAML file.
    sunspec
        For SunSpec devices only.

    Returns
    -------
    Meet
        Raises DeviceError (remote) if what answers is nothing of that kind.

    Raises
    ------
    YamlFileError
        If there is no such profile, or it is wrong.
    """
    if profile == "sunspec":
        from hardware.sunspec import discover

        options = SunSpecOptions() if sunspec is None else sunspec

        async def recognise(read: Read) -> Driver:
            return await discover(
                read,
                max_registers=options.max_registers,
                part=options.part,
                meter_sign=options.meter_sign,
                single_writes=options.single_writes,
            )

        return recognise
    from hardware.profile import bind, load_profile

    loaded = load_profile(profile)

    async def meet(read: Read) -> Driver:
        return await bind(loaded, read)

    return meet
