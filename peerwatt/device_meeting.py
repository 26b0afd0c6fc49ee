"""What the commands that talk to one device share: its address as people type it, and how it is met."""

from __future__ import annotations

from core.errors import DeviceError, ScenarioError
from hardware.address import Address, parse_address
from hardware.driver import Driver
from hardware.meeting import Read, SunSpecOptions, meeting
from hardware.modbus.line import Line, LineSettings

__all__ = ["UNREACHABLE", "Read", "address_of", "meet", "open_line"]

UNREACHABLE = (
    "check that the device is on and Modbus TCP is enabled in its menu, that host, port and --unit are right, and "
    "that nobody else holds its only connection"
)


def address_of(text: str) -> Address:
    """The address that ``HOST``, ``HOST:PORT`` or a full ``tcp://``, ``tls://``, ``rtu://`` address means."""
    return parse_address(text if "://" in text else f"tcp://{text}")


async def open_line(address: Address, *, timeout_s: float, locked: bool = True) -> Line:
    """A line that is connected; DeviceError (with the remedy) if nobody answers or somebody else holds it."""
    line = Line(address, LineSettings(timeout_s=timeout_s, deadline_s=3.0 * timeout_s, locked=locked))
    await line.open()
    if line.generation == 0:
        problem = line.problem
        await line.close()
        raise DeviceError(f"{address}: {problem}", local=False, remedy=UNREACHABLE)
    return line


async def meet(profile: str, read: Read, sunspec: SunSpecOptions | None = None) -> Driver:
    """The driver of the device behind ``read``: found out by itself (``sunspec``), or by a profile's name or file.

    Raises
    ------
    DeviceError
        If nothing answers or it is another device.
    """
    try:
        recognise = meeting(profile, sunspec)
    except ScenarioError as error:
        raise DeviceError(f"profile {profile}: {error}", local=True) from error
    return await recognise(read)
