"""What devices tell over the broker: part of the payloads of `peerwatt.gateway.payloads`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from peerwatt.wire.devices import ReadingQuality
from peerwatt.wire.fields import Out, Time


class DeviceReading(Out):
    """One value of a device with its quality. What cannot be read is stale with its old time, then null; never 0."""

    value: Annotated[int | None, Meta(description="In its unit; null where there is none.", examples=[-5_000])]
    unit: Annotated[str, Meta(description="Unit of the value.", examples=["W"])]
    quality: Annotated[ReadingQuality, Meta(description="How far it can be trusted.", examples=["good"])]
    source_time: Annotated[Time, Meta(description="When it was true; an old value keeps its old time.")]
    reason: Annotated[str, Meta(description="Why it is not good; else empty.", examples=[""])] = ""


class DeviceTelemetry(Out):
    """What a device measures. A guardian that does not answer leaves a device without readings, never with old ones."""

    device: Annotated[str, Meta(description="Its id.", examples=["bench-1"])]
    building: Annotated[str, Meta(description="Where it stands; empty: nowhere.", examples=["house-07"])]
    at: Time
    mode: Annotated[str, Meta(description="What the guardian may do to it; empty: not known.", examples=["observe"])]
    link: Annotated[str, Meta(description="`up`, or what is wrong.", examples=["up"])]
    quality: Annotated[ReadingQuality, Meta(description="The worst of its readings.", examples=["good"])]
    readings: Annotated[dict[str, DeviceReading], Meta(description="By name; powers are > 0 where they draw.")]
