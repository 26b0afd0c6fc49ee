"""The commissioning record of one device: what was measured, by whom, with what; and whether that is enough to arm.

A record is valid for exactly the manufacturer, model, serial number, firmware and options that were measured: other
firmware may have another timer.
"""

from __future__ import annotations

import json
import os
import re
from datetime import date, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from controllers.commissioning.facts import Behaviour, ControlRecord, Frozen
from core.errors import DeviceError
from core.hashing import canonical_json, sha256_hex
from hardware.driver import Control, Identity

RECORD_VERSION = 2
NO_INSTRUMENT = "none"
NOT_COMPARED: Literal["not compared"] = "not compared"
PERSISTENCE = "persistence"
"""What somebody may accept by name although it was not tried: whether an order outlives a loss of power."""
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_SAME = 0.02  # of the highest value: nearer than this, two values of a control are one
_LATE_S = 3.0  # allowed beyond any timer, however short

Safe = float | Literal["released"]
"""Where a control has to be when the guardian is gone: a value in the control's unit, or simply taken away."""


class Named(Frozen):
    """Whom a record is about; see `hardware.driver.Identity`."""

    manufacturer: str
    model: str
    serial: str
    firmware: str
    options: str = ""

    @classmethod
    def of(cls, identity: Identity) -> Named:
        """From what the device says."""
        return cls(
            manufacturer=identity.manufacturer,
            model=identity.model,
            serial=identity.serial,
            firmware=identity.firmware,
            options=identity.options,
        )

    @property
    def text(self) -> str:
        """Manufacturer and model, for people; a model that begins with its manufacturer is said once."""
        return self.model if self.model.startswith(self.manufacturer) else f"{self.manufacturer} {self.model}"


class StepRecord(Frozen):
    """What one step of the procedure found."""

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    text: str
    begun_at: datetime
    lasted_s: float
    traces: dict[str, tuple[tuple[float, float], ...]] = Field(default_factory=dict)  # (s since the step began, value)


class Instrument(Frozen):
    """The second instrument."""

    name: str = ""
    serial: str = ""
    calibrated_on: date | None = None

    def __str__(self) -> str:
        words = [self.name, f"serial {self.serial}" if self.serial else "without a serial number"]
        words.append(f"calibrated on {self.calibrated_on}" if self.calibrated_on else "calibration not known")
        return ", ".join(words) if self.name and self.name != NO_INSTRUMENT else ""


Offset = float | Literal["not compared"] | None
"""Of this computer's clock [s, positive: ahead]; None if nobody said anything about it."""


def missing_of(technician: str, witness: str, instrument: Instrument, offset: Offset) -> tuple[str, ...]:
    """Questions that have to be answered before anything is armed, by their keys; no instrument is an answer too."""
    said: dict[str, object] = {"technician": technician, "witness": witness, "instrument": instrument.name}
    if instrument.name and instrument.name != NO_INSTRUMENT:
        said |= {"instrument_serial": instrument.serial, "calibrated_on": instrument.calibrated_on}
    said["clock_offset_s"] = "" if offset is None else "said"
    return tuple(key for key, answer in said.items() if not answer)


class Record(Frozen):
    """Everything that a commissioning found."""

    version: int = RECORD_VERSION
    made_at: datetime
    identity: Named
    address: str
    unit: int
    profile: str
    technician: str = ""
    witness: str = ""
    instrument: Instrument = Instrument()
    clock_offset_s: Offset = None
    accepted: dict[str, str] = Field(default_factory=dict)  # what was not tried, and who took it upon themselves
    sign: Literal["right", "opposite", "unknown"] = "unknown"
    ct_direction: Literal["right", "reversed", "unknown"] = "unknown"
    phase_order: Literal["right", "wrong", "unknown"] = "unknown"
    sessions: int | None = None  # connections that the device serves at once, as far as tried
    controls: dict[str, ControlRecord] = Field(default_factory=dict)
    steps: tuple[StepRecord, ...] = ()
    complete: bool = False  # every step was done or skipped on purpose
    released: bool = False  # the device was left without any order of ours, read back

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        return sha256_hex(canonical_json(self.model_dump(mode="json")))

    @property
    def missing(self) -> tuple[str, ...]:
        """Who, with what and by which clock: the questions whose answers are missing, by their keys."""
        return missing_of(self.technician, self.witness, self.instrument, self.clock_offset_s)

    def behaviour_text(self, control: str) -> str:
        """What the timer of a control does, in words; empty for one that was not measured."""
        found = self.controls.get(control)
        return "" if found is None else found.text


