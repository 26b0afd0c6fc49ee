"""The matrix: every fault of the catalogue, the story in which it is played, and who notices it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hardware.emulator.faults import CATALOGUE, GROUPS
from tests.controllers.faults_stories import Looking, Params, Story
from tests.controllers.faults_stories_site import Commissioning, Guarding, Site, Transformers

LAYERS = ("line", "quality", "discovery", "guardian", "commissioning")


@dataclass(frozen=True)
class Row:
    """One fault in one story.

    Parameters
    ----------
    notices
        Beginnings of what is noticed: each has to be there with the fault, and none of them without it.
    does
        What the guardian does then, in words.
    guardian
        What a guardian notices that holds a limit when the fault comes, where the story itself has none.
    besides
        Whether the story notices other things without the fault too (a reboot, an open switch).
    """

    fault: str
    story: Story
    notices: tuple[str, ...]
    does: str
    params: Params = field(default_factory=dict)
    guardian: tuple[str, ...] = ()
    besides: bool = False

    @property
    def slow(self) -> bool:
        """Not for every day."""
        if isinstance(self.story, Looking):
            return self.story.wire == "rtu" or self.story.looks > 50
        return self.story != TELL


LOST = ("guardian: lost",)
NOT_BELIEVED = ("guardian: not-believed:limit_w",)
TAKEN_OFF = ("guardian: not-taken:limit_w", "guardian: then observe")
MOVED = ("guardian: not-believed:limit_w", "guardian: then lockout")
ANOTHER = ("guardian: identity-changed", "guardian: then observe")

WAITS = "decides without waiting; a reading's age counts from when it was asked for, stale after 3 cycles"
LETS_GO = "alarm `lost`; writes nothing before its state was read again; the device's timer ends what stands"
NOTHING_NEW = "alarm `not-believed`; writes nothing, the device's timer ends what stands"
RESTS = "alarm `not-believed`; the control goes to its default"
DISARMS = "alarm `not-taken` after one more try; disarmed"
SAYS = "alarm `no-effect`; it goes on refreshing, the alarm stands until the effect is there"
LOCKS = "alarm; locked out until a named person clears it"
MEETS = "recognises the device anew before anything is written; no alarm"
HEARS = "passes it on as an alarm; what is decided rests on measurements, not on this"
NOT_ARMED = "it may not be armed"
MEASURED = "arms it with what was measured: the lateness and the behaviour are on the record"
NO_MATTER = "nothing: what counts is not touched"
STARTS_NOT = "the line is not up, so nothing is armed or written; alarm `lost` if it was"
COUNTERS = "nothing is decided on counters; the reading has no value or is not good"

LOOK = Looking(looks=4)
QUICK = Looking(looks=8, fast_only=True)
LONG = Looking(looks=70, fast_only=True)
FIRST = Looking(looks=2, from_start=True)
PORT = Looking(looks=3, from_start=True, port=True)
RTU = Looking(looks=2, fast_only=True, wire="rtu")
HOLD = Guarding(first=3000.0, then=2000.0, run_s=12.0)
TELL = Guarding(run_s=5.0)
BATTERY = Guarding(kind="battery", control="power_w", first=-1000.0, then=-3000.0, run_s=8.0)
SOC = Guarding(
    kind="battery", control="power_w", first=-5000.0, then=None, run_s=50.0,
    settings=(("capacity_wh", 1000.0), ("soc", 0.8)), soc=True,
)  # fmt: skip
RELEASED, CHOSEN = Commissioning(), Commissioning(chosen=True)

GONE = ("line: requests failed", "quality: w stale")
REFUSED = ("line: requests refused by the device", "quality: w stale")
SLOW = ("line: slow answers",)
DROPPED = ("line: frames dropped",)
W = ("quality: w implausible",)

TRANSPORT = (
    *(Row(one, LOOK, SLOW, WAITS) for one in ("latency", "random-latency", "jitter", "split-frame")),
    Row("joined-frames", LOOK, SLOW, WAITS),
    *(Row(one, LOOK, GONE, LETS_GO, guardian=LOST) for one in ("drop-request", "drop-answer")),
    Row("late-answer", LOOK, (*GONE, *DROPPED), LETS_GO, {"delay_s": 1.5}, LOST),
    Row("duplicate-answer", LOOK, DROPPED, NO_MATTER),
    *(Row(one, LOOK, (*GONE, *DROPPED), LETS_GO, guardian=LOST) for one in ("wrong-transaction", "wrong-unit")),
    *(Row(one, LOOK, GONE, LETS_GO, guardian=LOST) for one in ("wrong-function", "wrong-byte-count")),
    *(
        Row(one, LOOK, (*GONE, "line: connected anew"), LETS_GO, guardian=LOST)
        for one in ("truncated-frame", "reset-connection", "half-open")
    ),
    Row("crc-error", RTU, (*GONE, *DROPPED), LETS_GO),
    *(Row(one, RTU, DROPPED, NO_MATTER) for one in ("line-noise", "line-echo")),
    Row("refuse-connection", PORT, ("line: broken", "discovery: "), STARTS_NOT),
    Row("idle-disconnect", Looking(looks=3, port=True, then="wait"), ("line: connected anew",), MEETS),
    Row("session-limit", replace(PORT, then="rival"), ("line: requests failed",), STARTS_NOT),
    Row("slow-accept", PORT, ("line: requests failed",), STARTS_NOT),
    Row("tls-expired", replace(PORT, wire="tls"), ("line: cannot connect, certificate",), STARTS_NOT),
)  # fmt: skip

EXCEPTIONS = ("1", "2", "3", "4", "6", "0a", "0b")
PROTOCOL = (
    *(Row(f"exception-{code}", LOOK, REFUSED, LETS_GO, guardian=LOST) for code in EXCEPTIONS),
    Row("only-fc06", TELL, TAKEN_OFF, DISARMS),
    Row("only-fc16", Commissioning(stages=("limits", "function codes")), ("commissioning: function 06",), NO_MATTER),
    Row("max-registers", FIRST, ("discovery: requests of more than 60",), LETS_GO, guardian=LOST),
    Row("block-boundary", FIRST, ("discovery: model 701", "line: requests refused"), NO_MATTER, {"way": "start"}),
    Row("base-address", LOOK, REFUSED, LETS_GO, guardian=LOST),
    Row("end-without-length", FIRST, ("discovery: the end model",), NO_MATTER),
    Row("wrong-model-length", FIRST, ("discovery: model 103",), "points behind the end have no value"),
    Row("vendor-model", FIRST, ("discovery: model 64123",), LOCKS + ", if it comes while in use", guardian=MOVED),
    Row("map-change", LOOK, ("quality: w stale", "discovery: the identity"), LOCKS, guardian=MOVED),
)  # fmt: skip

OF_701 = {"point": "701:W_SF"}
COUNTED = {"point": "TotWhInj"}
DATA = (
    Row("sentinel", LOOK, ("quality: w not-implemented",), RESTS, guardian=NOT_BELIEVED),
    Row("unimplemented-factor", LOOK, ("quality: w not-implemented",), RESTS, guardian=NOT_BELIEVED),
    Row("moving-factor", QUICK, ("quality: w stale",), RESTS, OF_701, NOT_BELIEVED),
    *(
        Row(one, LOOK, W, NOTHING_NEW, guardian=NOT_BELIEVED)
        for one in ("wrong-factor", "word-swap", "sign-flip", "factor-of-ten")
    ),
    Row("register-shift", LOOK, ("quality: w stale", "quality: hz stale"), LOCKS, guardian=MOVED),
    Row("spike", QUICK, W, NOTHING_NEW, {"probability": 0.3, "seed": 1}),
    Row("frozen", LONG, ("quality: w frozen", "quality: hz frozen"), RESTS),
    Row("frozen", Guarding(first=3000.0, then=2000.0, run_s=50.0), NOT_BELIEVED, RESTS),
    Row("drift", Looking(looks=45, fast_only=True), W, NOTHING_NEW),
    *(
        Row(one, LOOK, ("quality: exported_wh implausible",), COUNTERS, COUNTED)
        for one in ("counter-reset", "counter-wrap", "torn-read")
    ),
    Row("nan-float", Looking("sdm630", "sdm630", looks=5), ("quality: w not-implemented",), "as a meter lost"),
    Row("soc-stuck", SOC, ("guardian: soc-disagrees",), "alarm `soc-disagrees`; nothing is discharged"),
    Row("soc-jump", LOOK, ("quality: soc implausible",), "the storage neither charges nor discharges"),
    Row("soc-jump", SOC, ("guardian: the state of charge",), "the storage neither charges nor discharges"),
    Row("status-lies", LOOK, ("quality: state implausible",), "nothing is decided on a state", {"state": 1}),
    Row("stale-heartbeat", LONG, ("quality: heartbeat frozen",), "nothing is decided on it; the reading says so"),
)  # fmt: skip

CONTROL = (
    Row("ack-and-drop", TELL, TAKEN_OFF, DISARMS),
    Row("no-effect", TELL, ("guardian: no-effect",), SAYS),
    Row("silent-clamp", TELL, TAKEN_OFF, DISARMS, {"low": 0.4}),
    *(Row(one, TELL, ("guardian: no-effect",), SAYS) for one in ("slow-ramp", "offset")),
    Row("dead-band", Guarding(first=5000.0, then=4600.0, run_s=8.0), ("guardian: no-effect",), SAYS),
    Row("minimum-power", Guarding(first=5000.0, then=500.0, run_s=8.0), ("guardian: no-effect",), SAYS),
    Row("zero-is-standby", Guarding(first=0.0, then=5000.0, run_s=8.0), ("guardian: not-connected",), HEARS),
    Row("zero-is-standby", RELEASED, ("commissioning: limits", "commissioning: it may not be armed"), NOT_ARMED),
    Row("ignores-enable", RELEASED, ("commissioning: limits", "commissioning: it may not be armed"), NOT_ARMED),
    Row("needs-order", CHOSEN, ("commissioning: cosmetic", "commissioning: it may not be armed"), NOT_ARMED),
    Row("percent-of-wmax", RELEASED, ("commissioning: limits: stays at",), "limits are undercut: the safe side"),
    *(Row(one, BATTERY, ("guardian: no-effect",), SAYS) for one in ("own-loop", "opposite-sign", "ripple-priority")),
    Row("locked-registers", TELL, TAKEN_OFF, DISARMS),
)

BARRED = "commissioning: it may not be armed"
TIMERS = (
    Row("no-timer", TELL, ("guardian: foreign-write:limit_w", "guardian: then lockout"), LOCKS),
    Row("no-timer", RELEASED, ("commissioning: none", BARRED), NOT_ARMED),
    Row("cosmetic-timer", RELEASED, ("commissioning: cosmetic", BARRED), NOT_ARMED),
    Row("late-timer", RELEASED, ("commissioning: late",), MEASURED),
    Row("rearmed-by-read", RELEASED, ("commissioning: rearmed-by-anything", BARRED), NOT_ARMED),
    Row("rearmed-by-write", RELEASED, ("commissioning: rearmed-by-any-write",), MEASURED),
    Row("rearmed-by-same-point", RELEASED, ("commissioning: same-point-only",), MEASURED),
    Row("timer-persisted", RELEASED, ("commissioning: persisted",), MEASURED),
    Row(
        "seconds-for-minutes", Commissioning(timer_s=1, minutes=True), ("commissioning: seconds-for-minutes", BARRED),
        NOT_ARMED,
    ),
    Row("revert-to-last", RELEASED, ("commissioning: revert-to-last", BARRED), NOT_ARMED),
    Row("remaining-stands", CHOSEN, ("commissioning: the seconds left",), "nothing: it does not rely on that register"),
)  # fmt: skip

LIFE = (
    Row("reboot", LOOK, GONE, LETS_GO, {"off_s": 8.0}, LOST),
    Row(
        "slow-boot", Guarding(run_s=60.0, also=(("reboot", 8.0),)), ANOTHER, "alarm `identity-changed`; disarmed",
        besides=True,
    ),
    Row("night-sleep", Looking(looks=5, then="night"), GONE, LETS_GO),
    Row("night-sleep", Guarding(night=True, then=None, run_s=8.0), LOST, LETS_GO),
    Row("derate", TELL, ("guardian: device-alarm",), HEARS),
    Row("trip", TELL, ("guardian: not-connected",), HEARS),
    *(
        Row(one, story, what, "alarm `identity-changed`; disarmed: the record is of another device")
        for one in ("firmware-change", "serial-change")
        for story, what in ((LOOK, ("discovery: the identity",)), (Guarding(run_s=62.0), ANOTHER))
    ),
    Row("flash-worn", TELL, TAKEN_OFF, DISARMS),
    Row("local-takeover", TELL, ("guardian: local-control",), HEARS),
)  # fmt: skip

CONTACT, NO_SWITCH = ("quality: breaker connected implausible",), "nothing: it operates no switch"
SITE = Site()
OPENED = Site(then="open")
FELT = Site(values=(("roof", "hz", 50.0), ("roof", "v_a", 230.0)))
PROTECTS = "nothing: the value is measured and good; protection is the device's own"
SITES = (
    Row("meter-lost", SITE, ("guardian: meter-lost", "quality: meter w stale"), "the shares without a meter"),
    Row(
        "meter-sign", SITE, ("guardian: meter-disagrees",),
        "alarm `meter-disagrees`, with `load_w` by day too; the shares without a meter for 10 minutes",
    ),
    Row("meter-sign", Transformers(), ("commissioning: transformers",), "the record says so"),
    Row("phase-swap", Transformers(), ("commissioning: transformers",), "nothing: it decides on the sum of phases"),
    Row("grid-loss", SITE, ("quality: roof hz implausible", "guardian: meter-lost", *NOT_BELIEVED), NOTHING_NEW),
    Row("frequency-excursion", FELT, ("quality: roof hz says 51",), PROTECTS),
    Row("voltage-excursion", FELT, ("quality: roof v_a says 26",), PROTECTS),
    Row("switch-welded", OPENED, CONTACT, NO_SWITCH, besides=True),
    Row("breaker-contradicts", SITE, CONTACT, NO_SWITCH),
    Row("second-master", SITE, ("guardian: foreign-write:limit_w", "guardian: then lockout"), LOCKS),
)  # fmt: skip

ROWS: tuple[Row, ...] = (*TRANSPORT, *PROTOCOL, *DATA, *CONTROL, *TIMERS, *LIFE, *SITES)

UNNOTICED: Mapping[str, str] = {
    "clock-wrong": "nothing of ours reads a device's clock or gives it a time of day: every timer is a number of "
    "seconds from now, every stamp is our own. What its own schedules do at the wrong hour shows like any other effect",
}
"""Faults that nobody notices, and what limits the damage."""


def _who(rows: list[Row]) -> str:
    """What is noticed, by layer."""
    found: dict[str, list[str]] = {}
    for one in dict.fromkeys(one for row in rows for one in (*row.notices, *row.guardian)):
        layer, _, what = one.partition(": ")
        found.setdefault(layer, []).append(what.strip() or "no map is found")
    return "; ".join(f"**{layer}** {', '.join(what)}" for layer, what in found.items())


def table() -> str:
    """The matrix for people, in Markdown."""
    lines: list[str] = []
    for group in GROUPS:
        lines += [f"### {group.capitalize()}", "", "| Fault | How it is noticed | What the guardian does |"]
        lines.append("| --- | --- | --- |")
        for kind in CATALOGUE.values():
            if kind.group != group:
                continue
            rows = [row for row in ROWS if row.fault == kind.name]
            if rows:
                does = "; ".join(dict.fromkeys(row.does for row in rows))
                lines.append(f"| `{kind.name}` | {_who(rows)} | {does} |")
            else:
                lines.append(f"| `{kind.name}` | **not noticed** | {UNNOTICED.get(kind.name, '')} |")
        lines.append("")
    return "\n".join(lines)


def summary() -> dict[str, int]:
    """How many faults each layer notices; one that several notice counts for each."""
    return {
        layer: len({row.fault for row in ROWS for one in (*row.notices, *row.guardian) if one.startswith(layer)})
        for layer in LAYERS
    }
