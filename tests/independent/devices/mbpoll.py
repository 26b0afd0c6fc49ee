"""mbpoll, a Modbus master in C that is not ours: single reads and writes, a walk along the models, a steady watch."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Self

import pytest

from tests.independent.devices import registers as r

_LINE = re.compile(r"^\[(\d+)\]:\s+(\d+)")


def need_mbpoll() -> None:
    """Skip the test, saying why, where there is no mbpoll."""
    if shutil.which("mbpoll") is None or shutil.which("stdbuf") is None:
        pytest.skip("no mbpoll on this machine")


class ModbusRefusedError(AssertionError):
    """The device refused, or did not answer."""


def _command(port: int, *options: str) -> list[str]:
    return ["mbpoll", "-m", "tcp", "-a", "1", "-0", "-q", "-t", "4", "-p", str(port), *options, "127.0.0.1"]


def read(port: int, address: int, count: int = 1) -> list[int]:
    """`count` holding registers from `address` on, as the wire has them."""
    command = _command(port, "-1", "-r", str(address), "-c", str(count))
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    found = {int(m[1]): int(m[2]) for m in map(_LINE.match, done.stdout.splitlines()) if m}
    if done.returncode or len(found) != count:
        raise ModbusRefusedError(f"read {count} at {address}: {done.stdout} {done.stderr}".strip())
    return [found[address + i] for i in range(count)]


def write(port: int, address: int, *words: int) -> None:
    """Write registers: function 6 for one, function 16 for several."""
    command = [*_command(port, "-1", "-r", str(address)), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise ModbusRefusedError(f"write {words} at {address}: {done.stderr or done.stdout}".strip())


def walk(port: int) -> dict[int, int]:
    """Address of every model, found by going along the chain from its beginning to its end."""
    assert tuple(read(port, r.BASE, 2)) == r.SUNS
    at, models = r.CHAIN, dict[int, int]()
    while True:
        model, length = read(port, at, 2)
        if model == r.END:
            return models
        assert model not in models, f"model {model} twice"
        assert 0 < length < 1000, f"model {model} of length {length} at {at}"
        models[model] = at
        at += 2 + length


@dataclass(slots=True)
class Look:
    """What one poll saw, and when [s, monotonic]."""

    at: float
    words: tuple[int, ...]


@dataclass
class Watch:
    """Looks at a block of registers again and again until it is left; every look is kept."""

    port: int
    address: int
    count: int
    every_ms: int = 100
    looks: list[Look] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        options = ("-l", str(self.every_ms), "-o", "1", "-r", str(self.address), "-c", str(self.count))
        self._process = subprocess.Popen(
            ["stdbuf", "-oL", *_command(self.port, *options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        self.wait_for_look(time.monotonic(), 10)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        words = list[int]()
        for line in self._process.stdout:
            if match := _LINE.match(line):
                words.append(int(match[2]))
                if int(match[1]) == self.address + self.count - 1:
                    self.looks.append(Look(time.monotonic(), tuple(words)))
                    words = []
            elif "failed" in line:
                self.trouble.append(line.strip())
                words = []

    def wait_for_look(self, after: float, patience_s: float) -> Look:
        """The first look later than `after`."""
        end = time.monotonic() + patience_s
        while True:
            if self.looks and self.looks[-1].at > after:
                return next(look for look in self.looks if look.at > after)
            assert time.monotonic() < end, f"no look at {self.address}: {self.trouble[-3:]}"
            time.sleep(0.01)

    def rate_hz(self, since: float, until: float) -> float:
        """Looks per second between two moments."""
        return sum(since <= look.at <= until for look in self.looks) / (until - since)

    def widest_gap_s(self, since: float, until: float) -> float:
        """The longest time between two looks that overlaps the span."""
        moments = [look.at for look in self.looks]
        return max((b - a for a, b in itertools.pairwise(moments) if b > since and a < until), default=until - since)
