"""What a bidder wants: its net energy by slot, and the prices beyond which it does not trade."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core import ScenarioError
from peerwatt.joining.venue import Order
from peerwatt.wire.times import time_us

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_COLUMNS = ["slot", "net_wh"]
_REMEDY = "write two columns under slot,net_wh: 2016-06-01T12:00:00Z,-750 or, for every day, 12:00,-750 (UTC)"


@dataclass(frozen=True, slots=True)
class Profile:
    """Net energy by slot [Wh], positive draws. A slot that it does not name is 0.

    Parameters
    ----------
    by_slot
        By the UTC time at which a slot starts, ``2016-06-01T12:00:00Z``.
    by_clock
        By the UTC clock time at which a slot starts, ``12:00``: for every day without an entry in ``by_slot``.
    always_wh
        For all others.
    """

    by_slot: Mapping[str, int] = field(default_factory=dict)
    by_clock: Mapping[str, int] = field(default_factory=dict)
    always_wh: int = 0

    def net_wh(self, slot: str) -> int:
        """Net energy of a slot [Wh]."""
        own = self.by_slot.get(slot)
        return own if own is not None else self.by_clock.get(slot[11:16], self.always_wh)


@dataclass(frozen=True, slots=True)
class Plan:
    """A profile with limits: buys at no more than ``buy_below_u``, sells at no less than ``sell_above_u``."""

    profile: Profile
    buy_below_u: int
    sell_above_u: int

    def order(self, slot: str) -> Order | None:
        """The order for a slot; None if nothing is to be traded in it."""
        net_wh = self.profile.net_wh(slot)
        if net_wh == 0:
            return None
        if net_wh > 0:
            return Order(slot, "buy", net_wh, self.buy_below_u)
        return Order(slot, "sell", -net_wh, self.sell_above_u)


def load_profile(file: Path) -> Profile:
    """Read a profile from CSV with the columns ``slot`` and ``net_wh``.

    Raises
    ------
    ScenarioError
        If it cannot be read or means nothing; says in which line.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            return _read(file, csv.reader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScenarioError(f"cannot be read: {error}", file=file, remedy=_REMEDY) from None


def _read(file: Path, rows: Iterable[list[str]]) -> Profile:
    by_slot: dict[str, int] = {}
    by_clock: dict[str, int] = {}
    for line, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if line == 1:
            if cells != _COLUMNS:
                raise ScenarioError(f"has the columns {','.join(cells)}", file=file, line=1, remedy=_REMEDY)
            continue
        if not any(cells):
            continue
        if len(cells) != len(_COLUMNS):
            raise ScenarioError(f"has {len(cells)} cells, not 2", file=file, line=line, remedy=_REMEDY)
        slot, net = cells
        wanted = by_clock if _CLOCK.fullmatch(slot) else by_slot
        if wanted is by_slot and not _is_slot(slot):
            raise ScenarioError(f"{slot!r} is no slot", file=file, line=line, path="slot", remedy=_REMEDY)
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", net):
            raise ScenarioError(
                f"{net!r} is no whole number of Wh", file=file, line=line, path="net_wh", remedy=_REMEDY
            )
        if slot in wanted:
            raise ScenarioError(f"names {slot} a second time", file=file, line=line, path="slot", remedy="keep one")
        wanted[slot] = int(net)
    if not by_slot and not by_clock:
        raise ScenarioError("names no slot", file=file, remedy=_REMEDY)
    return Profile(by_slot, by_clock)


def _is_slot(text: str) -> bool:
    try:
        time_us(text)
    except ValueError:
        return False
    return len(text) == 20 and text.endswith("Z")
