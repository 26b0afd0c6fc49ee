"""A process that uses a journal and its vault in every way, saying after each step what is durable from then on.

``python -m tests.crash.appender FOLDER|URL``. One line of JSON per step that has returned; killed anywhere, what it
said must hold.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec

from market.journal.opening import open_journal
from market.journal.protocol import Draft, Journal, Part, Snapshot, chained
from market.journal.vault import Vault

ROUNDS = 6
PEOPLE = 3


def say(**line: Any) -> None:
    """One line out, at once."""
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


async def _append(journal: Journal, vault: Vault, n: int) -> None:
    records, head = [], journal.head
    for i in range(n):
        seq = head.seq + 1
        parts = tuple(Part(m, vault.seal(m, "note", b"x" * 900)) for m in vault.members()[:PEOPLE])
        record = chained(head, Draft(1_000_000 + seq, "note", b'{"i":%d}' % i, parts, f"name/{seq}"))
        records.append(record)
        head = type(head)(record.seq, record.digest)
    await journal.append(records)
    say(head=[journal.head.seq, journal.head.digest.hex()])


async def work(where: str) -> None:
    """Two openings; members come and go, records are appended, snapshots made and dropped."""
    for _ in range(2):
        journal, vault = await open_journal(where)
        say(opened=True)
        member = max(vault.members(), default=-1) + 1
        for i in range(ROUNDS):
            await vault.add(member, f"house-{member}")
            say(added=member)
            await _append(journal, vault, 1 + 3 * i)
            member += 1
        head = journal.head
        await journal.save_snapshot(Snapshot(head.seq, head.digest, vault.seal_snapshot(b"state" * 500)))
        say(snapshot=head.seq)
        gone = vault.members()[-2]
        await journal.drop_snapshots()
        say(snapshot=0)
        await vault.erase(gone)
        say(erased=gone)
        await vault.rotate_snapshot_key()
        await _append(journal, vault, 40)
        await journal.save_snapshot(Snapshot(journal.head.seq, journal.head.digest, vault.seal_snapshot(b"new" * 500)))
        say(snapshot=journal.head.seq)
        await journal.close()
        await vault.close()
    say(done=True)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
