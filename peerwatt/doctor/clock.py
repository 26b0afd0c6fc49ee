"""Checks of the clock: is it synchronised, and does it run evenly."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass

from peerwatt.clocks import Stopwatch, utc_now_us
from peerwatt.doctor.finding import Finding, ok, warn

STA_UNSYNC = 0x40
TIME_ERROR = 5
WIDE_ERROR_S = 1.0
STEP_S = 0.005
_REMEDY = "run a time service (chrony, systemd-timesyncd or ntpd): gates close by this clock"


class _Timeval(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("micros", ctypes.c_long))


class _Timex(ctypes.Structure):
    """``struct timex`` of Linux; only what stands before the padding is read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", _Timeval),
        ("tick", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    )


@dataclass(frozen=True, slots=True)
class Discipline:
    """What the kernel knows of its clock: synchronised or not, largest possible error [s], correction of rate [ppm]."""

    synchronised: bool
    max_error_s: float
    rate_ppm: float


def read_discipline() -> Discipline | None:
    """Ask the kernel (adjtimex, which changes nothing); None where it does not tell."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjtimex is None:
        return None
    answer = _Timex()
    state: int = adjtimex(ctypes.byref(answer))
    if state < 0:
        return None
    return Discipline(
        synchronised=state != TIME_ERROR and not answer.status & STA_UNSYNC,
        max_error_s=answer.maxerror / 1e6,
        rate_ppm=answer.freq / 65536.0,
    )


def check_synchronised(read: Callable[[], Discipline | None] = read_discipline) -> Finding:
    """Whether the clock follows a time service."""
    found = read()
    if found is None:
        return warn("clock", "the system does not tell whether its clock is synchronised", _REMEDY)
    figures = {
        "synchronised": found.synchronised,
        "max_error_s": found.max_error_s,
        "rate_ppm": round(found.rate_ppm, 3),
    }
    if not found.synchronised:
        return warn("clock", "the clock is not synchronised", _REMEDY, **figures)
    if found.max_error_s > WIDE_ERROR_S:
        sentence = f"the clock is synchronised, but may be {found.max_error_s:.1f} s wrong"
        return warn("clock", sentence, "check that the time service reaches its servers", **figures)
    return ok("clock", f"synchronised, at most {found.max_error_s * 1000.0:.0f} ms wrong", **figures)


def clocks_apart_s(over_s: float = 0.25) -> float:
    """By how much the wall clock moved more than the monotonic one during ``over_s`` seconds."""
    watch = Stopwatch()
    start_us = utc_now_us()
    threading.Event().wait(over_s)
    return (utc_now_us() - start_us) / 1e6 - watch.elapsed_s()


def check_steps(apart: Callable[[], float] = clocks_apart_s) -> Finding:
    """Whether the wall clock was set while we looked."""
    apart_s = apart()
    figures = {"apart_s": round(apart_s, 6)}
    if abs(apart_s) > STEP_S:
        sentence = f"the wall clock jumped by {apart_s:+.3f} s while it was watched"
        return warn("clock steps", sentence, "let one time service alone set the clock, by slewing", **figures)
    return ok("clock steps", f"wall and monotonic clock run together within {abs(apart_s) * 1000.0:.2f} ms", **figures)
