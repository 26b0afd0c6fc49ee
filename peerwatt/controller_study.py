"""Compare controllers on one district: each beside the low-tech arms, and all beside the community optimum."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import ScenarioError
from peerwatt.comparing import Comparison, compare
from peerwatt.low_tech import rule_stage

if TYPE_CHECKING:
    from peerwatt.controller_gaps import Costs
    from peerwatt.running import Progress
    from peerwatt.system import System

FIGURES = "controllers.json"

WORTH_PER_YEAR = 20.0
"""What a planner has to save, in currency per building that it steers and year, to be worth its computer: the least
that a small one costs with its electricity (3 W all year and a part of its price)."""

SUPPLY = ("saidi_minutes", "saifi", "caidi_minutes", "maifi", "unserved_kwh")
"""Figures of reliability that are compared."""

_HOURS_A_YEAR = 8766.0


@dataclass(frozen=True, slots=True)
class ControllerStudy:
    """A finished comparison of controllers.

    ``comparisons`` by controller: its arms (no market, time-of-use tariff, static key, rules). ``costs`` by controller
    and ``community``, all by one yardstick (`peerwatt.controller_gaps`) [currency]. ``steered`` buildings with a store,
    a car or a heated building; ``years`` that the run is long.
    """

    comparisons: Mapping[str, Comparison]
    costs: Mapping[str, Costs]
    community: Costs
    currency: str
    steered: int
    years: float
    figures: Path

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the figures say, in words."""
        return (*self._worth(), *self._supply(), self._reference())

    def supply(self, name: str) -> dict[str, dict[str, float | None]]:
        """Reliability of supply under a controller, by arm (`SUPPLY` of ``summary.json``); empty without outages."""
        of = self.comparisons[name]
        return {
            arm: {key: run.summary["reliability"][key] for key in SUPPLY}
            for arm, run in zip(of.names, of.runs, strict=True)
            if "reliability" in run.summary
        }

    def _supply(self) -> list[str]:
        """How long customers were without supply in outages, and what the difference costs on other days."""
        plain, *others = self.costs
        usual = self.supply(plain)
        found = []
        for name in others if usual else []:
            ours = self.supply(name)
            arm = [arm for arm in usual if arm in ours][-1]  # the last is one with a market, if any is
            (less_min, less_kwh), (min_, kwh) = (_dark(of[arm]) for of in (ours, usual))
            if (f"{less_min:.1f}", f"{less_kwh:.1f}") == (f"{min_:.1f}", f"{kwh:.1f}"):
                found.append(
                    f"In the outages {name} and {plain} leave customers without supply alike: {min_:.1f} min each, "
                    f"{kwh:.1f} kWh of load ({arm})."
                )
                continue
            dearer = self.costs[name].alone - self.costs[plain].alone
            found.append(
                f"In the outages customers were without supply for {less_min:.1f} min on average under {name} and "
                f"{min_:.1f} min under {plain}, {less_kwh:.1f} and {kwh:.1f} kWh of load were not supplied ({arm}); "
                f"with a grid that never fails {name} costs {abs(dearer):.2f} {self.currency} "
                f"{'more' if dearer >= 0 else 'less'}."
            )
        return found

    def _worth(self) -> list[str]:
        plain, *others = self.costs
        found = []
        for name in others:
            alone = self.costs[plain].alone - self.costs[name].alone
            shared = self.costs[plain].shared - self.costs[name].shared
            yearly = max(alone, shared) / self.years / max(self.steered, 1)
            pays = yearly >= WORTH_PER_YEAR
            verdict = "More than" if pays else "Cleverness does not pay here: it is less than"
            found.append(
                f"{name} saves {alone:.2f} {self.currency} against {plain} where each building is alone with its "
                f"retailer, {shared:.2f} where neighbours exchange for nothing: at this rate at best {yearly:.2f} a "
                f"year for each building with something to steer. {verdict} the {WORTH_PER_YEAR:.0f} that a small "
                "computer costs a year."
            )
        return found

    def _reference(self) -> str:
        best = min(self.costs, key=lambda name: self.costs[name].shared)
        shared = self.costs[best].shared
        exchange = self.costs[best].alone - shared
        return (
            f"Free exchange between neighbours is worth {exchange:.2f} {self.currency} under {best}, and planning the "
            f"whole district as one (the community optimum: {self.community.alone:.2f}) a further "
            f"{shared - self.community.alone:.2f} at most."
        )

    def document(self) -> dict[str, Any]:
        """As JSON: costs, what the arms' bills come to, reliability where there are outages, and the sentences."""
        return {
            "currency": self.currency,
            "steered_buildings": self.steered,
            "years": self.years,
            "community_optimum": asdict(self.community),
            "controllers": {
                name: {
                    **asdict(cost),
                    "above_community_optimum": cost.shared - self.community.alone,
                    "bills": {
                        arm: run.summary["money"]["cost_u"] / 1e6
                        for arm, run in zip(self.comparisons[name].names, self.comparisons[name].runs, strict=True)
                    },
                    **({"reliability": supply} if (supply := self.supply(name)) else {}),
                }
                for name, cost in self.costs.items()
            },
            "sentences": list(self.sentences),
        }


