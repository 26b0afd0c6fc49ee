"""Corrections: a settled slot is never overwritten; a new version adds what it changes (market-rules 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.errors import MarketError
from market.settlement.columns import LEDGER_KINDS, Int, Postings


@dataclass(frozen=True, slots=True)
class DifferenceLines:
    """Ledger lines of one version, one row each, ordered by slot, kind and account.

    ``kind`` indexes ``LEDGER_KINDS``; ``amount_u`` is what the account receives on top of the version before. They sum
    to zero over the accounts of every slot and kind.
    """

    version: Int
    slot: Int
    kind: Int
    account: Int
    amount_u: Int


def difference_lines(old: Postings, new: Postings, version: int, *, first_slot: int = 0) -> DifferenceLines:
    """Lines that take the ledger of a window from ``old`` to ``new``. Equal postings give none.

    Raises
    ------
    MarketError
        If the two are not of the same slots and accounts.
    """
    for kind in LEDGER_KINDS:
        if old.kinds[kind].shape != new.kinds[kind].shape:
            raise MarketError("a correction must cover the slots and accounts of what it corrects")
    change = np.stack([new.kinds[kind] - old.kinds[kind] for kind in LEDGER_KINDS], axis=1)  # (S, kinds, A)
    slot, kind_index, account = (index.astype(np.int64) for index in np.nonzero(change))
    return DifferenceLines(
        np.full(slot.shape, version, np.int64),
        slot + first_slot,
        kind_index,
        account,
        change[slot, kind_index, account],
    )


def add_version(posted: DifferenceLines, lines: DifferenceLines) -> DifferenceLines:
    """Append ``lines``; what is already posted for a (slot, version) is not posted again.

    Raises
    ------
    MarketError
        If a (slot, version) is already posted with other lines.
    """
    have, want = _by_key(posted), _by_key(lines)
    for key, rows in want.items():
        if key in have and have[key] != rows:
            raise MarketError(
                f"slot {key[0]}: version {key[1]} is already posted with other lines",
                remedy="give a further correction the next version number",
            )
    fresh = np.array([(int(s), int(v)) not in have for s, v in zip(lines.slot, lines.version, strict=True)], np.bool_)
    return DifferenceLines(
        np.concatenate([posted.version, lines.version[fresh]]),
        np.concatenate([posted.slot, lines.slot[fresh]]),
        np.concatenate([posted.kind, lines.kind[fresh]]),
        np.concatenate([posted.account, lines.account[fresh]]),
        np.concatenate([posted.amount_u, lines.amount_u[fresh]]),
    )


def _by_key(lines: DifferenceLines) -> dict[tuple[int, int], list[tuple[int, int, int]]]:
    keyed: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    columns = (lines.slot, lines.version, lines.kind, lines.account, lines.amount_u)
    for slot, version, kind, account, amount in zip(*(c.tolist() for c in columns), strict=True):
        keyed.setdefault((slot, version), []).append((kind, account, amount))
    return keyed
