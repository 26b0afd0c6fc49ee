"""From one state to the next: what each fact changes, and what it has to tell. Live and in a replay alike.

What a fact changes stands in the ``applying_`` modules, one for each of the ``facts_`` modules. A part that is None is
of a member whose key was destroyed: what it said is gone, and the state does without.
"""

from __future__ import annotations

from core.errors import JournalError
from market.engine import applying_bills, applying_grid, applying_members, applying_meters, applying_slots
from market.engine import facts as f
from market.engine.applying import Effects, Handler, Parts
from market.engine.config import EngineConfig
from market.engine.state import Market, State


def _nothing(a: Effects, fact: f.Fact, parts: Parts) -> None:
    """Noted, and without effect on the market."""


_EFFECTS: dict[type[f.Fact], Handler] = {
    f.Genesis: _nothing,
    f.Acted: _nothing,
    **applying_members.EFFECTS,
    **applying_slots.EFFECTS,
    **applying_meters.EFFECTS,
    **applying_grid.EFFECTS,
    **applying_bills.EFFECTS,
}


class Applier(Effects):
    """Applies facts to a state, in order. Holds the state, its caches, and nothing else."""

    def apply(self, seq: int, at_us: int, fact: f.Fact, parts: Parts) -> None:
        """Take in one fact; news of it is appended to ``news``, changed books are noted in ``touched``.

        Raises
        ------
        JournalError
            If the fact does not follow from the state: the journal is not this market's, or broken.
        """
        if seq != self.state.seq + 1 or at_us < self.state.at_us:
            raise JournalError(f"follows record {self.state.seq} out of turn", seq=seq)
        self.seq, self.at_us = seq, at_us
        _EFFECTS[type(fact)](self, fact, parts)
        self.state.seq, self.state.at_us = seq, at_us


def first_state(config: EngineConfig) -> State:
    """The state before anything happened."""
    state = State(config=config)
    for market in config.markets:
        state.markets[market.market_id] = Market(market, 0)
    return state
