"""The conformance kit passes every shipped rule, and catches rules that break a law or their own word."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core.errors import MarketError
from market import (
    BidRule,
    Book,
    BookBatch,
    Context,
    Declares,
    MeterRule,
    Meters,
    Result,
    Shared,
    load_rule_file,
    registry,
    rules,
)
from market.registry import make_rule, register_rule
from market.result import BatchClearing, book_result
from market.rules.mid_market_rate import MidMarketRate
from market.rules.uniform_price import UniformPrice
from market.testing import check_rule
from tests.effort import effort
from tests.market.every_rule import VARIANTS, Variant, label

FIRST = [next(v for v in VARIANTS if v[0] == name) for name in dict(VARIANTS)]
"""A variant of every rule; the others are for `make test-all`."""


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    before = registry.rule_classes()  # loads what is shipped
    yield
    registry._rules.clear()
    registry._rules.update(before)


@pytest.mark.parametrize("variant", [
    pytest.param(v, id=label(v), marks=[] if v in FIRST else pytest.mark.slow) for v in VARIANTS
])  # fmt: skip
def test_every_shipped_rule_keeps_its_word(variant: Variant) -> None:
    name, parameters = variant
    books = effort(40, everyday=12)
    report = check_rule(name, books=books, **parameters)
    assert report.rule == name
    applied = max(report.checks.get(batch, 0) for batch in ("share == share_batch", "clear == clear_batch"))
    # rules for equal lots, and bills in proportion to bills, take few of the books
    few = name in ("trade_reduction", "mcafee", "sbba") or parameters.get("to") == "standalone"
    assert applied > (0.2 if few else 0.75) * books, report
    assert sum(report.checks.values()) >= 4 * applied
    declares = make_rule(name, parameters).declares
    assert ("truthful price" in report.checks) == (declares.truthful_price and name != "no_market")
    assert ("truthful quantity" in report.checks) == (declares.truthful_quantity and name != "no_market")


def test_no_registered_rule_is_left_out() -> None:
    shipped = {r.name for r in rules() if not r.name.startswith("test_")}
    assert shipped == {name for name, _ in VARIANTS}


# --- rules with a fault each ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Wrapped(BidRule):
    name: ClassVar[str] = "test_wrapped"
    declares: ClassVar[Declares] = Declares(ir=True, budget="strong", efficient=True)

    def clear(self, book: Book, context: Context) -> Result:
        return self.spoil(UniformPrice().clear(book, context), book)

    def spoil(self, result: Result, book: Book) -> Result:
        return result


class _TooMuch(_Wrapped):
    def spoil(self, result: Result, book: Book) -> Result:
        fills = {**result.fills}
        if fills:
            fills[next(iter(fills))] += 1
        return replace(result, fills=fills)


class _Pockets(_Wrapped):
    def spoil(self, result: Result, book: Book) -> Result:
        paid = {a: p + 1 for a, p in result.payments.items()}
        return replace(result, payments=paid, surplus_u=result.surplus_u + len(paid))


class _Overcharges(_Wrapped):
    declares: ClassVar[Declares] = Declares(ir=True, budget="none")

    def spoil(self, result: Result, book: Book) -> Result:
        paid = {a: p + 10**12 for a, p in result.payments.items()}
        return replace(result, payments=paid, surplus_u=result.surplus_u + len(paid) * 10**12)


class _Forgets(_Wrapped):
    def spoil(self, result: Result, book: Book) -> Result:
        return replace(result, surplus_u=result.surplus_u + 1)


class _Listens(_Wrapped):
    """Favours whoever was asked first, so the second run differs."""

    seen: ClassVar[list[int]] = []

    def spoil(self, result: Result, book: Book) -> Result:
        self.seen.append(1)
        return replace(result, diagnostics={"calls": len(self.seen)})


class _WrongBatch(_Wrapped):
    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        return UniformPrice(k=1).clear_batch(batch)  # type: ignore[arg-type]


class _LeavesSome(_Wrapped):
    """Nothing trades when a book has one seller, and the result says so."""

    def clear(self, book: Book, context: Context) -> Result:
        if len(book.indices(-1)) == 1:
            return book_result(self.name, book, context, [0] * len(book), [0] * len(book))
        return super().clear(book, context)


class _Boasts(_Wrapped):
    def spoil(self, result: Result, book: Book) -> Result:
        return replace(result, welfare_u=result.welfare_u + 1)


class _TruthfulInPrice(_Wrapped):
    declares: ClassVar[Declares] = Declares(truthful_price=True, ir=True, budget="strong", efficient=True)


class _TruthfulInQuantity(_Wrapped):
    declares: ClassVar[Declares] = Declares(truthful_quantity=True, ir=True, budget="strong", efficient=True)


class _Raises(_Wrapped):
    def spoil(self, result: Result, book: Book) -> Result:
        assert result.volume_wh != 5, "five is unlucky"
        return result


class _RaisesInColumns(_Wrapped):
    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        if (batch.e_wh == 7).any():
            raise ZeroDivisionError("seven")
        return super().clear_batch(batch)


@dataclass(frozen=True, kw_only=True)
class _Posted(BidRule):
    """Everybody trades at 12, in order of arrival: truthful in price and in quantity."""

    name: ClassVar[str] = "test_posted"
    declares: ClassVar[Declares] = Declares(truthful_price=True, truthful_quantity=True, ir=True, budget="strong")

    def applicable(self, book: Book, context: Context) -> str | None:
        return "the retailer has prices of its own" if context.in_book else None

    def clear(self, book: Book, context: Context) -> Result:
        fills = [0] * len(book)
        willing = {side: [i for i in book.indices(side) if side * (book.price_u[i] - 12) >= 0] for side in (1, -1)}
        left = min(sum(book.e_wh[i] for i in rows) for rows in willing.values())
        for rows in willing.values():
            rest = left
            for i in sorted(rows, key=lambda i: (book.t[i], book.seq[i], book.order_ids[i])):
                fills[i] = min(rest, book.e_wh[i])
                rest -= fills[i]
        paid = [Fraction(12 * s * x, 1000) for s, x in zip(book.side, fills, strict=True)]
        return book_result(self.name, book, context, fills, paid, price=Fraction(12) if left else None)


class _Honest(_Wrapped):
    """Not faulty: checks that the fallback for many slots works for a rule without compiled code."""


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        (_TooMuch, "laws of every result"),
        (_Pockets, "budget strong"),
        (_Overcharges, "individual rationality"),
        (_Forgets, "laws of every result"),
        (_Listens, "determinism"),
        (_WrongBatch, "clear == clear_batch"),
        (_LeavesSome, "efficient: the fills are worth 0, "),
        (_Boasts, "efficient: "),
        (_TruthfulInPrice, r"truthful price: b0 \(buys 1 Wh at 20\) gains by stating 1 Wh at 9?1\d?: "),
        (_TruthfulInQuantity, r"truthful quantity: b0 \(buys 8 Wh at 20\) gains by stating 4 Wh at 20: "),
        (_Raises, r"(?s)the rule raises: .*five is unlucky.*test_check_rule.*Order\(order_id='b', .*e_wh=5"),
        (_RaisesInColumns, r"(?s)the rule raises: .*ZeroDivisionError: seven.*Order\(.*e_wh=7"),
    ],
)
def test_faults_are_found(rule: type[BidRule], word: str) -> None:
    with pytest.raises(AssertionError, match=word):
        check_rule(rule)


def test_a_truthful_rule_is_not_suspected() -> None:
    report = check_rule(_Posted)
    assert report.checks["truthful price"] == report.checks["truthful quantity"] > 30
    assert report.skipped > 60


def test_a_rule_without_batch_code_passes() -> None:
    assert check_rule(_Honest).checks["clear == clear_batch"] > 100


class _GreedyMeters(MidMarketRate):
    def share(self, meters: Meters) -> Shared:
        shared = super().share(meters)
        payments: Mapping[str, Any] = {m: p * 2 if p > 0 else p for m, p in shared.payments.items()}
        surplus = sum(payments.values()) - shared.retailer_u
        return replace(shared, payments=payments, surplus_u=surplus)


class _RaisingMeters(MidMarketRate):
    def share(self, meters: Meters) -> Shared:
        nobody: dict[int, Shared] = {}
        return nobody[meters.slot]


def test_faults_of_meter_rules_are_found() -> None:
    with pytest.raises(AssertionError, match=r"(?s)the rule raises: .*KeyError.*Meters\(members=\(\)"):
        check_rule(_RaisingMeters)
    with pytest.raises(AssertionError, match="budget strong"):
        check_rule(_GreedyMeters)


# --- plug-ins ---------------------------------------------------------------------------------------------------------

ONE_FILE = '''
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from market.book import Book, Context
from market.crossing import cross
from market.registry import BidRule, Declares, parameter, register_rule
from market.result import Result, book_result


@register_rule
@dataclass(frozen=True, kw_only=True)
class SellersAsk(BidRule):
    """Everybody trades at the dearest ask that is filled."""

    name: ClassVar[str] = "test_sellers_ask"
    declares: ClassVar[Declares] = Declares(ir=True, budget="strong", efficient=True)
    shift_u: int = parameter(0, "not used")

    def clear(self, book: Book, context: Context) -> Result:
        found = cross(book, context)
        price = found.price_at(Fraction(0))
        each = Fraction(0) if price is None else price / 1000
        paid = [s * x * each for s, x in zip(book.side, found.fills)]
        return book_result(self.name, book, context, found.fills, paid, price=price,
                           retailer_payment=(found.export_wh - found.import_wh) * each,
                           import_wh=found.import_wh, export_wh=found.export_wh)
'''


def test_a_rule_in_one_file(tmp_path: Path) -> None:
    file = tmp_path / "sellers_ask.py"
    file.write_text(ONE_FILE)
    assert [c.name for c in load_rule_file(file)] == ["test_sellers_ask"]
    assert check_rule("test_sellers_ask").checks["clear == clear_batch"] > 100
    assert [c.name for c in load_rule_file(file)] == ["test_sellers_ask"], "loading a file again is harmless"


def test_a_rule_file_is_read_anew_however_quickly_it_was_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same size and time: that is when Python believes the bytecode that it has kept."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "sellers_ask.py"
    for name in ("test_sellers_one", "test_sellers_two"):
        file.write_text(ONE_FILE.replace("test_sellers_ask", name))
        os.utime(file, (1_700_000_000, 1_700_000_000))
        assert [c.name for c in load_rule_file(file)] == [name]


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    file = tmp_path / "flat_fee.py"
    file.write_text(next(b for b in blocks if "@register_rule" in b))
    load_rule_file(file)
    assert check_rule("flat_fee", fee="1/3").checks["budget weak"] > 100
    space: dict[str, Any] = {}
    exec(next(b for b in blocks if "clear(" in b and "@register_rule" not in b), space)
    assert (space["result"].price, space["result"].fills) == (200_000, {"b1": 3000, "s1": 3000})
    assert space["result"].payments == {"alice": 600_000, "bob": -600_000}
    exec(next(b for b in blocks if "OrderBook(" in b), space)
    ack = space["ack"]
    assert (ack.status.name, ack.remaining_wh) == ("FILLED", 0)
    assert [(t.buy_id, t.sell_id, t.e_wh, t.price_u) for t in ack.trades] == [("b1", "s1", 1000, 120_000)]
    assert {r.name for r in rules()} - {"flat_fee"} <= set(re.findall(r"^\*\*`(\w+)`", text, re.MULTILINE))


class _Plugin:
    """An entry point of an installed package, as far as the registry looks at it."""

    def __init__(self, name: str, found: Any) -> None:
        self.name, self.value, self.found = name, f"{name}_package:Rule", found

    def load(self) -> Any:
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


@pytest.mark.parametrize("fault", [ImportError("no module named 'solver'"), SystemExit(3), MarketError("half done")])
def test_a_broken_plugin_blocks_nothing_else(monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    points = [_Plugin("test_broken", fault), _Plugin("test_fine", _Posted)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    monkeypatch.setattr(registry, "_broken", {})
    monkeypatch.setattr(registry, "_loaded", registry._loaded - {registry.ENTRY_POINT_GROUP})
    with pytest.warns(UserWarning, match=r"plug-in 'test_broken' \(test_broken_package:Rule\) could not be loaded"):
        listed = {r.name for r in rules()}
    assert {"uniform_price", "test_posted"} <= listed
    assert registry.make_rule("uniform_price").name == "uniform_price"
    with pytest.raises(MarketError, match=r"no rule named 'test_broken'; plug-in .*: .*(solver|3|half done)") as error:
        registry.make_rule("test_broken")
    assert "mend or uninstall" in str(error.value.remedy)
    with pytest.raises(MarketError, match="'unifrom'; plug-in 'test_broken'"):
        registry.make_rule("unifrom")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x = 1", "registers no rule"),
        ("import nothing_like_this", "ModuleNotFoundError"),
        ("def (", "SyntaxError"),
        (ONE_FILE.replace("@dataclass(frozen=True, kw_only=True)", ""), "frozen dataclass"),
        (ONE_FILE.replace("test_sellers_ask", "uniform_price"), "two rules are named"),
        (ONE_FILE.replace("(BidRule)", ""), "is no rule"),
    ],
)
def test_faulty_rule_files_are_named(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "bad_rule.py"
    file.write_text(text)
    with pytest.raises(MarketError, match=word) as error:
        load_rule_file(file)
    assert error.value.remedy


def test_only_rules_can_be_registered() -> None:
    with pytest.raises(MarketError, match="is no rule"):
        register_rule(dict)  # type: ignore[type-var]
    assert issubclass(MidMarketRate, MeterRule)