# --- keeping them -----------------------------------------------------------------------------------------------------


class RecordStore:
    """The records in a folder, one JSON file each with its digest.

    Parameters
    ----------
    folder
        Made when the first record is saved.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.refused: dict[Path, str] = {}
        """Files that hold no record as it was written, with the reason; of the last look."""

    def save(self, record: Record) -> Path:
        """Write a record down, durably; returns its file. DeviceError (local) if that fails."""
        name = "-".join((record.identity.manufacturer, record.identity.model, record.identity.serial))
        stamp = record.made_at.strftime("%Y%m%dT%H%M%SZ")
        file = self.folder / f"{_NOT_A_NAME.sub('_', name)[:80]}-{stamp}-{record.digest[:8]}.json"
        content = {"digest": record.digest, "record": record.model_dump(mode="json")}
        draft = file.with_suffix(".tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with draft.open("w", encoding="utf-8") as stream:
                json.dump(content, stream, indent=1, ensure_ascii=False, allow_nan=False)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(file)
        except OSError as error:
            raise DeviceError(
                f"{file} cannot be written: {error.strerror or error}",
                local=True,
                remedy="name a folder that may be written, with space left",
            ) from error
        return file

    def load(self, file: Path) -> Record:
        """One record; DeviceError (local) if the file is not as it was written."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            record = Record.model_validate(content["record"])
            digest = content["digest"]
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise DeviceError(f"{file} is no commissioning record: {error}", local=True) from error
        if record.digest != digest or record.version != RECORD_VERSION:
            raise DeviceError(
                f"{file} was changed after it was written, or is of another version",
                local=True,
                remedy="commission the device again with `peerwatt commission`",
            )
        return record

    def all(self) -> list[Record]:
        """Every sound record, oldest first; what is not sound stands in `refused`."""
        self.refused = {}
        found: list[Record] = []
        for file in sorted(self.folder.glob("*.json")):
            try:
                found.append(self.load(file))
            except DeviceError as error:
                self.refused[file] = error.message
        return sorted(found, key=lambda record: record.made_at)

    def valid_for(self, identity: Identity, control: str) -> Record | None:
        """The newest record of exactly this device and firmware that covers a control, whatever it says of it."""
        named = Named.of(identity)
        found = [record for record in self.all() if record.identity == named and control in record.controls]
        return found[-1] if found else None


# --- judging them -----------------------------------------------------------------------------------------------------