def compare_controllers(
    scenario: str | Path | Mapping[str, Any],
    out: str | Path,
    controllers: Sequence[str],
    *,
    rules: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    threads: int = 1,
    power_flow: str | None = None,
    overwrite: bool = False,
    report: bool = True,
    progress: Progress | None = None,
) -> ControllerStudy:
    """Run one scenario under several controllers, each with all arms of `peerwatt.compare`, in folders of their own.

    Parameters
    ----------
    controllers
        Battery controllers or planners of buildings by name; differences are told against the first. Buildings and
        assets that name a controller of their own keep it.
    rules
        As for `peerwatt.compare`; None: the scenario's own.

    Raises
    ------
    PeerwattError
        With the reason and the remedy.
    """
    from grid.sources.cache import cache_folder
    from peerwatt.controller_gaps import community_costs, controller_costs, without_outages
    from peerwatt.prepare import prepare
    from peerwatt.scenario import load_scenario

    folder, laid = Path(out), dict(overrides or {})
    names = list(dict.fromkeys(controllers))
    loaded = load_scenario(scenario, laid)
    own = loaded.scenario.market.stages[-1].rule
    chosen = {name: controlled_by(name, loaded.scenario.controllers.building) for name in names}
    comparisons, costs, system = {}, {}, None
    for i, name in enumerate(names):

        def told(done: int, total: int, arm: int = i) -> None:
            if progress is not None:
                progress(arm * total + done, len(names) * total)

        comparisons[name] = compare(
            scenario, folder / name.replace("_", "-"), rules=rules if rules is not None else [own],
            overrides=laid | chosen[name], threads=threads, power_flow=power_flow, overwrite=overwrite,
            report=report, progress=told,
        )  # fmt: skip
        alone = load_scenario(scenario, laid | chosen[name] | rule_stage("no_market"))
        system = without_outages(prepare(alone, cache_dir=cache_folder()))
        costs[name] = controller_costs(system)
    if system is None:
        raise ScenarioError("there is no controller to compare", remedy="name one or more")
    study = ControllerStudy(
        comparisons, costs, community_costs(system), loaded.scenario.currency, _steered(system),
        system.grid.n * system.grid.hours / _HOURS_A_YEAR, folder / FIGURES,
    )  # fmt: skip
    study.figures.write_text(json.dumps(study.document(), indent=2) + "\n", encoding="utf-8")
    return study


def controlled_by(name: str, planned: Any = None) -> dict[str, Any]:
    """What is laid over a scenario to have controller ``name`` in it; ``planned`` is the scenario's own planner.

    Raises
    ------
    ScenarioError
        If there is no such battery controller or planner.
    """
    from controllers.planners import find_planner
    from controllers.registry import controllers
    from peerwatt.scenario.planning import NONE, building_controller

    known = controllers()
    if name in known and known[name]["drives"] == "battery":
        return {"controllers.building": NONE, "controllers.battery": name}
    try:
        find_planner(name)
    except ScenarioError as error:
        raise ScenarioError(f"no controller is called {name!r}", path="--controllers", remedy=error.remedy) from None
    own = building_controller(planned)
    return {} if own is not None and own.kind == name else {"controllers.building": {"kind": name}}


def _steered(system: System) -> int:
    parts = (system.storage.columns, system.chargers.columns, system.heating.columns)
    return len({int(b) for part in parts for b in part.building})


def study_tables(study: ControllerStudy) -> list[Any]:
    """The figures for the terminal: by the yardstick, by the bills of every arm, and what outages did in every arm."""
    from rich.table import Table

    costs = Table(title=f"cost of the district at the margin [{study.currency}]")
    costs.add_column("controller")
    for heading in ("each alone", "neighbours exchange", "above the optimum", "missing at departures [kWh]"):
        costs.add_column(heading, justify="right")
    for name, cost in study.costs.items():
        above = cost.shared - study.community.alone
        costs.add_row(name, *(f"{x:.2f}" for x in (cost.alone, cost.shared, above, cost.missing_kwh)))
    best = study.community
    costs.add_row("community optimum", "", f"{best.alone:.2f}", "", f"{best.missing_kwh:.2f}")
    bills = Table(title=f"what all bills come to [{study.currency}]")
    bills.add_column("controller")
    arms = list(dict.fromkeys(arm for of in study.comparisons.values() for arm in of.names))
    for arm in arms:
        bills.add_column(arm, justify="right")
    for name, of in study.comparisons.items():
        total = {arm: run.summary["money"]["cost_u"] / 1e6 for arm, run in zip(of.names, of.runs, strict=True)}
        bills.add_row(name, *(f"{total[arm]:.2f}" if arm in total else "-" for arm in arms))
    supplied = {name: study.supply(name) for name in study.comparisons}
    if not any(supplied.values()):
        return [costs, bills]
    outages = Table(title="time without supply (SAIDI, min) / load not supplied (kWh)")
    outages.add_column("controller")
    for arm in arms:
        outages.add_column(arm, justify="right")
    for name, by_arm in supplied.items():
        outages.add_row(
            name, *("{:.1f} / {:.1f}".format(*_dark(by_arm[arm])) if arm in by_arm else "-" for arm in arms)
        )
    return [costs, bills, outages]


def _dark(reliability: Mapping[str, float | None]) -> tuple[float, float]:
    """Minutes without supply of each customer, and load that was not supplied [kWh]."""
    return float(reliability["saidi_minutes"] or 0.0), float(reliability["unserved_kwh"] or 0.0)
