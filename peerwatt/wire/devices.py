"""Devices of the site's guardian: what they measure, with its quality, and what they may be told for a while."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from peerwatt.wire.fields import In, Out, Reason, Time

MAX_EXPIRY_S = 60
"""A set-point over HTTP lives so long at most [s]; who wants it longer has to say so again."""

DeviceId = Annotated[
    str,
    Meta(
        pattern="^[a-z0-9][a-z0-9-]*$", min_length=1, max_length=63, description="A device's id.", examples=["bench-1"]
    ),
]
Control = Literal["limit_w", "power_w", "charge_limit_w", "discharge_limit_w", "connect", "charge_current_a", "shed"]
ReadingQuality = Literal["good", "stale", "frozen", "implausible", "comm-fail", "not-implemented"]
Mode = Literal["observe", "rehearse", "armed", "lockout"]

_LIMIT = 10**12
ControlValue = Annotated[
    int,
    Meta(
        ge=-_LIMIT,
        le=_LIMIT,
        description="In the control's unit: W for powers (power_w: positive charges), mA for currents, 0 or 1 for "
        "switches.",
        examples=[3_000],
    ),
]
Unit = Annotated[str, Meta(description="Unit of the value.", examples=["W"])]


class DeviceReadingOut(Out):
    """One value with its quality.

    What cannot be read any more keeps its last value, as `stale` and with its old time; after 300 s, or if there was
    none, it is null, and never 0.
    """

    name: Annotated[str, Meta(description="What it is; powers are > 0 where they draw.", examples=["w"])]
    value: Annotated[int | None, Meta(description="In its unit; null where there is none.", examples=[-5_000])]
    unit: Unit
    quality: Annotated[ReadingQuality, Meta(description="How far it can be trusted.", examples=["good"])]
    source_time: Annotated[
        Time, Meta(description="When it was true, or the attempt was given up; an old value keeps its old time.")
    ]
    age_ms: Annotated[int, Meta(ge=0, description="How old that is [ms].", examples=[420])]
    reason: Annotated[str, Meta(description="Why it is not good; else empty.", examples=[""])] = ""


class DeviceControlOut(Out):
    """Something that a device may be told, and what stands now."""

    control: Annotated[str, Meta(description="Its name.", examples=["limit_w"])]
    unit: Unit
    low: Annotated[int, Meta(description="Least that may be asked for.", examples=[0])]
    high: Annotated[int, Meta(description="Most.", examples=[10_000])]
    value: Annotated[int | None, Meta(description="What stands by the guardian's writing; null: released.")] = None
    owner: Annotated[str | None, Meta(description="Who holds it.", examples=["http:lab"])] = None
    level: Annotated[str | None, Meta(description="On which step of the ladder.", examples=["person"])] = None
    expires_in_ms: Annotated[int | None, Meta(description="When that ends by itself [ms].", examples=[41_000])] = None


class DeviceOut(Out):
    """A device."""

    device: DeviceId
    building: Annotated[str, Meta(description="Building that it stands in; empty: none.", examples=["house-07"])]
    mode: Annotated[Mode, Meta(description="What the guardian may do to it.", examples=["observe"])]
    link: Annotated[str, Meta(description="`up`, or what is wrong with its line.", examples=["up"])]
    manufacturer: Annotated[str, Meta(description="As it says; empty: never seen.", examples=["peerwatt"])]
    model: Annotated[str, Meta(description="Likewise.", examples=["hybrid-10"])]
    serial: Annotated[str, Meta(description="Likewise.", examples=["PW-1"])]
    firmware: Annotated[str, Meta(description="Likewise.", examples=["1.0"])]
    quality: Annotated[ReadingQuality, Meta(description="The worst of its readings.", examples=["good"])]
    readings: Annotated[list[DeviceReadingOut], Meta(description="Every value that it has, by name.")]
    controls: Annotated[list[DeviceControlOut], Meta(description="What it may be told, by name.")]


class DevicesOut(Out):
    """Every device."""

    devices: Annotated[list[DeviceOut], Meta(description="In the guardian's order.")]


class SetPointIn(In):
    """What a device is to do for a while."""

    control: Annotated[Control, Meta(description="Which of its controls.", examples=["limit_w"])]
    value: ControlValue
    expires_s: Annotated[
        int, Meta(ge=1, le=MAX_EXPIRY_S, description="It ends by itself after so many seconds.", examples=[30])
    ]
    reason: Reason | None = None


class SetPointOut(Out):
    """A set-point that is held; asked for again under the same key, the first answer and what has become of it."""

    device: DeviceId
    control: Annotated[str, Meta(description="Which of its controls.", examples=["limit_w"])]
    value: Annotated[int, Meta(description="What is held; differs from what was asked only with a message.")]
    unit: Unit
    expires_in_ms: Annotated[
        int, Meta(ge=0, description="It ends by itself then [ms]; 0: it holds no longer.", examples=[30_000])
    ]
    lease: Annotated[str, Meta(description="Its number at the guardian.", examples=["12"])]
    level: Annotated[str, Meta(description="On which step of the ladder it stands.", examples=["person"])]
    message: Annotated[str, Meta(description="What was changed, if anything.", examples=[""])] = ""
    holds: Annotated[
        bool,
        Meta(
            description="Whether it is what holds now; false only in an answer that comes again: it has ended, was "
            "given back or replaced, or somebody higher holds the control.",
            examples=[True],
        ),
    ] = True


class ReleaseIn(In):
    """Which control is given back."""

    control: Annotated[Control, Meta(description="Which of its controls.", examples=["limit_w"])]


class StopIn(In):
    """Why everything is stopped."""

    reason: Reason


class StopOut(Out):
    """What came of a stop."""

    ok: Annotated[
        bool, Meta(description="Whether every device is safe, and no power is seen that is not.", examples=[True])
    ]
    devices: Annotated[int, Meta(ge=0, description="Devices there are.", examples=[3])]
    safe: Annotated[
        int, Meta(ge=0, description="Devices with controls at their safe value or disconnected.", examples=[2])
    ]
    without_controls: Annotated[
        int | None,
        Meta(description="Devices that cannot be told anything, such as meters; null: not known.", examples=[1]),
    ]
    failed: Annotated[dict[str, str], Meta(description="What is wrong with the others, by device.", examples=[{}])]
    unconfirmed_power: Annotated[
        dict[str, str], Meta(description="Written and read back, but their power does not follow.", examples=[{}])
    ]
    unmeasured: Annotated[dict[str, str], Meta(description="Whose power could not be seen.", examples=[{}])]
    took_ms: Annotated[int, Meta(ge=0, description="How long it took [ms].", examples=[180])]


class DeviceModeIn(In):
    """The mode that is wanted. Arming is not among them: it is done beside the device, by a person who can see it."""

    mode: Annotated[
        Literal["observe", "rehearse"], Meta(description="Read only, or decide without writing.", examples=["observe"])
    ]


class DeviceModeOut(Out):
    """The mode that holds."""

    device: DeviceId
    mode: Annotated[Mode, Meta(description="What the guardian may do to it.", examples=["observe"])]
