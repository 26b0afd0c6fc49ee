"""The chain as an outsider sees it: emulator, a recording go-between, commissioning and guardian, watched by mbpoll."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.independent.devices import mbpoll
from tests.independent.devices import registers as r
from tests.independent.devices.mbpoll import Look, Watch
from tests.independent.devices.running import Emulator, Started, peerwatt
from tests.independent.devices.tap import Tap, WireFrame

DEVICE = "inv"
SAFE_W = 3_000
SUN_W = 8_000  # the emulated inverter gives more than this when nothing limits it
TOLERANCE_W = 60  # two percent of the safe value
GRACE_S = 1.0
ANSWERS = """\
technician: T. Judge
witness: W. Judge
instrument: mbpoll
instrument_serial: M-1
calibrated_on: 2026-03-01
clock_offset_s: 0.0
accept_untested: [persistence]
"""


def commission(address: str, out: Path, *options: str, timer_s: int = 2) -> tuple[int, str]:
    """Measure the limit of a device; exit code and all that was printed. The record is in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    answers = out.parent / f"{out.name}-answers.yaml"
    answers.write_text(ANSWERS)
    words = ("--timer", str(timer_s), "--controls", "limit_w", "--answers", str(answers), "--out", str(out), *options)
    done = peerwatt("commission", address, *words, patience_s=600)
    return done.returncode, done.stdout + done.stderr


def record_file(folder: Path) -> Path:
    """The one record in a folder."""
    (file,) = folder.glob("*.json")
    return file


def recorded_lateness_s(folder: Path, timer_s: float) -> float:
    """How late the recorded fall was, for a timer of `timer_s`: by the factor that was measured."""
    timer = json.loads(record_file(folder).read_text())["record"]["controls"]["limit_w"]["timer"]
    return max(0.0, float(timer["expired_s"]) / float(timer["set_s"]) - 1.0) * timer_s


def behaviours(folder: Path) -> set[str]:
    """What the record says of the timer."""
    return set(json.loads(record_file(folder).read_text())["record"]["controls"]["limit_w"]["behaviours"])


class GuardianRefusedError(AssertionError):
    """The guardian said no; its answer is the argument."""


class Session:
    """A client of `guardian.sock`, from the documented messages alone; keeps itself alive until closed."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rwb")
        self._lock, self._over = threading.Lock(), threading.Event()
        self._numbers, self._keys = itertools.count(1), itertools.count(1)
        silent_s = float(self.ask("hello", name="judge")["silent_s"])
        self._pinger = threading.Thread(target=self._ping, args=(silent_s / 4,), daemon=True)
        self._pinger.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._pinger.join()
        with suppress(OSError):
            self._file.close()
        self._socket.close()

    def _ping(self, every_s: float) -> None:
        while not self._over.wait(every_s):
            with suppress(OSError, ValueError):
                self.ask("ping")

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        """One request and its answer."""
        with self._lock:
            number = next(self._numbers)
            self._file.write(json.dumps({"id": number, "op": op, **fields}).encode() + b"\n")
            self._file.flush()
            line = self._file.readline()
        if not line:
            raise ConnectionError("the guardian hung up")
        answer: dict[str, Any] = json.loads(line)
        assert answer["id"] == number, answer
        if not answer["ok"]:
            raise GuardianRefusedError(answer)
        return answer

    def lease(self, limit_w: float, *, ttl_s: float = 20.0, level: str = "market") -> dict[str, Any]:
        """Ask for a limit on feeding in."""
        fields = {"value": limit_w, "level": level, "ttl_s": ttl_s, "owner": "judge", "key": f"k{next(self._keys)}"}
        return self.ask("lease", device=DEVICE, control="limit_w", **fields)

    def mode(self) -> str:
        """Of the device."""
        return str(self.ask("status")["modes"][DEVICE])

    def control(self) -> dict[str, Any]:
        """What the guardian says of the limit."""
        return dict(self.ask("devices")["devices"][0]["controls"]["limit_w"])


class Guardian(Started):
    """`peerwatt guardian` with one device, its folders beside its settings."""

    def __init__(self, folder: Path, address: str, records: Path, *, timer_s: int = 2, cycle_s: float = 0.25) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.site, self.cycle_s = folder, folder / "site.yaml", cycle_s
        refresh_s = max(cycle_s, timer_s / 4)
        self.site.write_text(
            f"name: bench\ncycle_s: {cycle_s}\nrecords: {records}\ndevices:\n"
            f"  - {{id: {DEVICE}, address: '{address}', timer_s: {timer_s}, refresh_s: {refresh_s},"
            f" controls: {{limit_w: {{safe: {SAFE_W}}}}}}}\n"
        )
        super().__init__(folder / "guardian.log", "guardian", str(self.site))

    @property
    def journal(self) -> Path:
        """Its journal's folder."""
        return self.folder / "journal"

    def start(self) -> None:
        before = self.said().count("READY") if self.log.exists() else 0
        super().start()
        self.wait_for_more("READY", before)

    def session(self) -> Session:
        """Speak to it."""
        (path,) = self.folder.rglob("guardian.sock")
        return Session(path)

    def arm(self, session: Session, patience_s: float = 15.0) -> None:
        """Rehearse, then arm, and wait until the safe value stands: before its first order it answers for nothing."""
        end = time.monotonic() + patience_s
        while session.ask("devices")["devices"][0]["identity"] is None:
            assert time.monotonic() < end, "the guardian never saw the device"
            time.sleep(0.05)
        for mode in ("rehearse", "armed"):
            session.ask("mode", device=DEVICE, mode=mode, who="judge")
        time.sleep(3 * self.cycle_s)
        while (value := session.control()["value"]) != SAFE_W or session.mode() != "armed":
            assert time.monotonic() < end, f"armed, and then {value} W: {session.ask('status')}"
            time.sleep(2 * self.cycle_s)


