"""Real processes of peerwatt, started as a user would, and always ended."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from tests.repo.files import ROOT

_T = TypeVar("_T")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "160"}


def until(true: Callable[[], _T], what: str, patience_s: float = 20.0) -> _T:
    """What `true` returns as soon as that is true."""
    end = time.monotonic() + patience_s
    while not (value := true()):
        assert time.monotonic() < end, f"waited {patience_s} s in vain for {what}"
        time.sleep(0.02)
    return value


def peerwatt(*words: str, patience_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its exit code is for the caller to judge."""
    command = [sys.executable, "-m", "peerwatt", *words]
    return subprocess.run(
        command,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=patience_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


class Started:
    """A command that goes on; killed with the whole of its group when left."""

    def __init__(self, log: Path, *words: str) -> None:
        self.log, self.words = log, words
        self.process: subprocess.Popen[bytes] | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it; anew, if it was ended."""
        self._file = self.log.open("ab")
        command = [sys.executable, "-m", "peerwatt", *self.words]
        self.process = subprocess.Popen(
            command,
            env=ENVIRONMENT | {"PYTHONUNBUFFERED": "1"},
            stdout=self._file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process is not None
        return self.process.pid

    def said(self) -> str:
        """All that it printed so far."""
        return self.log.read_text(errors="replace")

    def _wait(self, look: Callable[[], _T], what: str, patience_s: float) -> _T:
        def alive() -> _T:
            assert self.process is not None
            ended = self.process.poll() is not None
            found = look()
            assert found or not ended, f"{self.words} ended: {self.said()[-3000:]}"
            return found

        return until(alive, f"{self.words[0]} to say {what}", patience_s)

    def wait_for(self, pattern: str, patience_s: float = 30.0) -> re.Match[str]:
        """What it prints that matches."""
        found = self._wait(lambda: re.search(pattern, self.said()), repr(pattern), patience_s)
        assert found is not None
        return found

    def wait_for_more(self, word: str, than: int, patience_s: float = 30.0) -> None:
        """Until it has printed a word more often than `than` times."""
        self._wait(lambda: self.said().count(word) > than, word, patience_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all of its group."""
        os.killpg(self.pid, number)

    def end(self, patience_s: float = 20.0) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(patience_s)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
        if self._file is not None:
            self._file.close()
            self._file = None


class Emulator(Started):
    """`peerwatt emulate`: one 10 kW hybrid inverter in daylight, with HTTP control of its faults."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder / "emulator.log", "emulate", "--port", "0", "--control", "0", *options)
        self.port = self.control = 0

    def start(self) -> None:
        self.log.unlink(missing_ok=True)  # old ports
        super().start()
        self.port = int(self.wait_for(r"tcp://127\.0\.0\.1:(\d+) ")[1])
        self.control = int(self.wait_for(r"control http://127\.0\.0\.1:(\d+)\n")[1])
        until(self._hears, "the control of faults to be served")

    def _hears(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.control), timeout=5):
            return True
        return False

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.control}{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def fault(self, kind: str, **params: object) -> None:
        """Switch a fault on."""
        (device,) = self._devices()
        self._ask("POST", f"/devices/{device}/faults", {"kind": kind, **params})

    def heal(self) -> None:
        """All faults off."""
        (device,) = self._devices()
        self._ask("DELETE", f"/devices/{device}/faults")

    def _devices(self) -> list[str]:
        return [row["id"] for row in self._ask("GET", "/devices")]
