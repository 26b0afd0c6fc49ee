"""A supervisor in a process of its own, over a pipe, so that it can be killed for real.

``python -m tests.controllers.microgrid.child``: pickled settings first, then an image for each decision.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

from controllers.microgrid.image import Decision, Image
from controllers.microgrid.settings import Settings
from controllers.microgrid.supervisor import Supervisor

ROOT = Path(__file__).parents[3]


class Remote:
    """Speaks to a supervisor in a child process; `kill` is SIGKILL."""

    def __init__(self, settings: Settings) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.controllers.microgrid.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self._send(settings)

    def _send(self, thing: object) -> None:
        assert self._process.stdin is not None
        pickle.dump(thing, self._process.stdin)
        self._process.stdin.flush()

    def step(self, image: Image) -> Decision:
        self._send(image)
        assert self._process.stdout is not None
        answer = pickle.load(self._process.stdout)
        assert isinstance(answer, Decision)
        return answer

    def kill(self, image: Image | None = None) -> int:
        """SIGKILL, in the middle of a step if an image is given; the exit status."""
        if image is not None:
            self._send(image)
        os.kill(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def close(self) -> None:
        """End the child if it still lives."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def main() -> None:
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    supervisor = Supervisor(pickle.load(source))
    while True:
        try:
            image = pickle.load(source)
        except EOFError:
            return
        pickle.dump(supervisor.step(image), sink)
        sink.flush()


if __name__ == "__main__":
    main()
