"""Compare market rules on one district: run every arm, always with the low-tech ones, and lay them side by side.

The low-tech arms need no market: everybody with its retailer; the same under a time-of-use tariff; and sharing by a
fixed key. A rule that does not beat them is not worth its computer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import MarketError, RunError, ScenarioError
from peerwatt.low_tech import (
    STATIC_KEY,
    TIME_OF_USE,
    rule_in_place,
    rule_stage,
    stands_alone,
    static_key_overrides,
    time_of_use_overrides,
)
from peerwatt.results.run import Run
from peerwatt.running import Progress, run

if TYPE_CHECKING:
    from peerwatt.scenario import LoadedScenario

PAGE = "comparison.html"

NO_MARKET = "no market"
MEASURED: tuple[str, ...] = ("slots", "buildings")
"""Tables that the arm without a market writes in any case: the low-tech arms are made from them."""


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
    sentences: tuple[str, ...] = ()
    """What a reader must know of the arms: how the low-tech ones are made, which rule could not be run and why."""

    @property
    def summaries(self) -> tuple[Mapping[str, Any], ...]:
        """``summary.json`` of each run."""
        return tuple(r.summary for r in self.runs)


def compare(
    targets: str | Path | Mapping[str, Any] | Sequence[str | Path],
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
        One scenario (with ``rules``; a name, a file or a mapping), or two or more run folders.
    out
        Folder to write: ``comparison.html``, and the arms' run folders under ``arms/``. Arms that are finished there
        already, or were interrupted, are taken up where they stand, unless ``overwrite`` says to run them anew.
    rules
        Registered names or Python files. The low-tech arms come beside them by themselves.
    overrides, threads, power_flow, overwrite, report, progress
        As for `peerwatt.run`; ``report`` is about the page of the comparison.

    Raises
    ------
    PeerwattError
        With the reason and the remedy.
    """
    folder = Path(out)
    if rules is None:
        if isinstance(targets, str | Path | Mapping):
            raise RunError("one scenario or run alone cannot be compared", remedy="name rules, or further run folders")
        return _beside(targets, folder, report)
    scenario = targets if isinstance(targets, str | Path | Mapping) else targets[0] if len(targets) == 1 else None
    if scenario is None:
        raise RunError("rules compare one scenario", remedy="name one scenario, or leave the rules out")
    study = _Study(scenario, folder, dict(overrides or {}), threads, power_flow, overwrite, progress, rules)
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
        scenario: str | Path | Mapping[str, Any],
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
        self._loaded: LoadedScenario = load_scenario(scenario, overrides)
        self._said: list[str] = []
        self._arms = self._rule_arms(dict.fromkeys(rules))
        self._n_arms = len(self._arms) + 3
        self._done = 0

    def compare(self, report: bool) -> Comparison:
        """Run everything; later arms need what the arm without a market has shown."""
        scenario = self._loaded.scenario
        tables = list(dict.fromkeys((*scenario.outputs.tables, *MEASURED)))
        alone = self._run(Arm(NO_MARKET, {**rule_stage("no_market"), "outputs.tables": tables}))
        arms = {NO_MARKET: alone}
        tariff, sentence = time_of_use_overrides(scenario, alone)
        sentences = [sentence]
        if tariff is None:
            self._n_arms -= 1
        else:
            name = f"{scenario.name}-time-of-use"
            arms[TIME_OF_USE] = self._run(Arm(TIME_OF_USE, {**rule_stage("no_market"), **tariff, "name": name}))
        try:
            arms[STATIC_KEY] = self._run(Arm(STATIC_KEY, static_key_overrides(alone)))
            sentences.append("The static key gives each building the share of local energy that it has in all imports.")
        except (MarketError, ScenarioError) as error:
            sentences.append(f"The static key is left out: {error.message}.")
        sentences += self._said
        if any(building.community for building in alone.static.buildings):
            sentences.append("The community battery stands idle in the low-tech arms, where it has nobody to serve.")
        for arm in self._arms:
            try:
                arms[arm.name] = self._run(arm)
            except (MarketError, ScenarioError) as error:  # the others are still worth comparing
                sentences.append(f"The rule {arm.name} is left out: {error.message}.")
        runs, names = tuple(arms.values()), tuple(arms)
        page = _page(runs, names, self._out, sentences) if report else None
        return Comparison(runs, names, page, tuple(sentences))

    def _rule_arms(self, rules: Iterable[str]) -> list[Arm]:
        """An arm for each rule, each of which must be there before anything runs."""
        from peerwatt.prepare.market import choose_rule

        scenario = self._loaded.scenario
        stage = self._loaded.scenario.market.stages[-1]
        arms: list[Arm] = []
        for rule in rules:
            if rule == "no_market":
                continue
            laid: dict[str, Any] = {}  # the scenario's own rule keeps its parameters
            if rule == stage.rule:
                found = choose_rule(self._loaded, None)
            else:
                found = choose_rule(self._loaded, rule)
                laid = rule_in_place(scenario, str(Path(rule).resolve()) if rule.endswith(".py") else rule, found)
                if stands_alone(scenario, found):
                    words = found.name.replace("_", " ")
                    self._said.append(
                        f"{words} works on meters and stands alone, without the scenario's stages and levels."
                    )
            arms.append(Arm(found.name.replace("_", " "), laid))
        return arms

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
            resume=not self._overwrite,
            report=False,
            progress=told,
        )
        self._done += 1
        return finished
