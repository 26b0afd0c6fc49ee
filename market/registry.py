"""Rules and strategies by name, and the base classes they are written on.

A rule is one file: a frozen dataclass whose fields are its parameters, class variables that declare its properties, and
a pure ``clear`` (orders) or ``share`` (meters). It becomes known by ``@register_rule``, by the entry-point group
``peerwatt.rules`` of an installed package, or by a file path (`load_rule_file`). docs/rules.md shows how to write one.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar, TypeVar

from numpy.typing import NDArray

from core.errors import MarketError
from core.hashing import sha256_hex
from market.book import Book, BookBatch, Context, Int, Meters
from market.parameters import (
    choice_parameter,
    flag_parameter,
    fraction_parameter,
    integer_parameter,
    parameter,
)
from market.result import BatchClearing, BatchSharing, Result, RuleInfo, Shared
from market.terms import Terms, why_not

__all__ = [
    "BUDGETS",
    "ENTRY_POINT_GROUP",
    "BidRule",
    "Declares",
    "MeterRule",
    "Rule",
    "broken_plugins",
    "check_named",
    "choice_parameter",
    "flag_parameter",
    "fraction_parameter",
    "integer_parameter",
    "load_rule_file",
    "make_rule",
    "make_strategy",
    "parameter",
    "register_rule",
    "register_strategy",
    "rule_class",
    "rule_classes",
    "rule_info",
    "strategy_classes",
]

ENTRY_POINT_GROUP = "peerwatt.rules"
BUDGETS = ("strong", "weak", "none", "deficit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declares:
    """Properties a rule claims (market-rules 6).

    ``budget``: ``strong`` operator surplus 0, ``weak`` >= 0, ``deficit`` <= 0, ``none`` no claim. ``ir``: nobody is
    worse off (bids: utility >= 0; meters: bill <= stand-alone). ``efficient``: reaches W*. ``truthful_price``,
    ``truthful_quantity``: no agent gains by misreporting it (by taking more than it needs only at prices of zero or
    more). ``scales``: multiplying all energies by a whole number keeps prices and multiplies volume. ``reveals``: what
    becomes known to whom.

    Of a rule on orders every slot of a run is held against ``budget`` and ``ir`` (`market.promises`).
    `market.testing.check_rule` tries ``budget`` and ``ir`` of every rule, and of rules on orders ``scales``,
    ``efficient`` and the two ``truthful``, on small books: it can refute a claim and cannot prove one. What is
    declared of ``reveals``, ``needs_network`` and ``multi_round`` is information, and so are ``efficient`` and
    ``truthful`` of a rule on meters, which takes no reports. Nothing here checks them.
    """

    truthful_price: bool = False
    truthful_quantity: bool = False
    ir: bool = False
    budget: str = "none"
    efficient: bool = False
    needs_network: bool = False
    multi_round: bool = False
    scales: bool = True
    reveals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.budget not in BUDGETS:
            raise MarketError(f"declared budget is {self.budget!r}", remedy=f"choose one of {', '.join(BUDGETS)}")

    def as_dict(self) -> dict[str, Any]:
        """The declaration as a plain mapping."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


class Rule(ABC):
    """What every rule has. Subclasses are frozen dataclasses; derive from `BidRule` or `MeterRule`."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = ""
    section: ClassVar[str] = ""
    source: ClassVar[str] = ""
    meter_based: ClassVar[bool] = False
    classes: ClassVar[bool] = False  # knows classes of energy, and sells nobody one that it refuses
    declares: ClassVar[Declares] = Declares()

    @property
    def pairs(self) -> bool:
        """Whether the rule says who trades with whom."""
        return False

    def cannot_honour(self, terms: Terms) -> str | None:
        """Why the rule cannot keep a member's own terms, or None; see `market.terms.why_not`."""
        return why_not(terms, self.name, meter_based=self.meter_based, ir=self.declares.ir, classes=self.classes)


class BidRule(Rule):
    """A rule that takes orders.

    ``flags`` are those of `market.orders.FLAGS` that it understands; orders that carry others are rejected.
    ``continuous`` rules take orders as they come, and are admitted to by the continuous market's laws
    (`market.orders.admit`).
    ``surplus_to`` names the account that keeps what the rule leaves over: ``operator``, or ``network`` for congestion
    rents and charges.
    """

    flags: ClassVar[frozenset[str]] = frozenset()
    continuous: ClassVar[bool] = False
    surplus_to: ClassVar[str] = "operator"
    one_sided: ClassVar[bool] = False
    """Meets one party's request from offers: not a market of slots."""

    def applicable(self, book: Book, context: Context) -> str | None:
        """A reason why the rule cannot clear this book, or None."""
        return None

    @abstractmethod
    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot, exactly. Pure: same book and context, same result."""

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots. Must equal `clear` slot by slot; this default calls it."""
        from market.rules.by_slot import clear_by_slot

        return clear_by_slot(self, batch)


