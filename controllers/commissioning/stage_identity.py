"""Who is there: the device, the people, the instrument, the clock; and how many may talk to it at once."""

from __future__ import annotations

from datetime import date

from controllers.commissioning.bench import Bench, Session
from controllers.commissioning.effects import FailedError, SkippedError
from controllers.commissioning.findings import Findings
from controllers.commissioning.record import NO_INSTRUMENT, NOT_COMPARED, Instrument, Named, missing_of
from controllers.commissioning.technician import QUESTIONS
from hardware.driver import Group

_SESSIONS = 4
_NONE = frozenset({"none", "no"})


async def people(bench: Bench, findings: Findings) -> str:
    """Ask who is there, with which instrument, and how far the clock is off; left out if that is not all said."""
    found = dict.fromkeys(("instrument_serial", "calibrated_on"), "")
    for key in ("technician", "witness", "instrument", *found, "clock_offset_s"):
        if key not in found or found["instrument"].lower() not in _NONE:
            found[key] = (await bench.technician.answer(QUESTIONS[key])).strip()
    findings.technician, findings.witness = found["technician"], found["witness"]
    try:
        day = date.fromisoformat(found["calibrated_on"]) if found["calibrated_on"] else None
        if found["clock_offset_s"].lower() in _NONE:
            findings.clock_offset_s = NOT_COMPARED
        elif found["clock_offset_s"]:
            findings.clock_offset_s = float(found["clock_offset_s"])
    except ValueError as error:
        raise FailedError(f"an answer cannot be read: {error}") from error
    name = NO_INSTRUMENT if found["instrument"].lower() in _NONE else found["instrument"]
    findings.instrument = Instrument(name=name, serial=found["instrument_serial"], calibrated_on=day)
    offset = findings.clock_offset_s
    clock = f"{offset:+g} s off" if isinstance(offset, float) else NOT_COMPARED
    instrument = str(findings.instrument) or "no second instrument"
    said = f"technician {found['technician'] or '-'}, witness {found['witness'] or '-'}; {instrument}; clock {clock}"
    if missing := missing_of(findings.technician, findings.witness, findings.instrument, offset):
        raise SkippedError(f"nothing is armed without {', '.join(missing)}; {said}")
    return said


async def identity(bench: Bench, findings: Findings) -> str:
    """Who the device says it is."""
    who = bench.driver.identity
    await bench.measure(Group.ONCE)
    if not who.serial:
        raise FailedError(f"{Named.of(who).text} tells no serial number: a record cannot be kept to it")
    rated = bench.driver.ratings
    power = "unknown power" if rated.w is None else f"{rated.w:g} W"
    controls = ", ".join(bench.driver.controls) or "nothing"
    return (
        f"{Named.of(who).text}, serial {who.serial}, firmware {who.firmware or '-'}, options "
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
