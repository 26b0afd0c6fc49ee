"""Who is there: the device, the people, the instrument, the clock; and how many may talk to it at once."""

from __future__ import annotations

from datetime import date

from controllers.commissioning.bench import Bench, Session
from controllers.commissioning.effects import FailedError, SkippedError
from controllers.commissioning.findings import Findings
from controllers.commissioning.record import Instrument
from controllers.commissioning.technician import QUESTIONS
from hardware.driver import Group

_SESSIONS = 4


async def people(bench: Bench, findings: Findings) -> str:
    """Ask who is there, with which instrument, and how far the clock is off."""
    found = {
        key: (await bench.technician.answer(QUESTIONS[key])).strip()
        for key in ("technician", "witness", "instrument", "instrument_serial", "calibrated_on", "clock_offset_s")
    }
    findings.technician, findings.witness = found["technician"], found["witness"]
    try:
        day = date.fromisoformat(found["calibrated_on"]) if found["calibrated_on"] else None
        findings.clock_offset_s = float(found["clock_offset_s"]) if found["clock_offset_s"] else None
    except ValueError as error:
        raise FailedError(f"an answer cannot be read: {error}") from error
    findings.instrument = Instrument(name=found["instrument"], serial=found["instrument_serial"], calibrated_on=day)
    clock = "not compared" if findings.clock_offset_s is None else f"{findings.clock_offset_s:+g} s off"
    instrument = str(findings.instrument) or "no second instrument"
    return f"technician {found['technician'] or '-'}, witness {found['witness'] or '-'}; {instrument}; clock {clock}"


async def identity(bench: Bench, findings: Findings) -> str:
    """Who the device says it is."""
    who = bench.driver.identity
    await bench.measure(Group.ONCE)
    if not who.serial:
        raise FailedError(f"{who.manufacturer} {who.model} tells no serial number: a record cannot be kept to it")
    rated = bench.driver.ratings
    power = "unknown power" if rated.w is None else f"{rated.w:g} W"
    controls = ", ".join(bench.driver.controls) or "nothing"
    return (
        f"{who.manufacturer} {who.model}, serial {who.serial}, firmware {who.firmware or '-'}, options "
        f"{who.options or '-'}; {power}; can be told {controls}"
    )


async def sessions(bench: Bench, findings: Findings) -> str:
    """Open more connections beside ours, up to four, and read over each."""
    if bench.sessions is None:
        raise SkippedError("there is but one connection on such a line")
    opened: list[Session] = []
    try:
        while len(opened) < _SESSIONS and (one := await bench.sessions()) is not None:
            opened.append(one)
        ours = await bench.measure(Group.FAST)
        still = any(reading.is_good for reading in ours.values())
    finally:
        for one in opened:
            await one.close()
    findings.sessions = 1 + len(opened)
    if not still:
        raise FailedError(f"{findings.sessions} connections, and then the first one was dropped")
    more = " or more" if len(opened) == _SESSIONS else ""
    return f"{findings.sessions}{more} connections at once are served"
