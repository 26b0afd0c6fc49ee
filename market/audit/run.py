"""Audit a rule: try it on families of books, measure, search for misreports, hold it against what it declares."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from core.errors import MarketError
from core.statistics import PairedDifference, holm_corrected, paired_difference
from market.audit.books import AuditBook, MeterBook
from market.audit.families import FAMILIES, METER_FAMILIES, RECORDED, make_books, make_meters
from market.audit.meter_outcome import MeterOutcome, measure_meters
from market.audit.metrics import METRICS, Outcome, book_values, estimates, grouped
from market.audit.misreport import Search
from market.audit.outcome import BookOutcome, measure
from market.audit.people import gains_by_side
from market.audit.report import AuditComparison, AuditReport
from market.audit.sizes import by_size, told
from market.audit.verdicts import judge
from market.facade import clear, share_meters
from market.registry import BidRule, MeterRule, Rule, make_rule, rule_info

if TYPE_CHECKING:
    from concurrent.futures import Executor

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many books of all are done."""

BOOKS = 40
"""Books of each family, where nothing else is asked for."""
FULL = Search()
QUICK_BOOKS = 8
QUICK = Search(most=12)
"""A quick audit's search: twelve prices for each order."""

COMPARED = ("efficiency_mean", "trader_efficiency", "operator_share", "ir_share", "gain", "gain_mean", "gain_price",
            "gain_quantity", "gini", "jain", "messages", "payload")  # fmt: skip
"""Metrics that rules are compared in, book by book."""

_CHUNK = 16


def audit(
    rule: str | Rule | type[Rule],
    *,
    families: Sequence[str] | None = None,
    books: int = BOOKS,
    seed: int = 0,
    misreports: Search = FULL,
    agents_per_side: int | None = None,
    recorded: Sequence[AuditBook | MeterBook] = (),
    sizes: bool = False,
    processes: int = 1,
    progress: Progress | None = None,
    **parameters: Any,
) -> AuditReport:
    """Measure a rule on seeded families of books and compare it with what it declares.

    Parameters
    ----------
    rule
        A registered name, a rule class, or a rule with its parameters.
    families
        Of `market.audit.families.FAMILIES` (or ``METER_FAMILIES`` for a rule on meters); None = all.
    books
        Of each family.
    seed
        Of everything drawn.
    misreports
        What is searched, and how finely.
    agents_per_side
        Fixed number, or None: 2, 3, 5 and 10 in turn.
    recorded
        Further books, recorded from a run.
    sizes
        Also measure efficiency against market size, on books of its own; see `market.audit.sizes`.
    processes
        Processes to spread the books over; the report is the same for every number.
    progress
        Told how far it is.
    **parameters
        The rule's parameters.

    Returns
    -------
    AuditReport
        Equal arguments give equal bytes.

    Raises
    ------
    MarketError
        For an unknown rule, parameter or family, or families of which the rule takes none.
    """
    ready = make_rule(rule, parameters)
    check_families(ready, families, recorded)
    made = _books(ready, families, books, seed, agents_per_side, recorded)
    outcomes = _measured(ready, made, misreports, processes, progress)
    if progress is not None:
        progress("shrinking", len(outcomes), len(outcomes))
    verdicts = tuple(judge(ready, outcomes, misreports))
    report = _report(ready, outcomes, verdicts, _settings(ready, families, books, seed, misreports, agents_per_side))
    return dataclasses.replace(report, sizes=told(ready, by_size(ready, seed=seed))) if sizes else report


def audit_many(
    rules: Sequence[str | Rule | type[Rule]], *, progress: Progress | None = None, **options: Any
) -> AuditComparison:
    """Audit several rules on the same books and compare them pair by pair.

    Parameters
    ----------
    rules
        As for `audit`.
    progress, **options
        As for `audit`.

    Raises
    ------
    MarketError
        As `audit`.
    """
    reports: list[AuditReport] = []
    for rule in rules:
        name = make_rule(rule).name

        def told(what: str, done: int, of: int, name: str = name) -> None:
            if progress is not None:
                progress(f"{name}: {what}", done, of)

        reports.append(audit(rule, progress=told, **options))
    return AuditComparison(reports=tuple(reports), differences=differences(reports))


