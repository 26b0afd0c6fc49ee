"""Compare market rules on one district: run every arm, always with the low-tech ones, and lay them side by side.

The low-tech arms need no market: everybody with its retailer; the same under a time-of-use tariff; and sharing by a
fixed key. A rule that does not beat them is not worth its computer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import RunError, ScenarioError
from peerwatt.results.run import Run
from peerwatt.running import Progress, run

if TYPE_CHECKING:
    from peerwatt.scenario.models import Scenario

PAGE = "comparison.html"

NO_MARKET = "no market"
TIME_OF_USE = "time-of-use tariff"
STATIC_KEY = "static key"

CHEAP, DEAR = ("11:00", "15:00"), ("17:00", "21:00")
"""Local hours of the low-tech time-of-use tariff: cheap around noon, dear in the evening."""

CHEAP_FACTOR, DEAR_FACTOR = 0.7, 1.4
"""Its prices relative to the price at other hours, before it is scaled to cost the district the same."""

SHARE_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Arm:
    """One run of a comparison: its name, and what is laid over the scenario."""

    name: str
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison: its runs in the order of ``names``, and the page that shows them."""

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    page: Path | None

    @property
    def summaries(self) -> tuple[Mapping[str, Any], ...]:
        """``summary.json`` of each run."""
        return tuple(r.summary for r in self.runs)


def compare(
    targets: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    rules: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    threads: int = 1,
    power_flow: str | None = None,
    overwrite: bool = False,
    report: bool = True,
    progress: Progress | None = None,
) -> Comparison:
    """Run one scenario under several rules, or lay finished runs of one district side by side.

    Parameters
    ----------
    targets
        One scenario (with ``rules``), or two or more run folders.
    out
        Folder to write: ``comparison.html``, and the arms' run folders under ``arms/``.
    rules
        Registered names or Python files. The low-tech arms come beside them by themselves.
    overrides, threads, power_flow, overwrite, report, progress
        As for `peerwatt.run`; ``report`` is about the page of the comparison.

    Raises
    ------
    PeerwattError
        With the reason and the remedy.
    """
    listed = [targets] if isinstance(targets, str | Path) else list(targets)
    folder = Path(out)
    if rules is None:
        return _beside(listed, folder, report)
    if len(listed) != 1:
        raise RunError("rules compare one scenario", remedy="name one scenario, or leave the rules out")
    study = _Study(listed[0], folder, dict(overrides or {}), threads, power_flow, overwrite, progress, rules)
    return study.compare(report)


def _beside(folders: Sequence[str | Path], out: Path, report: bool) -> Comparison:
    from peerwatt.report.comparison import arm_names

    runs = tuple(Run(Path(f)) for f in folders)
    names = tuple(arm_names([r.summary for r in runs]))
    return Comparison(runs, names, _page(runs, names, out, ()) if report else None)


def _page(runs: Sequence[Run], names: Sequence[str], out: Path, sentences: Sequence[str]) -> Path:
    from peerwatt.report import write_comparison

    return write_comparison([r.folder for r in runs], out / PAGE, sentences=sentences, names=names)


