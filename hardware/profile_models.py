"""The YAML of a device profile: registers as data. `docs/add-a-device.md` walks through one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Address = Annotated[int, Field(ge=0, le=65535)]
"""A wire address, counted from 0: register 40001 or 30001 of a datasheet is wire address 0."""

Word = Annotated[int, Field(ge=0, le=65535)]
Number = Literal["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"]
WordOrder = Literal["high-first", "low-first"]
RatingName = Literal["w", "va", "var", "charge_w", "discharge_w", "capacity_wh", "a"]


class Part(BaseModel):
    """Frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SourceOfFacts(Part):
    """Where the register list comes from."""

    document: str = Field(min_length=3)
    edition: str = Field(min_length=1, description="version or date printed on it")
    url: str = ""
    notes: str = ""


class LinkRules(Part):
    """What the device wants of requests."""

    gap_s: float = Field(0.0, ge=0.0, le=10.0, description="shortest pause between two requests [s]")
    max_registers: int = Field(125, ge=1, le=125, description="most registers of one read")
    function: Literal[3, 4] = Field(3, description="3 reads holding, 4 input registers; for points that do not say")
    bridge: int = Field(0, ge=0, le=124, description="registers without a point that one read may run over")
    unreadable: tuple[tuple[Address, Address], ...] = Field(
        (), description="first and last register of stretches that a read must not touch"
    )
    write: Literal["fc16", "fc06", "fc06-single"] = Field(
        "fc16", description="16 always; 6 always; 6 for one register and 16 for more"
    )
    word_order: WordOrder = "high-first"


class TextRegisters(Part):
    """Text, two ASCII characters a register, or a number that is shown as text."""

    address: Address
    count: int = Field(1, ge=1, le=64, description="registers, of a text")
    type: Literal["string", "u16", "u32", "u64"] = "string"
    function: Literal[3, 4] | None = None


class IdentityRegisters(Part):
    """Who the device is: each a fixed text or registers."""

    manufacturer: str | TextRegisters
    model: str | TextRegisters
    serial: str | TextRegisters = ""
    firmware: str | TextRegisters = ""
    options: str | TextRegisters = ""


class Guard(Part):
    """A register with a known content, read along with what it covers: if it differs, the block has moved."""

    address: Address
    one_of: tuple[Word, ...] = Field(min_length=1)
    covers: tuple[Address, Address] = Field(description="first and last register that are only believed with it")


class Scaled(Part):
    """A number in registers: ``(raw x 10^factor x scale + offset) x sign``, in ``unit``."""

    address: Address
    type: Number
    unit: str = Field(description="the unit that the device counts in: W, kW, Hz, %, number ...")
    scale: float = Field(1.0, gt=0.0)
    offset: float = 0.0
    sign: Literal[1, -1] = Field(1, description="-1 where the device counts the other way than the load convention")
    factor: Address | None = Field(None, description="register with a power of ten (i16), as in SunSpec")
    percent_of: RatingName | None = Field(None, description="the number is a share of this rating")
    word_order: WordOrder | None = None


class RatingRegister(Scaled):
    """A rating that the device says itself."""

    function: Literal[3, 4] | None = None


class RatingValues(Part):
    """Nameplate: numbers in W, VA, var, Wh, A, or registers; left out where unknown."""

    w: float | RatingRegister | None = None
    va: float | RatingRegister | None = None
    var: float | RatingRegister | None = None
    charge_w: float | RatingRegister | None = None
    discharge_w: float | RatingRegister | None = None
    capacity_wh: float | RatingRegister | None = None
    a: float | RatingRegister | None = None


class Point(Part):
    """A reading: registers, or the sum of other readings."""

    address: Address | None = None
    type: Number | None = None
    unit: str = ""
    function: Literal[3, 4] | None = None
    scale: float = Field(1.0, gt=0.0)
    offset: float = 0.0
    sign: Literal[1, -1] = 1
    factor: Address | None = None
    percent_of: RatingName | None = None
    word_order: WordOrder | None = None
    group: Literal["fast", "slow", "once"] = "fast"
    sentinels: tuple[int, ...] | Literal["usual"] = Field(
        (), description="raw values that mean 'not implemented'; usual: 0xFFFF of u16, 0x8000 of i16 and so on"
    )
    range: tuple[float, float] | None = Field(None, description="what it can be at all, in the reading's unit")
    values: Mapping[int, float] | None = Field(None, description="meaning of each raw value; others are no value")
    sum: tuple[str, ...] = Field((), description="names of readings of the same block to add up")
    note: str = ""


