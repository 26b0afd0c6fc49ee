"""`connect`: from an address to a device that can be looked at."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from core.errors import DeviceError
from hardware.address import parse_address
from hardware.device import Device
from hardware.driver import Group
from hardware.meeting import SunSpecOptions, meeting
from hardware.modbus.line import Line, LineSettings, LineState
from hardware.modbus.lock import is_proxy


async def connect(
    address: str,
    *,
    unit: int = 1,
    profile: str = "sunspec",
    timeout_s: float = 1.0,
    shared: bool = False,
    sunspec: SunSpecOptions | None = None,
) -> Device:
    """Find out what is behind an address; read-only by construction: a `Device` has no way to write.

    The line is locked, so that nobody becomes a second master by accident, unless the address is a proxy of ours on
    this machine, which is there to be shared.

    Parameters
    ----------
    address
        ``tcp://host:port``, ``tls://host:port?ca=..&cert=..&key=..`` or ``rtu:///dev/ttyUSB0?baud=9600&parity=E``.
    unit
        The device id there.
    profile
        ``sunspec`` finds out by itself; else a shipped profile's name or a file.
    timeout_s
        How long to wait for each answer [s].
    shared
        True takes no lock. Only for lines where a second reader harms nobody: many devices talk to one master only,
        and hang up on it when another one calls.
    sunspec
        What a SunSpec device does not say of itself.

    Raises
    ------
    DeviceError
        If the line is held by another process (local; says which), if nothing answers, or if what answers is not what
        the profile describes.
    YamlFileError
        If there is no such profile, or it is wrong.
    """
    where = parse_address(address)
    settings = LineSettings(timeout_s=timeout_s, deadline_s=3.0 * timeout_s)
    if shared or await asyncio.get_running_loop().run_in_executor(None, is_proxy, where):
        settings = replace(settings, locked=False)
    meet = meeting(profile, sunspec)
    line = Line(where, settings)
    await line.open()
    try:
        if line.generation == 0:
            raise DeviceError(f"{where}: {line.problem}", local=False, remedy="is the device on and reachable?")
        driver = await meet(lambda span: line.read(unit, span))
        if line.state is not LineState.UP:  # a profile without any register that says who it is
            for span in driver.spans(Group.FAST)[:1]:
                sample = await line.read(unit, span)
                if sample.words is None:
                    raise DeviceError(sample.problem, local=False, remedy="is it this kind of device, and this unit?")
        return Device(line, unit, driver, meet=meet, owns_line=True)
    except BaseException:
        await line.close()
        raise
