"""Every fault that the emulator plays, by name (`CATALOGUE`), and the table of it for people.

The server plays the groups transport and protocol (but for the four that change a device's register map); the devices
play the map and the groups data, control, timers and life; the site plays its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hardware.emulator.faults_kinds import GROUPS, FaultKind, Param

_DAY_S = 86_400.0


def _seconds(default: float, meaning: str, *, high: float = 3600.0) -> Param:
    return Param(default, 0.0, high, f"{meaning} [s]")


def _point(default: str) -> Param:
    return Param(default, meaning="the point, as MODEL:NAME; or only NAME, for every model that has it")


def _range(code: int, what: str) -> FaultKind:
    return FaultKind(
        f"exception-{code:02x}" if code >= 10 else f"exception-{code}",
        "protocol",
        f"requests are answered with exception {code:#04x} ({what})",
        {
            "first": Param(0, 0, 65_535, "first register that it concerns"),
            "last": Param(65_535, 0, 65_535, "last register that it concerns"),
            "function": Param(0, 0, 127, "the function that it concerns; 0 is every one"),
        },
    )


_TRANSPORT = (
    FaultKind("latency", "transport", "answers wait, in order", {"delay_s": _seconds(0.2, "how long")}),
    FaultKind(
        "random-latency",
        "transport",
        "answers wait between two bounds, evenly spread, in order",
        {"low_s": _seconds(0.0, "shortest wait"), "high_s": _seconds(0.5, "longest wait")},
    ),
    FaultKind(
        "jitter",
        "transport",
        "answers wait an exponential time: mostly short, now and then long; in order",
        {"mean_s": _seconds(0.05, "mean wait"), "cap_s": _seconds(5.0, "longest wait")},
    ),
    FaultKind("drop-request", "transport", "a request is lost: the device never sees it"),
    FaultKind("drop-answer", "transport", "an answer is lost: the device has done what was asked"),
    FaultKind(
        "late-answer",
        "transport",
        "an answer comes after the client has given up, between those to later requests",
        {"delay_s": _seconds(3.0, "how late")},
    ),
    FaultKind(
        "duplicate-answer", "transport", "an answer comes several times", {"copies": Param(2, 2, 10, "how often")}
    ),
    FaultKind(
        "split-frame",
        "transport",
        "an answer comes in pieces",
        {"pieces": Param(3, 2, 260, "how many"), "gap_s": _seconds(0.02, "pause between them", high=10.0)},
    ),
    FaultKind(
        "joined-frames",
        "transport",
        "answers are held back and come in one piece",
        {"frames": Param(2, 2, 100, "how many together"), "wait_s": _seconds(0.5, "longest time held", high=60.0)},
    ),
    FaultKind(
        "wrong-transaction",
        "transport",
        "an answer carries another transaction number (TCP)",
        {"by": Param(1, 1, 65_535, "added to the right one")},
    ),
    FaultKind(
        "wrong-unit", "transport", "an answer carries another unit", {"by": Param(1, 1, 255, "added to the right one")}
    ),
    FaultKind(
        "wrong-function",
        "transport",
        "an answer carries another function",
        {"by": Param(1, 1, 127, "added to the right one")},
    ),
    FaultKind(
        "wrong-byte-count",
        "transport",
        "the byte count of a read's answer is not what follows",
        {"by": Param(2, -250, 250, "added to the right one")},
    ),
    FaultKind(
        "truncated-frame",
        "transport",
        "an answer ends early; its length still promises the whole",
        {"lost": Param(2, 1, 250, "bytes that are missing")},
    ),
    FaultKind("crc-error", "transport", "an answer's checksum is wrong (RTU)"),
    FaultKind(
        "line-noise",
        "transport",
        "random bytes before an answer (RTU)",
        {"bytes": Param(3, 1, 256, "how many")},
    ),
    FaultKind("line-echo", "transport", "the line gives back each request before its answer (RTU)"),
    FaultKind("reset-connection", "transport", "instead of an answer the connection is reset (TCP RST)"),
    FaultKind(
        "half-open", "transport", "the connection stays open and mute for good: nothing is read, nothing is sent"
    ),
    FaultKind("refuse-connection", "transport", "new connections are refused: nobody listens on the port"),
    FaultKind(
        "idle-disconnect",
        "transport",
        "a connection that was silent is closed",
        {"after_s": Param(10.0, 0.01, 3600.0, "silence that is borne [s]")},
    ),
    FaultKind(
        "session-limit",
        "transport",
        "only so many connections at a time",
        {
            "sessions": Param(1, 1, 1000, "how many"),
            "way": Param(
                "close",
                meaning="what the next one meets: closed at once, reset, left mute, or the oldest is closed for it",
                choices=("close", "reset", "mute", "replace"),
            ),
        },
    ),
    FaultKind(
        "slow-accept",
        "transport",
        "a new connection is served only after a while",
        {"delay_s": _seconds(2.0, "how long")},
    ),
    FaultKind("tls-expired", "transport", "new TLS connections are shown a certificate that has run out"),
)

_PROTOCOL = (
    _range(1, "illegal function"),
    _range(2, "illegal address"),
    _range(3, "illegal value"),
    _range(4, "device failure"),
    _range(6, "device busy"),
    _range(0x0A, "gateway path unavailable"),
    _range(0x0B, "gateway target does not answer"),
    FaultKind("only-fc06", "protocol", "registers are written by function 6 alone; 16 gets exception 1"),
    FaultKind("only-fc16", "protocol", "registers are written by function 16 alone; 6 gets exception 1"),
    FaultKind(
        "max-registers",
        "protocol",
        "a read of more registers is refused",
        {"registers": Param(60, 1, 125, "how many are allowed"), "code": Param(3, 1, 11, "exception given")},
    ),
    FaultKind(
        "block-boundary",
        "protocol",
        "a read has to stay inside one block of the map (a SunSpec model); else exception 2",
        {
            "way": Param(
                "inside",
                meaning="inside: it may begin and end anywhere in one block; start: it has to begin where a block does",
                choices=("inside", "start"),
            )
        },
    ),
    FaultKind(
        "base-address",
        "protocol",
        "the map begins elsewhere: 0, 40000 or 50000",
        {"base": Param(50_000, 0, 65_000, "first register")},
    ),
    FaultKind("end-without-length", "protocol", "the end model 0xFFFF has no length register after it"),
    FaultKind(
        "wrong-model-length",
        "protocol",
        "a model's length register is wrong",
        {"model": Param(103, 1, 65_534, "the model"), "by": Param(-2, -500, 500, "added to its length")},
    ),
    FaultKind(
        "vendor-model",
        "protocol",
        "an unknown vendor's model stands between the others",
        {
            "model": Param(64_123, 1, 65_534, "its number"),
            "length": Param(20, 0, 500, "its length [registers]"),
            "before": Param(701, 1, 65_535, "the model before which it stands; 65535 is the end"),
        },
    ),
    FaultKind(
        "map-change",
        "protocol",
        "a firmware update moves the models: all those after a new one lie later",
        {"registers": Param(10, 2, 500, "by how many registers"), "firmware": Param("9.9.9", meaning="version shown")},
    ),
)

_DATA = (
    FaultKind("sentinel", "data", "a point reads as not implemented", {"point": _point("W")}),
    FaultKind("unimplemented-factor", "data", "a scale factor reads as not implemented", {"point": _point("W_SF")}),
    FaultKind(
        "moving-factor",
        "data",
        "a scale factor changes from read to read, values with it",
        {"point": _point("W_SF"), "by": Param(1, -9, 9, "added in every second read")},
    ),
    FaultKind(
        "wrong-factor",
        "data",
        "a scale factor is wrong, values are not changed with it",
        {"point": _point("W_SF"), "by": Param(1, -9, 9, "added")},
    ),
    FaultKind("word-swap", "data", "the words of values of several registers come low word first"),
    FaultKind(
        "register-shift",
        "data",
        "an answer holds the registers of a place beside",
        {"by": Param(1, -10, 10, "how far; > 0: later registers")},
    ),
    FaultKind("sign-flip", "data", "a point has the other sign", {"point": _point("W")}),
    FaultKind(
        "factor-of-ten",
        "data",
        "a point is a power of ten too large or small",
        {"point": _point("W"), "power": Param(1, -4, 4, "the power")},
    ),
    FaultKind(
        "spike",
        "data",
        "a point jumps for one read",
        {"point": _point("W"), "by": Param(20_000, -1e9, 1e9, "added, in the point's unit")},
    ),
    FaultKind(
        "frozen", "data", "all measured values stand still", {"point": Param("", meaning="only this; empty: all")}
    ),
    FaultKind(
        "drift",
        "data",
        "a point runs away",
        {"point": _point("W"), "per_s": Param(10.0, -1e6, 1e6, "added per second, in the point's unit")},
    ),
    FaultKind("counter-reset", "data", "energy counters begin at zero again", {"point": _point("WH")}),
    FaultKind("counter-wrap", "data", "energy counters are about to pass their highest value", {"point": _point("WH")}),
    FaultKind("nan-float", "data", "a float point reads as NaN", {"point": _point("W")}),
    FaultKind("soc-stuck", "data", "the state of charge stands still"),
    FaultKind("soc-jump", "data", "the state of charge jumps", {"by": Param(-0.3, -1.0, 1.0, "added, share of 1")}),
    FaultKind(
        "status-lies",
        "data",
        "the operating state is not the true one",
        {"state": Param(4, 0, 65_535, "state shown (4 is SunSpec's MPPT)")},
    ),
    FaultKind("stale-heartbeat", "data", "the heartbeat counter stands still"),
    FaultKind("torn-read", "data", "a 32-bit value's two words come from two moments", {"point": _point("WH")}),
)

_CONTROL = (
    FaultKind("ack-and-drop", "control", "writes are acknowledged and not stored"),
    FaultKind("no-effect", "control", "writes are stored and read back, the output does not follow"),
    FaultKind(
        "silent-clamp",
        "control",
        "written values are clamped without a word",
        {"low": Param(0.1, 0.0, 1.0, "lowest, share of rating"), "high": Param(0.9, 0.0, 1.0, "highest, share")},
    ),
    FaultKind(
        "slow-ramp",
        "control",
        "the output follows slowly",
        {"w_per_s": Param(100.0, 0.1, 1e6, "fastest change [W/s]")},
    ),
    FaultKind("offset", "control", "the output misses its set-point", {"w": Param(300.0, -1e6, 1e6, "by [W]")}),
    FaultKind(
        "dead-band", "control", "small changes of a set-point are ignored", {"w": Param(500.0, 0.0, 1e6, "below [W]")}
    ),
    FaultKind(
        "minimum-power", "control", "set-points below are not reached", {"w": Param(1000.0, 0.0, 1e6, "lowest [W]")}
    ),
    FaultKind(
        "zero-is-standby",
        "control",
        "a limit of 0 % sends it to standby; it takes a while to come back",
        {"return_s": _seconds(30.0, "time to come back")},
    ),
    FaultKind("ignores-enable", "control", "a value works without its enable register, and though that is 0"),
    FaultKind("needs-order", "control", "only the order value, then enable, has an effect"),
    FaultKind(
        "percent-of-wmax",
        "control",
        "percent are of the setting WMax, not of the rating",
        {"share": Param(0.7, 0.1, 1.0, "WMax as a share of the rating")},
    ),
    FaultKind(
        "own-loop",
        "control",
        "the device has a control loop of its own, which pulls the output to zero exchange",
        {"gain": Param(0.5, 0.0, 2.0, "of the loop"), "period_s": Param(2.0, 0.1, 3600.0, "its period [s]")},
    ),
    FaultKind("opposite-sign", "control", "set-points work with the other sign"),
    FaultKind(
        "ripple-priority",
        "control",
        "a ripple-control receiver's input goes before what is written",
        {"share": Param(0.3, 0.0, 1.0, "limit by the receiver, share of rating")},
    ),
    FaultKind(
        "locked-registers",
        "control",
        "control registers refuse writes (installer's code missing)",
        {"code": Param(2, 1, 11, "exception given")},
    ),
)

_TIMERS = (
    FaultKind("no-timer", "timers", "the revert timer cannot be set and never runs out"),
    FaultKind("cosmetic-timer", "timers", "the timer is stored and read back, and never runs out"),
    FaultKind("late-timer", "timers", "the timer runs out late", {"factor": Param(1.33, 0.1, 100.0, "times as long")}),
    FaultKind("rearmed-by-read", "timers", "any request, also a read, starts the timer again"),
    FaultKind("rearmed-by-write", "timers", "any write starts the timer again"),
    FaultKind("rearmed-by-same-point", "timers", "only writing the value's own point starts the timer again"),
    FaultKind("timer-persisted", "timers", "timer and set-point live on over a reboot"),
    FaultKind("seconds-for-minutes", "timers", "the timer counts its seconds as minutes"),
    FaultKind("revert-to-last", "timers", "it falls back to the set-point before, not to the default"),
    FaultKind("remaining-stands", "timers", "the register of seconds left never counts"),
)

_LIFE = (
    FaultKind(
        "reboot",
        "life",
        "the device reboots: mute, then as after power-up",
        {"off_s": Param(60.0, 0.01, 3600.0, "how long (30 to 180 s are usual) [s]")},
    ),
    FaultKind(
        "slow-boot",
        "life",
        "after a reboot only part of the map is there for a while",
        {"partial_s": _seconds(30.0, "how long"), "models": Param(2, 1, 100, "models that are there")},
    ),
    FaultKind("night-sleep", "life", "it sleeps without sun: port closed or mute"),
    FaultKind("derate", "life", "too hot: less power", {"share": Param(0.5, 0.0, 1.0, "of the rating that is left")}),
    FaultKind("trip", "life", "it trips and comes back by itself", {"return_s": _seconds(300.0, "after", high=_DAY_S)}),
    FaultKind(
        "firmware-change",
        "life",
        "another firmware version shows",
        {"version": Param("9.9.9", meaning="version shown")},
    ),
    FaultKind(
        "serial-change",
        "life",
        "another serial number shows",
        {"serial": Param("SWAPPED-0001", meaning="number shown")},
    ),
    FaultKind(
        "clock-wrong", "life", "its clock is wrong", {"by_s": Param(3600.0, -1e9, 1e9, "added to the right time [s]")}
    ),
    FaultKind(
        "flash-worn",
        "life",
        "the memory is worn out: writes are refused",
        {"code": Param(4, 1, 11, "exception given")},
    ),
    FaultKind(
        "local-takeover",
        "life",
        "somebody at the device has taken over: remote set-points rest",
        {"share": Param(0.0, -1.0, 1.0, "power that person sets, share of the rating")},
    ),
)

_SITE = (
    FaultKind("meter-lost", "site", "the meter of the connection does not answer"),
    FaultKind("meter-sign", "site", "the meter's current transformers are on backwards"),
    FaultKind(
        "phase-swap",
        "site",
        "two phases are swapped",
        {"phases": Param("ab", meaning="which two", choices=("ab", "bc", "ca"))},
    ),
    FaultKind("grid-loss", "site", "the grid is gone"),
    FaultKind("frequency-excursion", "site", "the frequency is off", {"hz": Param(51.0, 40.0, 60.0, "frequency [Hz]")}),
    FaultKind(
        "voltage-excursion", "site", "the voltage is off", {"v_pu": Param(1.15, 0.0, 1.5, "voltage, share of nominal")}
    ),
    FaultKind(
        "switch-welded",
        "site",
        "the grid switch does not move",
        {"stuck": Param("closed", meaning="where it is stuck", choices=("closed", "open"))},
    ),
    FaultKind("breaker-contradicts", "site", "the switch's feedback says the opposite"),
    FaultKind(
        "second-master",
        "site",
        "somebody else writes set-points too",
        {
            "period_s": Param(10.0, 0.05, 3600.0, "time between its writes [s]"),
            "share": Param(1.0, 0.0, 1.0, "limit that it writes, share of the rating"),
        },
    ),
)

CATALOGUE: Mapping[str, FaultKind] = MappingProxyType(
    {kind.name: kind for kind in (*_TRANSPORT, *_PROTOCOL, *_DATA, *_CONTROL, *_TIMERS, *_LIFE, *_SITE)}
)
"""Every kind of fault by its name, in the order of the groups."""


def _param_text(name: str, param: Param) -> str:
    if isinstance(param.default, str):
        allowed = " or ".join(param.choices)
        bounds = f"; {allowed}" if allowed else ""
        return f"`{name}` = {param.default or 'empty'} ({param.meaning}{bounds})"
    return f"`{name}` = {param.default:g} ({param.meaning}; {param.low:g} .. {param.high:g})"


def catalogue_markdown() -> str:
    """The catalogue as Markdown: a table for each group, with parameters, their defaults and bounds."""
    lines: list[str] = []
    for group in GROUPS:
        lines += [f"### Faults: {group}", "", "| Fault | What happens | Parameters |", "| --- | --- | --- |"]
        for kind in CATALOGUE.values():
            if kind.group == group:
                params = "<br>".join(_param_text(name, param) for name, param in kind.params.items())
                lines.append(f"| `{kind.name}` | {kind.meaning} | {params} |")
        lines.append("")
    return "\n".join(lines)
