"""What clients see of a publication: slots and times as text, order numbers as ids, members as participants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from market.engine.publication import Publication
from market.settlement import BILL_LINES
from peerwatt.wire.times import SlotNames, time_text

_SLOTS = frozenset({"slot", "first_slot", "end_slot", "from_slot", "until_slot"})
_IDS = {"order_id": "order_id", "order": "order_id", "dispute": "dispute_id"}
_TIMES = frozenset({"at_us", "gate_us", "opens_us", "expires_us", "gate", "expires_at"})


class WireForm:
    """Turns publications into what goes over the wire; hand it to `StreamHub` as ``present``.

    Parameters
    ----------
    slots
        Names of the market's slots.
    participant_of
        Id of a member, None once it is erased.
    """

    def __init__(self, slots: SlotNames, participant_of: Callable[[int], str | None]) -> None:
        self._slots = slots
        self._participant_of = participant_of

    def __call__(self, publication: Publication) -> dict[str, Any]:
        """The data of one event. ``at`` is when it happened; ``participant`` stands in private news only."""
        data: dict[str, Any] = {"at": time_text(publication.at_us)}
        if publication.market:
            data["market"] = publication.market
        if publication.slot >= 0:
            data["slot"] = self._slots.text(publication.slot)
        if publication.member >= 0:
            data["participant"] = self._participant_of(publication.member)
        for name, value in publication.data.items():
            # What single wires carry tells what single homes do: that is behind the scope network:read.
            if name not in data and (publication.topic != "network" or name == "loss_wh"):
                self._put(data, name, value)
        return data

    def _put(self, data: dict[str, Any], name: str, value: Any) -> None:
        if name in _SLOTS and isinstance(value, int):
            data[name] = self._slots.text(value)
        elif name in _IDS and isinstance(value, int):
            data[_IDS[name]] = str(value)
        elif name in _TIMES and isinstance(value, int):
            data[name.removesuffix("_us")] = time_text(value)
        elif name == "fills":
            data[name] = [[str(order), e_wh] for order, e_wh in value]
        elif name == "lines_u":
            data["lines"] = dict(zip(BILL_LINES, value, strict=True))
        elif name == "rows":
            data[name] = [[self._slots.text(first), self._slots.text(end), *limits] for first, end, *limits in value]
        elif name != "member":
            data[name] = value