def may_arm(
    record: Record | None,
    control: Control,
    safe_value: Safe,
    *,
    timer_s: float = 20.0,
    lateness_max_s: float | None = None,
) -> tuple[bool, str]:
    """Whether what was measured allows a control to be used, and why (not).

    Parameters
    ----------
    record
        What `RecordStore.valid_for` gave for this device.
    control
        What is to be used.
    safe_value
        Where it has to be when nobody orders any more: ``"released"`` or a value in the control's unit.
    timer_s
        Timer that will be written [s].
    lateness_max_s
        How much later than the timer the fall back may be [s]; None: as late as the timer is long, or 3 s.

    Returns
    -------
    tuple
        Whether it may, and the reason: of a refusal what is missing, of a consent what was measured.
    """
    if record is None:
        return False, f"{control.name}: no commissioning record of this serial number and firmware"
    reason = _whole(record) or _obeyed(record, control.name)
    found = record.controls.get(control.name)
    if reason or found is None or found.timer is None:
        return False, f"{control.name}: {reason or 'its timer was not measured'}"
    bad = [one for one in found.behaviours if one in _NEVER]
    if bad:
        return False, f"{control.name}: " + "; ".join(f"{one.value}: {_NEVER[one]}" for one in bad)
    timer = found.timer
    late = timer.lateness_s(timer_s)
    if late is None:
        return False, f"{control.name}: its timer never ran out"
    limit = max(timer_s, _LATE_S) if lateness_max_s is None else lateness_max_s
    if late > limit:
        ends = f"with a timer of {timer_s:g} s it ends up to {late:.1f} s late"
        return False, f"{control.name}: {ends}, {limit:.1f} s allowed"
    if timer.survives_reboot and timer.expired_after_reboot_s is None:
        return False, f"{control.name}: the order outlives a reboot and was not seen to end afterwards"
    if reason := _falls_elsewhere(found, control, safe_value):
        return False, f"{control.name}: {reason}"
    remark = ""
    if timer.survives_reboot is None:
        name = record.accepted.get(PERSISTENCE, "")
        if not name:
            return False, f"{control.name}: {UNTRIED}: {_TRY}"
        remark = f"; {UNTRIED}, accepted by {name}"
    when = f"within {timer_s + late:.1f} s, measured on {record.made_at:%Y-%m-%d}{remark}"
    return True, f"{control.name}: falls back to {timer.fell_to} {when}"


UNTRIED = "persistence over a loss of power was not tried"
_TRY = (
    "commission it again with somebody who takes the power away (`reboot_s`, `reboot_by`), or accept that by name "
    "(`accept_untested: [persistence]` among the answers)"
)

_NEVER = {
    Behaviour.NONE: "nothing ends the last order",
    Behaviour.COSMETIC: "nothing ends the last order",
    Behaviour.ACKNOWLEDGE_AND_DROP: "orders are not carried out",
    Behaviour.REARMED_BY_ANYTHING: "whoever only reads keeps the last order alive after the guardian has gone",
    Behaviour.NOT_REARMED: "an order cannot be held",
    Behaviour.REVERT_TO_LAST: "it falls back to whatever stood there before",
}


def _whole(record: Record) -> str:
    if not record.identity.serial:
        return "the device tells no serial number, so a record cannot be kept to it"
    if not record.complete:
        return "the commissioning was broken off"
    if not record.released:
        return "the device was not seen without an order at the end"
    if record.missing:
        return (
            f"the record does not say {', '.join(record.missing)}: commission it again with these among the answers, "
            "`none` where there is none"
        )
    return "the sign of its power is opposite to its map" if record.sign == "opposite" else ""


def _obeyed(record: Record, control: str) -> str:
    found = record.controls.get(control)
    if found is None:
        return "it was not measured"
    if Behaviour.ACKNOWLEDGE_AND_DROP in found.behaviours:
        return f"acknowledge-and-drop: {_NEVER[Behaviour.ACKNOWLEDGE_AND_DROP]}"
    if Behaviour.NONE in found.behaviours:
        return f"none: {_NEVER[Behaviour.NONE]}"
    if not found.tried or not all(one.ok for one in found.tried):
        missed = next((one for one in found.tried if not one.ok), None)
        return "no value was tried" if missed is None else f"it did not obey the value {missed.value:g}"
    return ""


def _falls_elsewhere(found: ControlRecord, control: Control, safe: Safe) -> str:
    """Why the measured fall back is not the safe value; empty if it is."""
    timer = found.timer
    if timer is None or timer.fell_to is None:
        return "where it falls back to was not measured"
    if timer.fell_to == "chosen" and safe != "released":
        return "" if control.low <= safe <= control.high else f"the safe value {safe:g} cannot be asked for"
    if timer.fell_to == "released":
        if safe == "released":
            return ""
        near = _SAME * max(abs(control.low), abs(control.high))
        if control.cap and safe >= control.high - near:
            return ""
        return f"it falls back to nothing at all, where the safe value is {safe:g}"
    if timer.fell_to == "chosen":
        return "it falls back to a value that is chosen, where it should be released: give `safe` a value"
    value = "" if timer.fell_to_value is None else f" ({timer.fell_to_value:g})"
    return f"it falls back to something else than expected{value}"