class ControlValue(Scaled):
    """Where a control's value is written."""

    sentinels: tuple[int, ...] = ()


class TimerRegister(Part):
    """The timer that takes a control back."""

    address: Address
    type: Literal["u16", "u32"] = "u16"
    unit: Literal["s", "min"] = "s"
    max_s: int = Field(65535, ge=1)


class EnableRegister(Part):
    """The register that puts a control in force."""

    address: Address
    type: Literal["u16"] = "u16"
    on: Word = 1
    off: Word = 0


class Measured(Part):
    """What somebody found out about a control's timer on a real device."""

    behaviour: Literal[
        "standard",
        "cosmetic",
        "late",
        "rearmed-by-anything",
        "rearmed-by-any-write",
        "persisted",
        "acknowledge-and-drop",
        "none",
    ]
    lateness_s: float | None = Field(None, ge=0.0)
    fallback_value: float | None = None
    firmware: str
    by: str = Field(min_length=3, description="who measured it, and when")


class ControlRegisters(Part):
    """Something that the device can be told, written in the order timer, fallback, value, enable."""

    range: tuple[float | str, float | str] = Field(description="numbers, or rating.w, -rating.charge_w ...")
    value: ControlValue
    timer: TimerRegister | None = None
    fallback: Literal["released", "chosen", "none"] = Field(description="where its timer leads, says the datasheet")
    fallback_value: ControlValue | None = None
    enable: EnableRegister | None = None
    release: float | None = Field(None, description="the value that gives control back, in the control's unit")
    release_raw: int | None = Field(None, description="the same as a raw number outside the range, e.g. -1 'no limit'")
    measured_by: str = ""
    cap: bool = False
    flash: bool = Field(description="whether the register is kept in flash, which writing wears out")
    measured: Measured | None = None
    note: str = ""


class Block(Part):
    """Registers of the test vector."""

    address: Address
    words: tuple[Word, ...] = ()
    text: str = Field("", description="instead of words: ASCII, two characters a register")
    count: int = Field(0, ge=0, le=64, description="registers that the text takes, filled up with 0")
    function: Literal[3, 4] | None = None

    def registers(self) -> tuple[int, ...]:
        """Its words, or those of its text."""
        if not self.text:
            return self.words
        data = self.text.encode("ascii", "replace").ljust(2 * self.count, b"\0")
        return tuple(data[i] * 256 + data[i + 1] for i in range(0, len(data) - 1, 2))


class FrameVector(Part):
    """A write that an order of the test vector must lead to."""

    address: Address
    words: tuple[Word, ...] = Field(min_length=1)
    function: Literal[6, 16] = 16


class OrderVector(Part):
    """An order and its frames, in order."""

    control: str
    value: float
    timer_s: int = 0
    fallback: float | None = None
    frames: tuple[FrameVector, ...] = Field(min_length=1)


class ProfileVector(Part):
    """Registers worked out by hand from the datasheet, and what the profile has to make of them."""

    registers: tuple[Block, ...] = Field(min_length=1)
    readings: Mapping[str, float | Literal["not-implemented"]]
    orders: tuple[OrderVector, ...] = ()


class Profile(Part):
    """One device, or one family of devices with the same registers."""

    profile: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="its name")
    title: str = Field(min_length=3)
    source: SourceOfFacts
    convention: str = Field(min_length=10, description="which way the device counts power, in words")
    link: LinkRules = LinkRules()
    identity: IdentityRegisters
    guards: tuple[Guard, ...] = ()
    ratings: RatingValues = RatingValues()
    points: Mapping[str, Point] = Field(min_length=1)
    controls: Mapping[str, ControlRegisters] = {}
    frozen_after: Mapping[str, int] | None = Field(
        None, description="identical readings after which a point is frozen; the usual table where it is left out"
    )
    test_vector: ProfileVector