class MeterRule(Rule):
    """A rule that takes metered net energies; there are no bids."""

    meter_based: ClassVar[bool] = True
    kind: ClassVar[str] = "pool_with_retailer"

    def applicable(self, meters: Meters) -> str | None:
        """A reason why the rule cannot share these meters, or None."""
        return None

    def named_members(self) -> Mapping[str, Sequence[str]]:
        """Ids of members that parameters name, by parameter; where one is not a member, sharing is refused."""
        return {}

    @abstractmethod
    def share(self, meters: Meters) -> Shared:
        """Share one slot, exactly. Pure: same meters, same result."""

    def share_batch(
        self,
        net_wh: Int,
        retail_u: Int,
        feed_in_u: Int,
        active: NDArray[Any] | None = None,
        *,
        members: Sequence[str] | None = None,
        first_slot: int = 0,
    ) -> BatchSharing:
        """Share many slots, arrays of shape (S, M). Must equal `share` slot by slot; this default calls it.

        ``members`` names the columns (needed by rules with parameters per member, which must name none but these);
        exact ties go to the earlier column.
        """
        from market.rules.by_slot import share_by_slot

        return share_by_slot(self, net_wh, retail_u, feed_in_u, active, members=members, first_slot=first_slot)


def check_named(rule: MeterRule, members: Collection[str]) -> None:
    """Refuse parameters that name somebody who is not a member.

    Parameters
    ----------
    rule
        A rule with its parameters.
    members
        Ids of all members, also of those outside the market in some slots.

    Raises
    ------
    MarketError
        Naming the parameter, the id, and the member that was perhaps meant.
    """
    known = set(members)
    for name, ids in rule.named_members().items():
        for x in ids:
            if x in known:
                continue
            near = difflib.get_close_matches(str(x), sorted(known), n=1)
            listed = ", ".join(sorted(known)[:12]) + (", ..." if len(known) > 12 else "")
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise MarketError(
                f"{rule.name}: parameter {name} names {x!r}, who is not a member",
                remedy=f"{hint}members: {listed or 'none'}",
            )


# --- registration -----------------------------------------------------------------------------------------------------

R = TypeVar("R", bound=Rule)
S = TypeVar("S")

_rules: dict[str, type[Rule]] = {}
_strategies: dict[str, type[Any]] = {}
_loaded: set[str] = set()
_broken: dict[str, str] = {}


def register_rule(cls: type[R]) -> type[R]:
    """Class decorator: make a rule known by its ``name``.

    Raises
    ------
    MarketError
        If it is no frozen dataclass on `BidRule` or `MeterRule`, has no name, or another rule has the name.
    """
    if not issubclass(cls, (BidRule, MeterRule)):
        raise MarketError(f"{cls.__name__} is no rule", remedy="derive it from market.registry.BidRule or MeterRule")
    frozen = getattr(cls, "__dataclass_params__", None)
    if frozen is None or not frozen.frozen:
        raise MarketError(f"{cls.__name__} is no frozen dataclass", remedy="put @dataclass(frozen=True) on it")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name:
        raise MarketError(f"{cls.__name__} has no name", remedy='add: name: ClassVar[str] = "my_rule"')
    if name in _rules and (_rules[name].__module__, _rules[name].__qualname__) != (cls.__module__, cls.__qualname__):
        raise MarketError(f"two rules are named {name!r}", remedy=f"rename {cls.__name__} or {_rules[name].__name__}")
    _rules[name] = cls
    return cls


def register_strategy(cls: type[S]) -> type[S]:
    """Class decorator: make a bidding strategy known by its ``name``."""
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name:
        raise MarketError(f"{cls.__name__} has no name", remedy='add: name: ClassVar[str] = "my_strategy"')
    _strategies[name] = cls
    return cls


def _load_package(package: str) -> None:
    """Import every module of a package of ours once; a module whose name starts with "_" is no rule."""
    if package in _loaded:
        return
    module = importlib.import_module(package)
    for info in pkgutil.iter_modules(module.__path__):
        if not info.name.startswith("_"):
            importlib.import_module(f"{package}.{info.name}")
    _loaded.add(package)


def _load_entry_points() -> None:
    """Import the rules of installed packages once. One that fails is noted, and the others are not held up by it."""
    if ENTRY_POINT_GROUP in _loaded:
        return
    _loaded.add(ENTRY_POINT_GROUP)
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINT_GROUP):
        before = dict(_rules)
        try:
            found = point.load()
            if isinstance(found, type) and issubclass(found, Rule):
                register_rule(found)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever somebody else's module does on import
            _rules.clear()
            _rules.update(before)  # nothing half registered
            reason = error.message if isinstance(error, MarketError) else f"{type(error).__name__}: {error}"
            _broken[point.name] = f"plug-in {point.name!r} ({point.value}) could not be loaded: {reason}"


def broken_plugins() -> dict[str, str]:
    """Entry points of installed packages that could not be loaded, by name, with a sentence on each."""
    _load_entry_points()
    return dict(sorted(_broken.items()))


def rule_classes() -> dict[str, type[Rule]]:
    """Every known rule by name, sorted."""
    _load_package("market.rules")
    _load_entry_points()
    return dict(sorted(_rules.items()))


