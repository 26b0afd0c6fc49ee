"""The network, its state, congestion and operating envelopes."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from peerwatt.wire.fields import MAX_ENVELOPES, In, Out, Participant, PowerW, PriceU, ReceiptStatus, Seq, Slot, Time

ElementId = Annotated[str, Meta(description="Its name in the network.", examples=["line-4"])]
Ppm = Annotated[int, Meta(description="[millionths]", examples=[874_000])]
_NO_LIMIT = "null: no limit."


class BusOut(Out):
    """A bus."""

    bus: Annotated[str, Meta(description="Its name.", examples=["bus-12"])]
    nominal_mv: Annotated[int, Meta(description="Nominal voltage, line to line [mV].", examples=[400_000])]
    min_ppm: Annotated[Ppm, Meta(description="Lower limit [millionths of nominal].", examples=[900_000])]
    max_ppm: Annotated[Ppm, Meta(description="Upper limit [millionths of nominal].", examples=[1_100_000])]
    participants: Annotated[tuple[str, ...], Meta(description="Who is connected to it.", examples=[["house-07"]])] = ()


class BranchOut(Out):
    """A line or a transformer."""

    element: ElementId
    kind: Annotated[str, Meta(description="line or transformer.", examples=["line"])]
    from_bus: Annotated[str, Meta(description="Bus at its beginning.", examples=["bus-11"])]
    to_bus: Annotated[str, Meta(description="Bus at its end.", examples=["bus-12"])]
    rating_ma: Annotated[int | None, Meta(description="Rated current [mA]; null: see rating_va.")] = None
    rating_va: Annotated[int | None, Meta(description="Rated power [VA]; null: see rating_ma.")] = None


class NetworkOut(Out):
    """The network with its ratings and limits; the answer's ``ETag`` is its version."""

    name: Annotated[str, Meta(description="Its name.", examples=["semiurban"])]
    version: Annotated[str, Meta(description="Changes when anything of it changes.", examples=["3f9a1c0b2d4e"])]
    buses: Annotated[list[BusOut], Meta(description="Its buses.")]
    branches: Annotated[list[BranchOut], Meta(description="Its lines and transformers.")]


class BusStateOut(Out):
    """A bus in a slot."""

    bus: Annotated[str, Meta(description="Its name.", examples=["bus-12"])]
    voltage_ppm: Annotated[Ppm, Meta(description="Voltage [millionths of nominal].", examples=[1_012_300])]


class BranchStateOut(Out):
    """A line or transformer in a slot."""

    element: ElementId
    loading_ppm: Annotated[Ppm, Meta(description="Loading [millionths of its rating].", examples=[874_000])]


class NetworkStateOut(Out):
    """What the wires did in a slot: means over it."""

    slot: Slot
    version: Annotated[str, Meta(description="Version of the network.", examples=["3f9a1c0b2d4e"])]
    source: Annotated[str, Meta(description="power_flow: computed. measured: told by the operator.")]
    seq: Seq
    loss_wh: Annotated[int, Meta(description="Losses [Wh].", examples=[120])]
    buses: Annotated[tuple[BusStateOut, ...], Meta(description="Voltages.")] = ()
    branches: Annotated[tuple[BranchStateOut, ...], Meta(description="Loadings.")] = ()
    values: Annotated[dict[str, Any], Meta(description="Further figures by name.")] = field(default_factory=dict)


class CongestionOut(Out):
    """An element at or near one of its limits."""

    slot: Slot
    element: ElementId
    kind: Annotated[str, Meta(description="bus, line or transformer.", examples=["line"])]
    value_ppm: Annotated[Ppm, Meta(description="Loading, or voltage for a bus [millionths].", examples=[1_034_000])]
    limit_ppm: Annotated[Ppm, Meta(description="The limit it is held against [millionths].", examples=[1_000_000])]
    band: Annotated[str, Meta(description="green, amber (near) or red (beyond).", examples=["red"])]
    shadow_price_u: Annotated[PriceU | None, Meta(description="What relief would be worth, where computed.")] = None


class EnvelopeIn(In):
    """A participant's limits in slots ``from`` up to and not including ``to``."""

    participant: Participant
    from_: Slot = field(name="from")
    to: Slot
    import_w: Annotated[PowerW | None, Meta(description=f"Draws no more [W]; {_NO_LIMIT}", examples=[11_000])] = None
    export_w: Annotated[PowerW | None, Meta(description=f"Feeds in no more [W]; {_NO_LIMIT}", examples=[4_000])] = None


class EnvelopesIn(In):
    """A publication; where it overlaps older ones, it supersedes them."""

    envelopes: Annotated[list[EnvelopeIn], Meta(min_length=1, max_length=MAX_ENVELOPES, description="1 to 10000.")]
    source: Annotated[str, Meta(min_length=1, max_length=200, description="Who or what made it.", examples=["dso"])]
    calculation: Annotated[
        str, Meta(max_length=200, description="Where its calculation is kept.", examples=["c-81"])
    ] = ""


class EnvelopesAck(Out):
    """The publication is durable."""

    publication: Annotated[int, Meta(ge=1, description="Its number.", examples=[17])]
    seq: Seq
    issued_at: Time


class EnvelopeOut(Out):
    """An envelope that holds."""

    participant: Participant
    from_: Slot = field(name="from")
    to: Slot
    import_w: Annotated[int | None, Meta(description=_NO_LIMIT, examples=[11_000])]
    export_w: Annotated[int | None, Meta(description=_NO_LIMIT, examples=[4_000])]
    publication: Annotated[int, Meta(description="Of which publication; 0: the default.", examples=[17])]
    source: Annotated[str, Meta(description="Who or what made it.", examples=["dso"])]
    issued_at: Annotated[Time | None, Meta(description="null for the default.")] = None


class EnvelopeDefaultIn(In):
    """What holds for everybody without a live envelope."""

    import_w: Annotated[PowerW | None, Meta(description=f"[W]; {_NO_LIMIT}", examples=[5_000])]
    export_w: Annotated[PowerW | None, Meta(description=f"[W]; {_NO_LIMIT}", examples=[1_500])]


class EnvelopeDefaultOut(Out):
    """The default as it holds; the answer's ``ETag`` goes into ``If-Match`` of the next change."""

    import_w: Annotated[int | None, Meta(description=_NO_LIMIT, examples=[5_000])]
    export_w: Annotated[int | None, Meta(description=_NO_LIMIT, examples=[1_500])]
    revision: Annotated[int, Meta(ge=0, description="Rises with each change.", examples=[1])]


class ReceiptIn(In):
    """A participant's answer to a publication."""

    publication: Annotated[int, Meta(ge=1, le=2**63 - 1, description="Which one.", examples=[17])]
    status: Annotated[ReceiptStatus, Meta(description="What became of it.", examples=["received"])]


class ReceiptOut(Out):
    """A receipt."""

    publication: Annotated[int, Meta(description="Which publication.", examples=[17])]
    participant: Participant
    status: Annotated[str, Meta(description="What became of it.", examples=["received"])]
    at: Time
    seq: Seq
