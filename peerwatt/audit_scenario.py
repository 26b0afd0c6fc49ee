"""The audit of a scenario: who gains and who loses by household kind, and what the wires say of the result.

The scenario is run under every rule. Household figures compare each building's bill with the one it would have had
alone; feasibility is that of the run's own AC power flow. Books recorded from the run go into the rule's audit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import MarketError
from core.statistics import Estimate, PairedDifference, all_pairs, mean_estimate, proportion_estimate

if TYPE_CHECKING:
    from market.audit import AuditBook, MeterBook
    from market.registry import Rule
    from peerwatt.results.run import Run

KINDS = ("equipment", "tenure", "income_band", "roof", "vulnerable")
"""What households are told apart by; see `BuildingInfo`."""
TABLES = ("slots", "buildings", "violations")
"""Tables of a run that its audit reads."""

Progress = Callable[[str, int, int], None]
Skip = Callable[[str, str], None]
"""Told the name of a rule that is left out, and the reason."""


@dataclass(frozen=True, slots=True)
class Household:
    """One kind of household under one rule: savings in currency over the run, and how many pay more than alone."""

    kind: str
    value: str
    savings: Estimate
    losers: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "kind": self.kind,
            "value": self.value,
            "savings": self.savings.as_dict(),
            "losers": self.losers.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class ScenarioAudit:
    """One rule in one scenario.

    Parameters
    ----------
    rule, folder, currency
        The rule's name, its run folder, the money.
    households
        By kind, see `Household`; the first is everybody.
    feasibility
        ``checked`` says whether a power flow was made; then violations as ``summary.json`` counts them.
    prices, self_supply
        Volatility and self-sufficiency as ``summary.json`` has them.
    savings
        Building -> what it saved [currency], buildings that count as households or businesses only.
    """

    rule: str
    folder: Path
    currency: str
    households: tuple[Household, ...]
    feasibility: Mapping[str, Any]
    prices: Mapping[str, Any]
    self_supply: Mapping[str, Any]
    savings: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the folder: where a run stands is not its result."""
        return {
            "rule": self.rule,
            "currency": self.currency,
            "households": [h.as_dict() for h in self.households],
            "feasibility": dict(self.feasibility),
            "prices": dict(self.prices),
            "self_supply": dict(self.self_supply),
            "savings": dict(self.savings),
        }


def audit_scenario(
    scenario: str | Path | Mapping[str, Any],
    rules: Sequence[str | Rule],
    out: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    threads: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
    skip: Skip | None = None,
) -> list[ScenarioAudit]:
    """Run a scenario under every rule and look at its households and wires.

    Parameters
    ----------
    scenario
        Name, file or mapping.
    rules
        Registered names, Python files, or rules with their parameters.
    out
        Folder under which each rule's run is written.
    overrides, threads, overwrite
        As for `peerwatt.run`.
    progress
        Told what is run, and slots done of all.
    skip
        Told which rule cannot clear the scenario's slots, and why; it is then left out. None = the error is raised.

    Raises
    ------
    PeerwattError
        With the reason and the remedy.
    """
    from peerwatt.running import run
    from peerwatt.scenario import load_scenario

    tables = list(dict.fromkeys((*load_scenario(scenario, overrides).scenario.outputs.tables, *TABLES)))
    laid = {**(overrides or {}), "outputs.tables": tables}
    audits: list[ScenarioAudit] = []
    for rule in rules:
        name = Path(rule).stem if isinstance(rule, str) else rule.name

        def told(done: int, of: int, name: str = name) -> None:
            if progress is not None:
                progress(f"running {name}", done, of)

        try:
            finished = run(
                scenario,
                Path(out) / name.replace("_", "-"),
                overrides=laid,
                rule=rule,
                threads=threads,
                overwrite=overwrite,
                resume=not overwrite,
                report=False,
                progress=told,
            )
        except MarketError as error:
            if skip is None:
                raise
            skip(name, error.message)
            continue
        audits.append(of_run(finished))
    return audits


def of_run(run: Run) -> ScenarioAudit:
    """The audit's figures of a finished run."""
    summary = run.summary
    counted = {x: b for x, b in summary["buildings"].items() if b["counted"]}
    savings = {x: float(b["savings"]) for x, b in counted.items()}
    of_kind: dict[str, dict[str, list[str]]] = {kind: {} for kind in KINDS}
    for info in run.static.buildings:
        if info.id not in counted:
            continue
        told = {
            "equipment": counted[info.id]["equipment"],
            "tenure": info.tenure,
            "income_band": info.income_band,
            "roof": info.roof,
            "vulnerable": info.vulnerable,
        }
        for kind, value in told.items():
            of_kind[kind].setdefault(_word(value), []).append(info.id)
    households = [_household("all", "all", list(savings.values()))]
    for kind, groups in of_kind.items():
        known = [value for value in sorted(groups) if value != "unknown"]
        households += [_household(kind, value, [savings[x] for x in groups[value]]) for value in known]
    return ScenarioAudit(
        rule=str(summary["run"]["rule"]),
        folder=run.folder,
        currency=str(summary["run"]["currency"]),
        households=tuple(households),
        feasibility=dict(summary["violations"]),
        prices=dict(summary["prices"]),
        self_supply=dict(summary["self_supply"]),
        savings=savings,
    )


def _word(value: str | bool | None) -> str:
    if value is None:
        return "unknown"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _household(kind: str, value: str, savings: Sequence[float]) -> Household:
    losers = proportion_estimate(sum(s < 0 for s in savings), len(savings))
    return Household(kind, value, mean_estimate(savings), losers)


def savings_differences(audits: Sequence[ScenarioAudit]) -> list[PairedDifference]:
    """Every pair of rules on the same buildings' savings, Holm-corrected [currency over the run]."""
    if len(audits) < 2:
        return []
    shared = [x for x in audits[0].savings if all(x in a.savings for a in audits)]
    return all_pairs({a.rule: [a.savings[x] for x in shared] for a in audits})


def recorded(
    audits: Sequence[ScenarioAudit], n: int, seed: int, scenario: str | Path | Mapping[str, Any] | None
) -> list[AuditBook | MeterBook]:
    """Books and meters recorded from the first run of a scenario."""
    from peerwatt.audit_books import recorded_books, recorded_meters

    folder = audits[0].folder
    books: list[AuditBook | MeterBook] = []
    books += recorded_books(folder, n, seed, scenario=scenario)
    books += recorded_meters(folder, n, seed, scenario=scenario)
    return books