def rule_class(name: str) -> type[Rule]:
    """The rule called ``name``; MarketError naming the known ones, and plug-ins that failed, otherwise."""
    known = rule_classes()
    if name not in known:
        broken = broken_plugins()
        blamed = [broken[name]] if name in broken else list(broken.values())
        near = difflib.get_close_matches(name, list(known), n=1)
        remedy = (f"did you mean {near[0]}? " if near else "") + f"known rules: {', '.join(known)}"
        if blamed:
            remedy = f"mend or uninstall the package of the plug-in that failed, or choose another rule; {remedy}"
        raise MarketError("; ".join([f"there is no rule named {name!r}", *blamed]), remedy=remedy)
    return known[name]


def make_rule(rule: str | Rule | type[Rule], parameters: Mapping[str, Any] | None = None) -> Rule:
    """A rule with its parameters, from a name, a class, or a ready rule (which takes no further parameters).

    Raises
    ------
    MarketError
        For an unknown name, an unknown parameter, or a value out of range.
    """
    given = dict(parameters or {})
    if isinstance(rule, Rule):
        if given:
            raise MarketError(
                f"{rule.name} already has its parameters", remedy="pass the class or the name to give parameters"
            )
        return rule
    cls = rule_class(rule) if isinstance(rule, str) else rule
    made: Rule = _construct(cls, cls.name, given)
    return made


def _construct(cls: type[Any], name: str, given: Mapping[str, Any]) -> Any:
    known = [f.name for f in dataclasses.fields(cls)]
    if unknown := sorted(set(given) - set(known)):
        listed = ", ".join(known) if known else "none"
        raise MarketError(f"{name} has no parameter {', '.join(unknown)}", remedy=f"its parameters are: {listed}")
    try:
        return cls(**given)
    except TypeError as error:  # a method or a parameter is missing
        raise MarketError(
            f"{name} cannot be made: {error}", remedy="write the methods and parameters that its base class asks for"
        ) from error


def strategy_classes() -> dict[str, type[Any]]:
    """Every known bidding strategy by name, sorted."""
    _load_package("market.strategies")
    return dict(sorted(_strategies.items()))


def make_strategy(name: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """A bidding strategy (`market.strategies.base.Strategy`) with its parameters; MarketError as `make_rule`."""
    known = strategy_classes()
    if name not in known:
        raise MarketError(f"there is no strategy named {name!r}", remedy=f"known strategies: {', '.join(known)}")
    return _construct(known[name], name, dict(parameters or {}))


def rule_info(cls: type[Rule]) -> RuleInfo:
    """What ``rules()`` tells of a rule."""
    parameters: dict[str, Mapping[str, Any]] = {}
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        default = f.default if f.default is not MISSING else None
        if f.default_factory is not MISSING:
            default = f.default_factory()
        parameters[f.name] = {"default": default, "doc": f.metadata.get("doc", "")}
    pairs = any(r.pairs for r in _sample(cls))
    declares = {**cls.declares.as_dict(), "meter_based": cls.meter_based}
    return RuleInfo(
        name=cls.name,
        version=cls.version,
        summary=cls.summary,
        section=cls.section,
        source=cls.source,
        meter_based=cls.meter_based,
        pairs=pairs,
        declares=declares,
        parameters=parameters,
    )


def _sample(cls: type[Rule]) -> list[Rule]:
    """The rule with default parameters, where it has defaults for all."""
    try:
        return [cls()]
    except (TypeError, MarketError):
        return []


class _FromSource(SourceFileLoader):
    """Runs what the file says now: kept bytecode is believed where time and size agree, and a quick edit unseen."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_rule_file(path: str | Path) -> list[type[Rule]]:
    """Register the rules of one Python file and return them.

    Raises
    ------
    MarketError
        If the file is missing, cannot be run, or registers no rule; with the reason and the remedy.
    """
    file = Path(path)
    if not file.is_file():
        raise MarketError(f"there is no rule file {file}", remedy="check the path; it must be a .py file")
    name = f"peerwatt_rule_file_{sha256_hex(str(file.resolve()).encode())[:16]}"
    spec = importlib.util.spec_from_file_location(name, file, loader=_FromSource(name, str(file)))
    if file.suffix != ".py" or spec is None or spec.loader is None:
        raise MarketError(f"{file} is no Python file", remedy="a rule file ends in .py")
    before = dict(rule_classes())
    for old in [n for n, c in before.items() if c.__module__ == name]:
        del _rules[old]  # of an earlier version of the file, which may call its rules otherwise
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        _rules.clear()
        _rules.update(before)
        if isinstance(error, MarketError):
            raise
        raise MarketError(
            f"{file} could not be run: {type(error).__name__}: {error}", remedy="run it with python to see where"
        ) from error
    found = [c for n, c in _rules.items() if before.get(n) is not c]
    if not found:
        raise MarketError(f"{file} registers no rule", remedy="decorate the rule's class with @register_rule")
    return found
