"""Meter readings."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from peerwatt.wire.fields import MAX_E_WH, MAX_READINGS, EnergyWh, In, Out, Participant, Seq, Slot, Time

MeterWh = Annotated[int, Meta(ge=0, le=MAX_E_WH, description="Energy of the slot [Wh].", examples=[640])]


class ReadingIn(In):
    """What a meter counted in one slot. One of a slot already settled brings a correction."""

    participant: Participant
    slot: Slot
    import_wh: Annotated[MeterWh, Meta(description="Drawn from the network [Wh].", examples=[640])]
    export_wh: Annotated[MeterWh, Meta(description="Fed into the network [Wh].", examples=[0])]
    quality: Annotated[
        Literal["good", "estimated", "suspect", "corrected"], Meta(description="How good it is.", examples=["good"])
    ] = "good"
    observed_at: Annotated[Time | None, Meta(description="When the meter was read; null: not known.")] = None


class MeasurementsIn(In):
    """Readings that are taken all together or not at all."""

    readings: Annotated[
        list[ReadingIn], Meta(min_length=1, max_length=MAX_READINGS, description="1 to 10000 readings.")
    ]


class MeasurementsAck(Out):
    """The readings are durable."""

    seq: Seq
    accepted: Annotated[int, Meta(ge=0, description="Their number.", examples=[96])]
    received_at: Time


class ReadingOut(Out):
    """The reading of a slot that holds now."""

    participant: Participant
    slot: Slot
    import_wh: EnergyWh
    export_wh: EnergyWh
    quality: Annotated[str, Meta(description="As told, or substituted: none came in time.", examples=["substituted"])]
    observed_at: Annotated[Time | None, Meta(description="When the meter was read; null: not known.")] = None