def differences(reports: Sequence[AuditReport]) -> dict[str, tuple[PairedDifference, ...]]:
    """Every pair of rules in every compared metric, on the books that both cleared; Holm-corrected by metric.

    Families of orders and of meters share names and not books: a rule on orders and one on meters have only the
    recorded slots in common.
    """
    keyed = [{key: k for k, key in enumerate(zip(r.books["family"], r.books["index"], strict=True))} for r in reports]
    out: dict[str, tuple[PairedDifference, ...]] = {}
    for metric in COMPARED:
        found: list[PairedDifference] = []
        for i, a in enumerate(reports):
            for j in range(i + 1, len(reports)):
                b = reports[j]
                if metric not in a.books or metric not in b.books:
                    continue
                alike = a.rule["meter_based"] == b.rule["meter_based"]
                if metric.startswith("gain") and not alike:
                    continue  # a misreport and energy thrown away are not the same gain
                shared = [k for k in keyed[i] if k in keyed[j] and (alike or k[0] == RECORDED)]
                rows = [(a.books[metric][keyed[i][k]], b.books[metric][keyed[j][k]]) for k in shared]
                both = [(x, y) for x, y in rows if x is not None and y is not None]
                if both:
                    columns = [x for x, _ in both], [y for _, y in both]
                    found.append(paired_difference(*columns, names=(a.name, b.name)))
        if found:
            out[metric] = tuple(holm_corrected(found))
    return out


def check_families(rule: Rule, families: Sequence[str] | None, recorded: Sequence[AuditBook | MeterBook] = ()) -> None:
    """Refuse families that are not known, and those without a book for the rule, which takes orders or meters.

    Raises
    ------
    MarketError
        Naming the family and those that there are.
    """
    metered = isinstance(rule, MeterRule)
    own, other = (METER_FAMILIES, FAMILIES) if metered else (FAMILIES, METER_FAMILIES)
    for name in families or ():
        if name not in {*own, *other, RECORDED}:
            listed = ", ".join({**FAMILIES, **METER_FAMILIES})
            raise MarketError(f"there is no family {name!r}", remedy=f"families of books and meters are: {listed}")
    if families is None or recorded or any(name in own for name in families):
        return
    if RECORDED in families:
        raise MarketError("nothing was recorded", remedy="books are recorded from a scenario: add --scenario")
    takes = "meters" if metered else "orders"
    named = ", ".join(families) or "none"
    raise MarketError(
        f"{rule.name} takes {takes}, and no family of {takes} is named, but {named}",
        remedy=f"name one of {', '.join(own)}",
    )


def _books(
    rule: Rule,
    families: Sequence[str] | None,
    books: int,
    seed: int,
    agents_per_side: int | None,
    recorded: Sequence[AuditBook | MeterBook],
) -> list[AuditBook | MeterBook]:
    if isinstance(rule, MeterRule):
        known = [f for f in METER_FAMILIES if families is None or f in families]
        metered = make_meters(known, books, seed=seed)
        return [*metered, *(b for b in recorded if isinstance(b, MeterBook))]
    names = [f for f in FAMILIES if families is None or f in families]
    network = rule.declares.needs_network
    made = make_books(names, books, seed=seed, agents_per_side=agents_per_side, network=network)
    return [*made, *(b for b in recorded if isinstance(b, AuditBook))]


# --- measuring --------------------------------------------------------------------------------------------------------


def _measure_one(rule: Rule, book: AuditBook | MeterBook, search: Search) -> Outcome:
    if isinstance(rule, BidRule) and isinstance(book, AuditBook):
        return measure(rule, book, search)
    assert isinstance(rule, MeterRule) and isinstance(book, MeterBook)
    return measure_meters(rule, book, waste=search.quantity)


def _measure_chunk(rule: Rule, books: Sequence[AuditBook | MeterBook], search: Search) -> list[Outcome]:
    return [_measure_one(rule, book, search) for book in books]


def _measured(
    rule: Rule,
    books: Sequence[AuditBook | MeterBook],
    search: Search,
    processes: int,
    progress: Progress | None,
) -> list[Outcome]:
    """Outcomes in the order of the books, however they are spread."""
    chunks = [books[k : k + _CHUNK] for k in range(0, len(books), _CHUNK)]
    outcomes: list[Outcome] = []
    executor = _executor(processes) if processes > 1 and len(chunks) > 1 else None
    if executor is None:
        for chunk in chunks:
            outcomes += _measure_chunk(rule, chunk, search)
            _tell(progress, len(outcomes), len(books))
        return outcomes
    with executor:
        for part in executor.map(_measure_chunk, *zip(*((rule, chunk, search) for chunk in chunks), strict=True)):
            outcomes += part
            _tell(progress, len(outcomes), len(books))
    return outcomes


def _tell(progress: Progress | None, done: int, of: int) -> None:
    if progress is not None:
        progress("books", done, of)


