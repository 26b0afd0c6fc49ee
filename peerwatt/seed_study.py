"""A comparison repeated over seeds: how much of a difference between rules is the luck of what was drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import RunError
from peerwatt.comparing import Comparison, compare
from peerwatt.running import Progress

if TYPE_CHECKING:
    from peerwatt.report.uncertainty import FigureOverSeeds

FIGURES = "seeds.json"
PAGE = "seeds.html"


@dataclass(frozen=True, slots=True)
class SeedStudy:
    """A finished study: its comparisons by seed, and what they say together."""

    seeds: tuple[int, ...]
    names: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    figures: tuple[FigureOverSeeds, ...]
    sentences: tuple[str, ...]
    page: Path | None


def compare_over_seeds(
    scenario: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    rules: Sequence[str],
    seeds: int,
    overrides: Mapping[str, Any] | None = None,
    threads: int = 1,
    power_flow: str | None = None,
    overwrite: bool = False,
    report: bool = True,
    progress: Progress | None = None,
) -> SeedStudy:
    """Run a comparison under ``seeds`` seeds, from the scenario's own upward, and lay intervals over every figure.

    Parameters
    ----------
    out
        Folder to write: ``seed-N/`` with the comparison of each seed, ``seeds.json`` and ``seeds.html``.

    The other parameters are those of `peerwatt.compare`.

    Raises
    ------
    PeerwattError
        With the reason and the remedy; where nothing in the scenario is drawn by seed, too.
    """
    from peerwatt.report.uncertainty import as_json, over_seeds
    from peerwatt.scenario import load_scenario

    if seeds < 2:
        raise RunError(f"{seeds} seed gives no interval", remedy="compare over at least 2 seeds, better 10 or more")
    first = load_scenario(scenario, dict(overrides or {})).scenario.seed
    numbers = tuple(range(first, first + seeds))
    folder = Path(out)
    comparisons: list[Comparison] = []
    for k, seed in enumerate(numbers):
        comparisons.append(
            compare(
                scenario,
                folder / f"seed-{seed}",
                rules=rules,
                overrides={**(overrides or {}), "seed": seed},
                threads=threads,
                power_flow=power_flow,
                overwrite=overwrite,
                report=report,
                progress=_part(progress, k, seeds),
            )
        )
    # an arm counts where it ran under every seed: a rule may be inapplicable to what one of them drew
    names = tuple(n for n in comparisons[0].names if all(n in c.names for c in comparisons))
    per_seed = [[c.runs[c.names.index(n)].summary for n in names] for c in comparisons]
    figures = tuple(over_seeds(per_seed, names))
    sentences = (*comparisons[0].sentences, *_sentences(figures, numbers, comparisons, names))
    (folder / FIGURES).write_text(json.dumps(as_json(figures, names, numbers), indent=2) + "\n", encoding="utf-8")
    page = None
    if report:
        from peerwatt.report.seeds_page import write_seeds_page

        page = write_seeds_page(
            comparisons[0].runs[0].static, per_seed, names, numbers, figures, sentences, folder / PAGE
        )
    return SeedStudy(numbers, names, tuple(comparisons), figures, sentences, page)


def _part(progress: Progress | None, k: int, seeds: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(k * total + done, seeds * total)


def _sentences(
    figures: Sequence[FigureOverSeeds], seeds: Sequence[int], comparisons: Sequence[Comparison], names: Sequence[str]
) -> list[str]:
    said: list[str] = []
    if all(e.method == "no spread" for f in figures for e in f.estimates if e.known):
        said.append(
            f"All {len(seeds)} seeds give the same figures: nothing in this scenario is drawn by seed. Bidding at "
            "random (zi_c), placing by seed or noisy forecasts would be."
        )
    from peerwatt.report.uncertainty import enough_seeds, varies

    constant = [f.kpi.name for f in figures if not varies(f)]
    if constant:
        said.append(f"The same in every arm and under every seed: {', '.join(constant)}.")
    pairs = max((len(f.pairs) for f in figures if varies(f)), default=0)
    if pairs and len(seeds) < enough_seeds(pairs):
        said.append(
            f"With {len(seeds)} seeds no paired test among {pairs} pairs of arms can reach the 5 % level, however "
            f"clear the difference: take {enough_seeds(pairs)} seeds or more, or fewer rules. Intervals and effect "
            "sizes stand."
        )
    lost = sorted({n for c in comparisons for n in c.names} - set(names))
    said += [f"{arm} ran under some seeds only and is left out." for arm in lost]
    return said
