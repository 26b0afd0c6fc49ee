"""Planners and bidders of a live market, which waits for nobody: who fails or takes too long falls back, and is named.

A planner that fails leaves its building to self-consumption for the slot, and so does one that has not answered when
the budget of the gate is spent; it is asked again at the next slot. A bidder that fails leaves its member without an
order: what it draws or feeds in is then a residual, settled like any other (docs/settlement.md).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from peerwatt.clocks import Stopwatch
from peerwatt.market_step import make_book
from peerwatt.messages import Plan, Prices, Window
from peerwatt.planning import PlannedGroup, PlannerSilentError, ask_planner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controllers.planning.task import Plans, Task
    from market.book import BookBatch
    from market.engine.state import State
    from market.strategies.base import Strategy
    from peerwatt.live.genesis import Roll
    from peerwatt.system import Bool, Int, System

Silent = dict[int, frozenset[int]]
"""Buildings that fell back, by slot."""

Strategies = tuple[tuple["Strategy", "Int"], ...]

News = Callable[[str], None]


class Planners:
    """Asks planners within the budget of a gate, each in a thread that is left alone if it takes longer.

    Parameters
    ----------
    budget_s
        For all planners of a gate together [s]; None waits for each as long as it takes.
    news
        Told when a planner falls silent, and when it answers again.
    """

    def __init__(self, budget_s: float | None = None, news: News = lambda _: None) -> None:
        self._budget_s = budget_s
        self._news = news
        self._watch = Stopwatch()
        self._busy: dict[str, threading.Thread] = {}
        self._silent: set[str] = set()

    def at_gate(self, system: System, silent: Silent | None = None) -> System:
        """The system as it is planned at a gate: the budget begins now.

        With ``silent``, what is known of a slot that was planned before: then nobody is hurried, and they fall back.
        """
        if system.planning is None:
            return system
        self._watch.restart()
        ask = self._ask if silent is None else ask_planner
        return replace(system, planning=replace(system.planning, ask=ask, silent=silent or {}, forgiving=True))

    def _ask(self, group: PlannedGroup, task: Task, workers: int) -> Plans:
        name = _name(group)
        try:
            plans = ask_planner(group, task, workers) if self._budget_s is None else self._in_time(group, task, workers)
        except Exception as error:
            if name not in self._silent:
                self._news(f"PLANNER SILENT: {name}: {error}. Its buildings consume their own until it answers")
            self._silent.add(name)
            raise
        if name in self._silent:
            self._silent.discard(name)
            self._news(f"planner {name} answers again")
        return plans

    def _in_time(self, group: PlannedGroup, task: Task, workers: int) -> Plans:
        """Its plans, if they come within what is left of the budget.

        Raises
        ------
        PlannerSilentError
            If they do not, or it is still at work on an earlier plan. Its own errors go through.
        """
        assert self._budget_s is not None
        name = _name(group)
        before = self._busy.get(name)
        if before is not None and before.is_alive():
            raise PlannerSilentError("it is still at work on an earlier plan")
        answers: queue.SimpleQueue[Plans | Exception] = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put(ask_planner(group, task, workers))
            except Exception as error:  # noqa: BLE001 - told to whoever asked
                answers.put(error)

        # a daemon: a planner that never returns does not keep the service from ending
        thread = self._busy[name] = threading.Thread(target=work, name=f"planner {name}", daemon=True)
        thread.start()
        try:
            answer = answers.get(timeout=max(self._budget_s - self._watch.elapsed_s(), 0.0))
        except queue.Empty:
            raise PlannerSilentError(f"it has not answered within {self._budget_s:g} s") from None
        thread.join()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _name(group: PlannedGroup) -> str:
    """A group for people, and as a key: its planner and the buildings it stands for."""
    where = ", ".join(map(str, group.buildings[:3].tolist())) + (" ..." if len(group.buildings) > 3 else "")
    return f"{group.planner.name} of buildings {where}"


def known_silent(state: State, roll: Roll) -> Silent:
    """Who fell back in which slot, as the journal has it."""
    building = dict(roll.pairs)
    return {slot: frozenset(building[m] for m in members if m in building) for slot, members in state.fell_back.items()}


def book_of(
    system: System, net_wh: Int, active: Bool, prices: Prices, window: Window, intent: Plan
) -> tuple[BookBatch, Mapping[int, Exception]]:
    """Orders of the modelled members ``active`` (1, B), none of those whose strategy fails: these by building."""

    def book(strategies: Strategies, who: Bool) -> BookBatch:
        of = replace(system, market=replace(system.market, strategies=strategies))
        return make_book(of, net_wh, who, prices, window, worth_u=intent.worth_u)

    strategies = system.market.strategies
    failed: dict[int, Exception] = {}
    try:
        return book(strategies, active), failed
    except Exception as error:  # noqa: BLE001 - a strategy may be anybody's; whose it is, is found below
        whole = error
    kept = []
    for strategy, members in strategies:
        for building in members.tolist():
            try:
                book(((strategy, np.array([building])),), active)
            except Exception as error:  # noqa: BLE001
                failed[building] = error
        kept.append((strategy, np.array([b for b in members.tolist() if b not in failed], np.int64)))
    if not failed:
        raise whole
    silent = np.isin(np.arange(system.n_buildings), list(failed))
    return book(tuple(one for one in kept if len(one[1])), active & ~silent), failed
