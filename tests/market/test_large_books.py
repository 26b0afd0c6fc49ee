"""Large and tied books: crossing without sorting gives the numbers of the kernel that ranks, and of `cross`."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from core.keyed_random import keyed_generator
from market import Order, Side, clear
from market.book import Book, BookBatch, Context
from market.crossing import cross
from market.registry import make_rule
from market.rules._bid_kernels import cross_slots
from market.rules._crossed import MANY, CrossedBatch, CrossedRule


def random_batch(rng: np.random.Generator) -> BookBatch:
    n, s, top = int(rng.integers(0, 14)), 30, int(rng.choice([2, 5, 50]))
    return BookBatch(
        side=rng.choice([-1, 0, 1], (s, n)).astype(np.int8),
        e_wh=rng.integers(0, 6, (s, n)),
        price_u=rng.integers(-2, top, (s, n)),
        member=np.arange(n, dtype=np.int32),
        t=rng.integers(0, 3, n),
        seq=rng.integers(0, 2, n),
        order_rank=rng.permutation(n).astype(np.int64),
    )


def by_ranks(batch: BookBatch) -> CrossedBatch:
    """The crossing by the kernel that ranks the whole book."""
    n = batch.n_slots
    none = np.zeros(n, np.int64)
    out = CrossedBatch(
        np.zeros(batch.side.shape, np.int64), none.copy(), none.copy(), np.zeros(n, np.bool_), none.copy(), none.copy(),
        np.zeros((0, 6), np.int64),
    )  # fmt: skip
    base = np.lexsort((batch.order_rank, batch.seq, batch.t)).astype(np.int64)
    pieces = cross_slots(
        batch.side, batch.e_wh, batch.price_u, base, np.zeros(batch.n_orders, np.uint64), np.uint64(0), 0, False, False,
        batch.share_rank(), False, False, none, none, True, out.fill_wh, out.low_u, out.high_u, out.traded,
        out.import_wh, out.export_wh,
    )  # fmt: skip
    return replace(out, pieces=np.asarray(pieces))


def test_selection_equals_ranking() -> None:
    rng = keyed_generator(3, "selection")
    rule = make_rule("uniform_price")
    assert isinstance(rule, CrossedRule)
    traded = 0
    for _ in range(300):
        batch = random_batch(rng)
        ranked, selected = by_ranks(batch), rule.crossing_batch(batch, pieces=True)
        assert selected is not None
        for f in fields(ranked):
            assert np.array_equal(getattr(ranked, f.name), getattr(selected, f.name)), f.name
        traded += int(selected.traded.sum())
    assert traded > 3000


def orders(n: int, prices: np.ndarray, energies: np.ndarray) -> list[Order]:
    return [
        Order(
            order_id=f"o{i}",
            agent_id=f"a{i}",
            side=Side.BUY if i % 3 else Side.SELL,
            e_wh=int(energies[i]),
            price_u=int(prices[i]),
            t=i % 7,
            seq=i % 2,
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("top", [1, 4, 10**6])
def test_large_book_through_the_facade(top: int) -> None:
    rng, n = keyed_generator(top, "large"), MANY + 500
    book = orders(n, rng.integers(0, top, n) - 2, rng.integers(0, 40, n))
    result = clear("uniform_price", book)
    slow = cross(Book.from_orders(book), Context())
    ids = Book.from_orders(book).order_ids
    assert result.fills == {x: wh for x, wh in zip(ids, slow.fills, strict=True) if wh}
    assert result.welfare_u == slow.welfare_u and result.volume_wh == slow.volume_wh
    assert result.price is not None and slow.low_u is not None and slow.high_u is not None
    assert 2 * result.price == slow.low_u + slow.high_u
    assert result.surplus_u == 0


def test_a_large_book_without_trade_has_its_indicative_interval() -> None:
    n = MANY + 3
    book = orders(n, np.where(np.arange(n) % 3, 5, 9), np.full(n, 4))
    result = clear("uniform_price", book)
    assert result.price is None and result.diagnostics["indicative_u"] == (5, 9)


def test_numbers_beyond_64_bits_of_product_go_the_exact_way() -> None:
    n = MANY + 10
    book = orders(n, np.full(n, 2**40), np.full(n, 2**30))
    result = clear("uniform_price", book)
    assert result.price == 2**40 and result.volume_wh == 2**30 * ((n + 2) // 3)


@pytest.mark.slow
@pytest.mark.parametrize("equal", [True, False])
def test_a_million_orders(equal: bool) -> None:
    """Also where all prices are equal, which sends every order to the margin."""
    n = 1_000_000
    rng = keyed_generator(1, "million")
    side = np.where(np.arange(n) % 3, 1, -1).astype(np.int8)[None]
    e_wh = rng.integers(1, 5000, (1, n))
    price = np.full((1, n), 200_000) if equal else rng.integers(80_000, 320_000, (1, n))
    rank = rng.permutation(n).astype(np.int64)
    batch = BookBatch(
        side=side, e_wh=e_wh, price_u=price, member=np.arange(n, dtype=np.int32), t=np.zeros(n, np.int64),
        seq=np.zeros(n, np.int64), order_rank=rank,
    )  # fmt: skip
    rule = make_rule("uniform_price")
    assert isinstance(rule, CrossedRule)
    selected, ranked = rule.crossing_batch(batch, pieces=False), by_ranks(batch)
    assert selected is not None
    assert np.array_equal(selected.fill_wh, ranked.fill_wh)
    assert selected.fill_wh[side > 0].sum() == selected.fill_wh[side < 0].sum() > 0
    assert (selected.low_u[0], selected.high_u[0]) == (ranked.low_u[0], ranked.high_u[0])
