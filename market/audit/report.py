"""An audit's outcome as data: what the terminal, the page and a program read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.hashing import canonical_json
from core.statistics import Estimate, PairedDifference
from market.audit.metrics import METRICS
from market.audit.people import SideGains
from market.audit.verdicts import Verdict

FORMAT = 1
"""Version of the document that ``to_json`` writes."""


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """One rule's audit.

    Parameters
    ----------
    rule
        Name, version, parameters, summary, section, source, what it declares, whether it works on meters.
    settings
        Seed, books per family, families, the search.
    verdicts
        On every property.
    metrics
        Name -> estimate over all books the rule cleared.
    by_family, by_size
        The same for each family, and for each number of agents.
    families
        Family -> books made, cleared, refused, and the reason of the first refusal.
    reveals
        Whom the rule tells what, as it declares: party -> things.
    books
        Columns with one entry per cleared book: family, index, agents, and every metric of ``book_values``; what paired
        comparisons and pictures are made of. None where a metric is not defined.
    examples
        A few books with their results in full, to be drawn as supply and demand curves.
    gains
        What each side of the market gets out of it, see `market.audit.people.SideGains`.
    sizes
        Efficiency against market size, see `market.audit.sizes.told`; None = not asked for.
    """

    rule: Mapping[str, Any]
    settings: Mapping[str, Any]
    verdicts: tuple[Verdict, ...]
    metrics: Mapping[str, Estimate]
    by_family: Mapping[str, Mapping[str, Estimate]]
    by_size: Mapping[int, Mapping[str, Estimate]]
    families: Mapping[str, Mapping[str, Any]]
    reveals: Mapping[str, tuple[str, ...]]
    books: Mapping[str, Sequence[Any]]
    examples: tuple[Mapping[str, Any], ...] = field(default=())
    gains: tuple[SideGains, ...] = ()
    sizes: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The rule's name."""
        return str(self.rule["name"])

    @property
    def failed(self) -> bool:
        """Whether a declared property is refuted."""
        return any(v.refuted for v in self.verdicts)

    def verdict(self, name: str) -> Verdict:
        """The verdict on one property."""
        return next(v for v in self.verdicts if v.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain data; the same audit gives the same data."""
        return {
            "format": FORMAT,
            "rule": dict(self.rule),
            "settings": dict(self.settings),
            "failed": self.failed,
            "verdicts": [v.as_dict() for v in self.verdicts],
            "metrics": _estimates(self.metrics),
            "definitions": {
                m.name: {"title": m.title, "definition": m.definition, "better": m.better} for m in METRICS.values()
            },
            "by_family": {k: _estimates(v) for k, v in self.by_family.items()},
            "by_size": {str(k): _estimates(v) for k, v in self.by_size.items()},
            "families": {k: dict(v) for k, v in self.families.items()},
            "reveals": {k: list(v) for k, v in self.reveals.items()},
            "books": {k: list(v) for k, v in self.books.items()},
            "examples": list(self.examples),
            "gains": [g.as_dict() for g in self.gains],
            "sizes": None if self.sizes is None else dict(self.sizes),
        }

    def to_json(self) -> bytes:
        """Canonical JSON: the same audit gives the same bytes."""
        return canonical_json(self.as_dict())


@dataclass(frozen=True, kw_only=True)
class AuditComparison:
    """Several rules on the same books.

    ``differences`` holds, by metric, every pair of rules on the books that both cleared; p-values are corrected over
    all pairs of one metric (Holm).
    """

    reports: tuple[AuditReport, ...]
    differences: Mapping[str, tuple[PairedDifference, ...]]

    @property
    def failed(self) -> bool:
        """Whether a declared property of any rule is refuted."""
        return any(r.failed for r in self.reports)

    def as_dict(self) -> dict[str, Any]:
        """Plain data; the same audits give the same data."""
        return {
            "format": FORMAT,
            "reports": [r.as_dict() for r in self.reports],
            "differences": {name: [d.as_dict() for d in found] for name, found in self.differences.items()},
        }

    def to_json(self) -> bytes:
        """Canonical JSON: the same audits give the same bytes."""
        return canonical_json(self.as_dict())


def _estimates(values: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: e.as_dict() for name, e in values.items()}
