"""Taking the power away from a device where answers come from a file: by an emulator's control, or by a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from controllers.commissioning.bench import Bench
from controllers.commissioning.effects import SkippedError
from core.errors import DeviceError
from hardware.driver import Group

PERSON = "person"
_PERSON_S = 300.0  # how long somebody is waited for
_EMULATOR_S = 10.0


def power_cycle(answers: Mapping[str, object], bench: Bench) -> Callable[[], Coroutine[Any, Any, None]] | None:
    """What takes the power away according to ``reboot_by`` and ``reboot_s``; None if nobody does.

    Whoever it is: the device has to be seen to fall silent, or nothing was tried.

    Raises
    ------
    DeviceError
        Local, if the answers make no sense.
    """
    by = str(answers.get("reboot_by") or "").strip()
    if not by:
        return None
    try:
        away_s = float(str(answers.get("reboot_s")))
    except ValueError:
        raise DeviceError(
            f"reboot_by: {by}, and reboot_s does not say for how long",
            local=True,
            remedy="add `reboot_s: 60`, the seconds that the device needs to come back",
        ) from None
    if by == PERSON:
        return lambda: _by_person(bench)
    if not by.startswith(("http://", "https://")):
        raise DeviceError(
            f"reboot_by: {by!r} is neither `{PERSON}` nor an address",
            local=True,
            remedy="an emulated device's address is like http://127.0.0.1:5080/devices/hybrid",
        )
    return lambda: _by_emulator(bench, by.rstrip("/"), away_s)


async def _by_person(bench: Bench) -> None:
    bench.technician.tell(
        f"Take the power away from the device's control electronics now, and give it back. "
        f"It has {_PERSON_S / 60:.0f} minutes to fall silent."
    )
    await _silent(bench, _PERSON_S)


async def _by_emulator(bench: Bench, device: str, away_s: float) -> None:
    import httpx

    try:
        async with httpx.AsyncClient(timeout=5.0) as client:
            answer = await client.post(f"{device}/faults", json={"kind": "reboot", "off_s": away_s})
            answer.raise_for_status()
            await _silent(bench, _EMULATOR_S)
            await client.delete(f"{device}/faults/{answer.json()['fault']}")
    except httpx.HTTPError as error:
        raise DeviceError(
            f"{device} did not reboot the device: {error}",
            local=False,
            remedy="`peerwatt emulate --control PORT` says where its control is; add /devices/ID",
        ) from error


async def _silent(bench: Bench, wait_s: float) -> None:
    """Wait until the device does not answer any more; SkippedError if it never falls silent."""
    span = next(span for group in (Group.FAST, Group.SLOW, Group.ONCE) for span in bench.driver.spans(group))
    due_s = bench.now_s() + wait_s
    while bench.now_s() < due_s:
        if await bench.is_silent(span):
            return
        await asyncio.sleep(bench.settings.poll_s)
    raise SkippedError(f"the device never fell silent in {wait_s:.0f} s, so nobody took the power away")
