"""A process killed in the middle of appends leaves a clean beginning with everything it acknowledged."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core import JournalError
from market.journal.protocol import Head
from market.journal.verify import verify
from tests.market.journal.pg import require_cluster
from tests.market.journal.stores import Place, durable, everything, follow

__all__ = ["durable"]

ROOT = Path(__file__).parents[3]

_APPEND = """
import asyncio, sys
from market.journal.opening import open_records
from tests.market.journal.stores import fill

async def main():
    journal = await open_records(sys.argv[1], write=True)
    print(journal.head.seq, flush=True)
    count = 1
    while True:
        await fill(journal, count)
        print(journal.head.seq, flush=True)
        count = count * 5 % 97  # groups of many sizes

asyncio.run(main())
"""


def start(where: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _APPEND, str(where)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


async def check(place: Place, acknowledged: int) -> int:
    """Nothing acknowledged is lost, nothing is torn; returns the head's number."""
    for wait_s in (0.1, 0.3, 1.0, 3.0, 10.0):
        try:
            journal = await place.journal()  # the lock went with the process: PostgreSQL needs a moment to notice
            break
        except JournalError:
            await asyncio.sleep(wait_s)
    else:
        journal = await place.journal()
    assert journal.head.seq >= acknowledged
    assert await everything(journal) == follow(Head(), journal.head.seq)
    assert (await verify(journal)).ok
    await journal.close()
    return journal.head.seq


@pytest.mark.slow
async def test_killed_in_the_middle(durable: Place) -> None:
    rng = random.Random(1)
    seq = 0
    for _ in range(4):
        process = start(durable.where)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(rng.randrange(5, 120))]
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        told = [int(line) for line in [*said, *rest.splitlines(keepends=True)] if line.endswith("\n")]
        assert told[0] == seq
        seq = await check(durable, told[-1])
    assert seq > 100


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [2])
async def test_postgresql_server_crashes(tmp_path: Path, rounds: int) -> None:
    server = require_cluster()
    place = Place("postgresql", tmp_path)
    for number in range(rounds):
        process = start(place.where)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(20 + 30 * number)]
        server.stop("immediate")  # as a crash: nothing is written any more
        rest, _ = process.communicate()  # the writer ends by itself
        assert process.returncode == 1
        server.start()
        await check(place, int([*said, *rest.splitlines()][-1]))
