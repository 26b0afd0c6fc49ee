"""One cycle's decisions, from a frozen image of everything: what each control shall be, and on whose behalf.

Leases through the arbiter, then protection (connection point, state of charge, trust in what is measured), then the
envelope, which has the last word. Pure: the same image gives the same decisions.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controllers.guardian.arbiter import Arbiter, Lease
from controllers.guardian.connection import Part, Share, shares
from controllers.guardian.envelope import Band, Rule, Standing, shape
from controllers.guardian.settings import ConnectionSettings
from controllers.guardian.soc_guard import SocState

VOLTS_ALL_PHASES = 3 * 230.0
"""For a charger's current per phase: with fewer phases it draws less than reckoned."""

NOT_LIMITED = "not limited: at its top, so that its timer runs"
_FED_IN = frozenset({"limit_w", "discharge_limit_w"})
_DRAWN = frozenset({"charge_limit_w", "charge_current_a"})


class Belief(enum.Enum):
    """How far the measurement that shows a control's effect can be trusted."""

    GOOD = "good"
    LOST = "lost"  # stale, frozen or not to be had: the control goes to rest
    FALSE = "false"  # implausible: nothing new is written, the device's timer ends what stands


@dataclass(frozen=True, slots=True)
class ControlImage:
    """One control: its bounds, what stands, and what is measured of it (its unit and sign; None if not known).

    ``highest`` is the highest value that may stand in it, None if it may be released.
    """

    name: str
    rule: Rule
    standing: Standing
    measured: float | None
    belief: Belief
    safe: float | None
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceImage:
    """One device at one moment.

    Parameters
    ----------
    device
        Its id.
    obeys
        Armed, seen since its line was made, and not stopped: what is decided can be written.
    decides
        Armed or rehearsing: decisions are wanted.
    w
        What it draws [W, negative feeds in], if it is known for good.
    export_w, import_w
        The most that it can feed in and draw [W, >= 0]; None where it does not say.
    controls
        What it may be told.
    soc
        Guard of its storage, if it has one.
    """

    device: str
    obeys: bool
    decides: bool
    w: float | None
    export_w: float | None
    import_w: float | None
    controls: Mapping[str, ControlImage] = field(default_factory=dict)
    soc: SocState | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a control shall be: ``value``, or None for released. ``hold_off``: write nothing at all.

    ``lease`` is whose value it is (None: nobody's, the control is at rest); ``why`` says what else went into it.
    """

    value: float | None
    why: str = ""
    lease: Lease | None = None
    hold_off: bool = False


Decisions = Mapping[str, Mapping[str, Wish]]
"""Wishes by device and control."""


def decide(
    connection: ConnectionSettings,
    exchange_w: float | None,
    images: Sequence[DeviceImage],
    arbiter: Arbiter,
    now_s: float,
) -> Decisions:
    """What every control shall be now.

    Parameters
    ----------
    connection
        Limits of the connection point.
    exchange_w
        What its meter says [W, positive draws]; None when it is lost.
    images
        Every device but the meter.
    arbiter
        The leases.
    now_s
        Monotonic time [s].
    """
    portions = shares(connection, exchange_w, [part_of(image) for image in images])
    why = "share of the connection point" + ("" if exchange_w is not None else " without its meter")
    return {
        image.device: {
            name: _wish(image, control, portions[image.device], why, arbiter, now_s)
            for name, control in image.controls.items()
        }
        for image in images
        if image.decides
    }


def _wish(image: DeviceImage, control: ControlImage, portion: Share, why: str, arbiter: Arbiter, now_s: float) -> Wish:
    if control.belief is Belief.FALSE:
        return Wish(None, "what it measures cannot be true: nothing is written", hold_off=True)
    lease = arbiter.resolve(image.device, control.name, now_s)
    note = ""
    if lease is not None and control.belief is Belief.LOST:
        lease, note = None, "its measurement is lost: at rest"
    wanted = control.rule.at_rest if lease is None else lease.request.value
    band = _limited(control, portion, why)
    if image.soc is not None and control.name == "power_w":
        band = image.soc.narrow(band)
    elif image.soc is not None and control.name in {"charge_limit_w", "discharge_limit_w"}:
        blocked = image.soc.narrow(Band(-1.0, 1.0))
        side = blocked.high if control.name == "charge_limit_w" else -blocked.low
        band = band.below(0.0, blocked.why) if side <= 0.0 else band
    shaped = shape(control.rule, control.standing, wanted, band, now_s, control.measured)
    said = NOT_LIMITED if control.rule.timed and control.rule.is_free(shaped.value) else ""
    return Wish(shaped.value, "; ".join(part for part in (note, shaped.why, said) if part), lease)


def _limited(control: ControlImage, portion: Share, why: str) -> Band:
    """All that the control can be, within the share of the connection point."""
    band = control.rule.reach()
    if portion.export_w is not None and control.name in _FED_IN:
        band = band.below(portion.export_w, why)
    if portion.import_w is not None and control.name == "charge_limit_w":
        band = band.below(portion.import_w, why)
    if portion.import_w is not None and control.name == "charge_current_a":
        band = band.below(portion.import_w / VOLTS_ALL_PHASES, why)
    if control.name == "power_w":
        if portion.export_w is not None:
            band = band.above(-portion.export_w, why)
        if portion.import_w is not None:
            band = band.below(portion.import_w, why)
    return band


def part_of(image: DeviceImage) -> Part:
    """What a device adds at the connection point, at most, and whether it can be held below that."""
    limit = image.controls.get("limit_w")
    power = image.controls.get("power_w")
    current = image.controls.get("charge_current_a")
    # A storage that is released follows its own mind: it cannot be reckoned with.
    steered = power is not None and power.rule.at_rest is not None and power.belief is not Belief.FALSE
    export_w = image.export_w
    if export_w is None:
        export_w = limit.rule.high if limit is not None else (-power.rule.low if power is not None else 0.0)
    import_w = image.import_w
    if import_w is None:
        import_w = power.rule.high if power is not None else 0.0
        import_w = current.rule.high * VOLTS_ALL_PHASES if current is not None else import_w
    limited = limit is not None and limit.belief is not Belief.FALSE  # else nothing is written to it
    export_obeys = image.obeys and (limited or steered)
    # Armed and out of reach: what stands may stand until its timer ends, then the safe value does.
    if not export_obeys and image.decides and limit is not None and limit.safe is not None:
        export_w = export_w if limit.highest is None else max(limit.highest, limit.safe)
    return Part(
        device=image.device,
        w=image.w,
        export_w=max(export_w, 0.0),
        import_w=max(import_w, 0.0),
        export_obeys=export_obeys,
        import_obeys=image.obeys and (steered or current is not None or "charge_limit_w" in image.controls),
    )
