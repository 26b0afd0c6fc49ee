"""How a device of a profile is met: from reads alone to the driver that fits it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hardware.driver import Driver, Sample, Span


async def meet(profile: str, read: Callable[[Span], Awaitable[Sample]]) -> Driver:
    """Recognise what answers ``read``.

    Parameters
    ----------
    profile
        ``sunspec``, a shipped profile's name or a YAML file.
    read
        Reads registers of the device.

    Raises
    ------
    DeviceError
        If there is no such profile (local), or what answers is nothing of that kind (remote).
    """
    if profile == "sunspec":
        from hardware.sunspec.driver import discover

        return await discover(read)
    from hardware.profile import bind, load_profile

    return await bind(load_profile(profile), read)