@dataclass
class Bench:
    """Emulator, go-between and two watches: on the power and on the limit's registers."""

    folder: Path
    emulator: Emulator
    tap: Tap
    models: dict[int, int]
    power: Watch
    limit: Watch

    @property
    def address(self) -> str:
        """Where commissioning and guardian find the device."""
        return f"tcp://127.0.0.1:{self.tap.port}"

    def watts(self, look: Look) -> float:
        """Power fed in [W]."""
        return float(r.signed(look.words[0]) * 10.0 ** r.signed(look.words[1]))

    def now(self) -> float:
        """Power fed in [W], looked at after this call."""
        return self.watts(self.power.wait_for_look(time.monotonic(), 10))

    def is_safe(self, look: Look) -> bool:
        """Is the power at the safe value?"""
        return abs(self.watts(look) - SAFE_W) <= TOLERANCE_W

    def wait_for_watts(self, low: float, high: float, patience_s: float) -> float:
        """Until the power lies there; the moment of the look."""
        end = time.monotonic() + patience_s
        after = time.monotonic()
        while True:
            look = self.power.wait_for_look(after, 10)
            if low <= self.watts(look) <= high:
                return look.at
            assert time.monotonic() < end, f"{self.watts(look)} W not in {low} .. {high} within {patience_s} s"
            after = look.at

    def late_s(self, since: float, watch_s: float) -> float:
        """Watch for `watch_s` after `since`: seconds until the power was safe for good."""
        time.sleep(max(0.0, since + watch_s - time.monotonic()))
        self.power.wait_for_look(since + watch_s, 5)
        looks = [look for look in self.power.looks if look.at > since]
        gap = self.power.widest_gap_s(since, since + watch_s)
        assert gap <= 0.2 or self.power.rate_hz(since, since + watch_s) >= 5, f"watched too slowly: {gap:.2f} s"
        bad = [look.at for look in looks if not self.is_safe(look)]
        return max(bad, default=since) - since

    def limit_registers(self) -> tuple[int, int, int, int, int]:
        """Enable, limit, fallback, its enable, timer: of model 704, as mbpoll reads them now."""
        words = mbpoll.read(self.emulator.port, self.models[704] + r.LIM_704_ENA, 6)
        return words[0], words[1], words[2], words[3], r.wide(words[4], words[5])


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """All of it, started and ended."""
    mbpoll.need_mbpoll()
    with ExitStack() as stack:
        emulator = stack.enter_context(Emulator(folder))
        tap = stack.enter_context(Tap(emulator.port))
        models = mbpoll.walk(emulator.port)
        power = stack.enter_context(Watch(emulator.port, models[103] + r.W, 2))
        limit = stack.enter_context(Watch(emulator.port, models[704] + r.LIM_704_ENA, 8))
        yield Bench(folder, emulator, tap, models, power, limit)


def copy_records(source: Path, target: Path) -> Path:
    """A second set of records, to be spoilt."""
    shutil.copytree(source, target)
    return target


def disorder(frames: list[WireFrame], model_704: int, timer_s: float) -> list[str]:
    """What is wrong in the order of frames: limit or enable without a timer set and read back first, or not read back.

    `frames`: all frames of one connection in both directions, in order.
    """
    timer_at = model_704 + r.LIM_704_TMS
    guarded = {model_704 + r.LIM_704_ENA, model_704 + r.LIM_704_PCT}
    faults = list[str]()
    proven_at: float | None = None  # when a read-back last showed a running timer that had been written
    written = False
    unread: dict[int, int] = {}
    asked = dict[bytes, WireFrame]()
    for frame in frames:
        if frame.is_request:
            asked[frame.raw[:2]] = frame
        if frame.is_request and frame.function in (6, 16):
            if guarded & set(frame.writes):
                if proven_at is None or frame.at - proven_at > timer_s:
                    faults.append(f"{frame.raw.hex()}: written without a timer set and read back before")
                left = {at: word for at, word in unread.items() if at in frame.writes}
                faults += [f"{at} = {word} was never read back" for at, word in left.items()]
                unread |= frame.writes
            if timer_at in frame.writes or timer_at + 1 in frame.writes:
                written, proven_at = r.wide(*frame.words[-2:]) > 0, None
                unread |= frame.writes
        elif not frame.is_request and frame.function in (3, 4) and frame.raw[:2] in asked:
            question = asked[frame.raw[:2]]
            data = frame.raw[9:]
            seen = {question.address + i // 2: int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)}
            if written and timer_at + 1 in seen and r.wide(seen[timer_at], seen[timer_at + 1]) > 0:
                proven_at = frame.at
            unread = {at: word for at, word in unread.items() if seen.get(at) != word}
    return faults