def _executor(processes: int) -> Executor | None:
    """Processes that have this one's rules, also those of somebody's own file; None where they cannot be had."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    if "fork" not in multiprocessing.get_all_start_methods():
        return None
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork"))


# --- reporting --------------------------------------------------------------------------------------------------------


def _settings(
    rule: Rule, families: Sequence[str] | None, books: int, seed: int, search: Search, agents_per_side: int | None
) -> dict[str, Any]:
    known = METER_FAMILIES if isinstance(rule, MeterRule) else FAMILIES
    return {
        "seed": seed,
        "books_per_family": books,
        "families": [f for f in known if families is None or f in families],
        "agents_per_side": agents_per_side,
        "misreports": dataclasses.asdict(search),
    }


def _report(
    rule: Rule, outcomes: Sequence[Outcome], verdicts: tuple[Any, ...], settings: Mapping[str, Any]
) -> AuditReport:
    done = [o for o in outcomes if o.measured]
    values = [book_values(o) for o in done]
    by_key = {id(o): v for o, v in zip(done, values, strict=True)}

    def of(group: Sequence[Outcome]) -> dict[str, Any]:
        return estimates(group, values=[by_key[id(o)] for o in group])

    return AuditReport(
        rule=_told(rule),
        settings=settings,
        verdicts=verdicts,
        metrics=of(done),
        by_family={k: of(v) for k, v in grouped(done, lambda o: o.book.family).items()},
        by_size={k: of(v) for k, v in sorted(grouped(done, _agents).items())},
        families=_families(outcomes),
        reveals=dict(rule.declares.reveals),
        books=_columns(done, values),
        examples=tuple(_example(rule, o) for o in _shown(done)),
        gains=gains_by_side(done),
    )


def _agents(outcome: Outcome) -> int:
    book = outcome.book
    return len(book.agents) if isinstance(book, AuditBook) else len(book.meters.members)


def _told(rule: Rule) -> dict[str, Any]:
    info = rule_info(type(rule))
    own = {f.name: _plain(getattr(rule, f.name)) for f in dataclasses.fields(rule)}  # type: ignore[arg-type]
    declares = {k: _plain(v) for k, v in info.declares.items()}
    return {
        "name": info.name, "version": info.version, "summary": info.summary, "section": info.section,
        "source": info.source, "meter_based": info.meter_based, "pairs": info.pairs, "parameters": own,
        "declares": declares,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)


def _families(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for family, group in grouped(outcomes, lambda o: o.book.family).items():
        refused = [o.refused for o in group if o.refused is not None]
        failed = [o.failure for o in group if o.failure is not None]
        out[family] = {
            "books": len(group),
            "cleared": sum(o.measured for o in group),
            "refused": len(refused),
            "reason": refused[0] if refused else failed[0] if failed else "",
            "failed": len(failed),
        }
    return out


def _columns(done: Sequence[Outcome], values: Sequence[Mapping[str, float]]) -> dict[str, list[Any]]:
    names = [name for name in METRICS if any(name in v for v in values)]
    return {
        "family": [o.book.family for o in done],
        "index": [o.book.index for o in done],
        "agents": [_agents(o) for o in done],
        **{name: [v.get(name) for v in values] for name in names},
    }


def _shown(done: Sequence[Outcome]) -> list[Outcome]:
    """One book of each family worth drawing: the first with five agents a side, or the first."""
    groups = grouped(done, lambda o: o.book.family).values()
    return [next((o for o in group if _agents(o) == 10), group[0]) for group in groups]


def _example(rule: Rule, outcome: Outcome) -> dict[str, Any]:
    """A book with its result in full."""
    if isinstance(outcome, BookOutcome) and isinstance(rule, BidRule):
        book = outcome.book
        result = clear(rule, book.orders, context=book.context)
        deviations = [d.as_dict() for kind in outcome.found if (d := outcome.best(kind)) is not None]
        return {
            **book.as_dict(),
            "fills": dict(sorted(result.fills.items())),
            "payments_u": {a: str(Fraction(p)) for a, p in sorted(result.payments.items())},
            "price_u": None if result.price is None else str(result.price),
            "welfare_u": str(outcome.welfare_u),
            "optimum_u": str(outcome.optimum_u),
            "surplus_u": str(outcome.surplus_u),
            "gains": deviations,
        }
    assert isinstance(outcome, MeterOutcome) and isinstance(rule, MeterRule)
    shared = share_meters(rule, outcome.book.meters)
    return {
        **outcome.book.as_dict(),
        "local_wh": dict(sorted(shared.local_wh.items())),
        "payments_u": {m: str(b) for m, b in sorted(outcome.bills.items())},
        "alone_u": {m: str(b) for m, b in sorted(outcome.alone.items())},
        "welfare_u": str(outcome.welfare_u),
        "optimum_u": str(outcome.optimum_u),
        "surplus_u": str(outcome.surplus_u),
        "gains": [] if outcome.waste is None else [outcome.waste.as_dict()],
    }
