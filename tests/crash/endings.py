"""Ways for a market to die, mixed: at random, at a record of a clearing, at a sync, with its server, with its power."""

from __future__ import annotations

import random

from tests.crash.campaign import Ending

CLEARING = ("gated", "cleared", "settled", "opened", "ordered")
"""Records whose appends are killed deliberately, just before they are durable and just after."""

AT_CLEARING = [
    Ending("own", die_at=f"{kind}:{when}:{n}") for kind in CLEARING for when in ("before", "after") for n in (1, 2)
]


def kills(n: int) -> list[Ending]:
    """``n`` SIGKILLs: two of three at random moments, the third at a record of a clearing."""
    placed = [AT_CLEARING[i % len(AT_CLEARING)] for i in range(n // 3)]
    return [placed[i // 3] if i % 3 == 2 and i // 3 < len(placed) else Ending("kill") for i in range(n)]


def server_kills(n: int) -> list[Ending]:
    """PostgreSQL stopped at once, all of it killed, or only its client."""
    return [Ending(("server_stop", "server_kill", "kill")[i % 3]) for i in range(n)]


def losses(n: int, seed: int = 7) -> list[Ending]:
    """``n`` losses of power: at random moments, at a sync, at a record of a clearing; unsynced sectors torn in half."""
    chance = random.Random(seed)
    endings = []
    for i in range(n):
        kept = 0.0 if i % 2 == 0 else 0.5
        if i % 3 == 0:
            endings.append(Ending("kill", kept=kept, power=True))
        elif i % 3 == 1:
            when = chance.choice(("fsync", "synced"))
            endings.append(
                Ending("own", fail=f"{when}:KILL:{chance.randint(1, 40 if i % 2 else 400)}", kept=kept, power=True)
            )
        else:
            die_at = AT_CLEARING[chance.randrange(len(AT_CLEARING))].die_at
            endings.append(Ending("own", die_at=die_at, kept=kept, power=True))
    return endings


def disk_errors(n: int, seed: int = 8) -> list[Ending]:
    """``n`` disks that fail once at a sync, or are full; the power goes after it."""
    chance = random.Random(seed)
    kinds = ("fsync:EIO:{}", "fsync:ENOSPC:{}", "write:ENOSPC:{}+")
    return [Ending("own", fail=kinds[i % 3].format(chance.randint(10, 400)), power=True) for i in range(n)]


def errors_then_losses(n: int, seed: int = 9) -> list[Ending]:
    """``n`` syncs that fail, each followed by a restart on the same machine, and only later by a loss of power.

    What the failed sync should have kept is still there for the next life to read, and is not on the disk.
    """
    chance = random.Random(seed)
    pairs = ((Ending("own", fail=f"fsync:EIO:{chance.randint(30, 300)}"), Ending("kill", power=True)) for _ in range(n))
    return [ending for pair in pairs for ending in pair]