class _Study:
    """The arms of one comparison, run one after the other."""

    def __init__(
        self,
        scenario: str | Path,
        out: Path,
        overrides: dict[str, Any],
        threads: int,
        power_flow: str | None,
        overwrite: bool,
        progress: Progress | None,
        rules: Sequence[str],
    ) -> None:
        from peerwatt.scenario import load_scenario

        self._scenario, self._out, self._overrides = scenario, out, overrides
        self._threads, self._power_flow, self._overwrite = threads, power_flow, overwrite
        self._progress = progress
        self._rules = list(dict.fromkeys(rules))
        self._n_arms = len(self._rules) + 3
        self._done = 0
        self._loaded: Scenario = load_scenario(scenario, overrides).scenario

    def compare(self, report: bool) -> Comparison:
        """Run everything; later arms need what the arm without a market has shown."""
        alone = self._run(Arm(NO_MARKET, _rule("no_market")))
        arms = {NO_MARKET: alone}
        sentences: list[str] = []
        tariff = time_of_use_overrides(self._loaded, alone)
        if tariff is None:
            sentences.append(
                "The scenario's tariffs vary with time already, so the arm without a market is the time-of-use arm."
            )
            self._n_arms -= 1
        else:
            name = f"{self._loaded.name}-time-of-use"
            arms[TIME_OF_USE] = self._run(Arm(TIME_OF_USE, {**_rule("no_market"), **tariff, "name": name}))
            sentences.append(
                "The time-of-use tariff costs the district as much as the flat one; nobody shifts demand to it here."
            )
        arms[STATIC_KEY] = self._run(Arm(STATIC_KEY, static_key_overrides(alone)))
        sentences.append("The static key gives each building the share of local energy that it has in all imports.")
        for rule in self._rules:
            if rule != "no_market":
                arms[Path(rule).stem.replace("_", " ")] = self._run(self._rule_arm(rule))
        runs, names = tuple(arms.values()), tuple(arms)
        return Comparison(runs, names, _page(runs, names, self._out, sentences) if report else None)

    def _rule_arm(self, rule: str) -> Arm:
        stage = self._loaded.market.stages[0]
        if rule == stage.rule:
            return Arm(rule)  # with the scenario's own parameters
        return Arm(rule, _rule(str(Path(rule).resolve()) if rule.endswith(".py") else rule))

    def _run(self, arm: Arm) -> Run:
        def told(done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(self._done * total + done, self._n_arms * total)

        finished = run(
            self._scenario,
            self._out / "arms" / Path(arm.name).stem.replace(" ", "-").replace("_", "-"),
            overrides={**self._overrides, **arm.overrides},
            threads=self._threads,
            power_flow=self._power_flow,
            overwrite=self._overwrite,
            report=False,
            progress=told,
        )
        self._done += 1
        return finished


def _rule(name: str, **parameters: Any) -> dict[str, Any]:
    return {"market.stages": [{"name": "spot", "rule": name, "parameters": parameters}]}


def static_key_overrides(alone: Run) -> dict[str, Any]:
    """Sharing by a fixed key: each building's share is its part of all imports of the run without a market."""
    imports = {name: row["import_kwh"] for name, row in alone.summary["buildings"].items() if row["import_kwh"] > 0}
    total = sum(imports.values())
    if not total:
        raise ScenarioError("nobody draws from the grid, so there is nothing to share by a key")
    unit = 10**SHARE_DIGITS
    shares = {name: f"{int(kwh / total * unit)}/{unit}" for name, kwh in imports.items()}  # rounded down: at most 1
    return _rule("sharing_keys", key="static", shares=shares)


def time_of_use_overrides(scenario: Scenario, alone: Run) -> dict[str, Any] | None:
    """Flat retail prices replaced by a time-of-use tariff that costs the district the same; None if none is flat."""
    factor = revenue_neutral_factor(alone)
    changed: dict[str, Any] = {}
    for name, contract in scenario.contracts.items():
        for i, terms in enumerate(contract.terms):
            flat = terms.retail.flat_per_kwh
            if flat is None:
                continue
            usual = flat * factor
            changed[f"contracts.{name}.terms[{i}].retail"] = {
                "flat_per_kwh": None,
                "default_per_kwh": round(usual, 6),
                "bands": [
                    _band(CHEAP, usual * CHEAP_FACTOR),
                    _band(DEAR, usual * DEAR_FACTOR),
                ],
            }
    return changed or None


def _band(hours: tuple[str, str], price: float) -> dict[str, Any]:
    return {"start": hours[0], "end": hours[1], "price_per_kwh": round(price, 6)}


def revenue_neutral_factor(alone: Run) -> float:
    """The usual price over the flat one, so that all imports of the run without a market cost the same."""
    slots = alone.table("slots", ["start_utc", "import_wh"])
    local = slots["start_utc"].dt.tz_convert(alone.static.zone).dt.strftime("%H:%M")
    weight = slots["import_wh"].astype(float)
    factors = weight * 0.0 + 1.0
    factors[(local >= CHEAP[0]) & (local < CHEAP[1])] = CHEAP_FACTOR
    factors[(local >= DEAR[0]) & (local < DEAR[1])] = DEAR_FACTOR
    total = float((weight * factors).sum())
    return float(weight.sum()) / total if total else 1.0
