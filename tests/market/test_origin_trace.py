"""The trace of origins against a slow one written apart; its laws; batteries, pairs, pools, mixes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import MarketError
from core.lattice import largest_remainder
from market.certificates import (
    ACCOUNT,
    PPM,
    EnergyFlows,
    LocalTrades,
    OriginSetup,
    local_delivery,
    trace,
)
from market.certificates._kernels import mul_div

Int = np.ndarray[Any, np.dtype[np.int64]]


@settings(deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(1, 2**40))
def test_products_in_two_halves_are_exact(a: int, b: int, divisor: int) -> None:
    if a * b // divisor <= 2**40:
        assert mul_div(a, b, divisor) == divmod(a * b, divisor)


def setup_of(n: int, origins: int, stores: int, *, seed: int = 0, **more: Any) -> OriginSetup:
    rng = np.random.default_rng(seed)
    mixes = rng.multinomial(PPM, np.full(origins - 2, 1 / (origins - 2)), n + 1)
    mix = np.hstack([np.zeros((n + 1, 1), np.int64), mixes, np.zeros((n + 1, 1), np.int64)])
    store = np.full(n, -1, np.int64)
    store[:stores] = np.arange(stores)
    rank = rng.permutation(n).astype(np.int64)
    return OriginSetup(tuple(f"o{k}" for k in range(origins)), np.zeros(n, np.int64), mix, origins - 1, store, rank,
                       **more)  # fmt: skip


def flows_of(setup: OriginSetup, n_slots: int, *, seed: int = 0, size: int = 300, pairs: int = 0) -> EnergyFlows:
    """A random district whose stores obey their law; positions are off what was metered, on either side."""
    rng = np.random.default_rng([seed, 1])
    n = len(setup.kind)
    use, made = rng.integers(0, size, (n_slots, n)), rng.integers(0, 2 * size, (n_slots, n))
    made *= rng.random((n_slots, n)) < 0.4
    charge, discharge, gained, drawn, leaked, stored = (np.zeros((n_slots, n), np.int64) for _ in range(6))
    e_wh = np.where(setup.store >= 0, size, 0)
    for t in range(n_slots):
        stored[t] = e_wh
        does, wish = rng.integers(0, 4, n), rng.integers(0, 2 * size, n)  # 3: one battery charges, another discharges
        leaked[t] = np.minimum(e_wh, rng.integers(0, 3, n)) * (setup.store >= 0)
        charge[t] = np.where((does % 2 == 1) & (setup.store >= 0), wish, 0)
        gained[t] = charge[t] * 93 // 100
        drawn[t] = np.where((does >= 2) & (setup.store >= 0), np.minimum(wish[::-1], e_wh - leaked[t]), 0)
        discharge[t] = drawn[t] * 9 // 10
        e_wh = e_wh + gained[t] - drawn[t] - leaked[t]
    net = use + charge - made - discharge
    bought = (np.maximum(net, 0) * rng.random((n_slots, n)) * 1.4).astype(np.int64)
    sold = (np.maximum(-net, 0) * rng.random((n_slots, n)) * 1.4).astype(np.int64)
    trades = LocalTrades.none()
    if pairs:
        slot = np.sort(rng.integers(0, n_slots, pairs * n_slots))
        trades = LocalTrades(slot, *rng.integers(0, n, (2, len(slot))), rng.integers(0, size, len(slot)))
        bought, sold = bought // 2, sold // 2
        np.add.at(bought, (slot, trades.buyer), trades.e_wh)
        np.add.at(sold, (slot, trades.seller), trades.e_wh)
    loss = rng.integers(0, size // 5 + 1, n_slots)
    return EnergyFlows(use, made, charge, discharge, gained, drawn, leaked, stored, bought, sold, loss, trades)


class Slow:
    """The same model in plain Python, lists of integers, largest remainders from `core`."""

    def __init__(self, setup: OriginSetup) -> None:
        self.s, self.o = setup, range(len(setup.names))
        self.lots: list[list[list[int]]] = [[] for _ in setup.kind]
        self.carry = [[Fraction(0) for _ in self.o] for _ in setup.mix_ppm]

    def zero(self) -> list[int]:
        return [0 for _ in self.o]

    def take(self, source: list[int], wh: int) -> list[int]:
        total = sum(source)
        wh = min(wh, total)
        part = largest_remainder([Fraction(x * wh, total) for x in source], wh) if total else self.zero()
        for o in self.o:
            source[o] -= part[o]
        return part

    def draw(self, i: int, wh: int) -> list[int]:
        out = self.zero()
        while wh > sum(out) and self.lots[i]:
            part = self.take(self.lots[i][0], wh - sum(out))
            out = [a + b for a, b in zip(out, part, strict=True)]
            if not any(self.lots[i][0]):
                self.lots[i].pop(0)
        return out

    def put(self, i: int, vector: list[int]) -> None:
        if not any(vector):
            return
        if self.s.fifo or not self.lots[i]:
            self.lots[i].append(list(vector))
        else:
            self.lots[i][0] = [a + b for a, b in zip(self.lots[i][0], vector, strict=True)]

    def mix(self, row: int, wh: int) -> list[int]:
        """Whole Wh nearest to what each origin is owed, never negative; what is owed is carried."""
        if wh == 0:
            return self.zero()
        owed = [c + Fraction(int(m) * wh, PPM) for c, m in zip(self.carry[row], self.s.mix_ppm[row], strict=True)]
        part = [max(x.numerator // x.denominator, 0) for x in owed]
        while sum(part) < wh:
            best = max((o for o in self.o if self.s.mix_ppm[row][o]), key=lambda o: (owed[o] - part[o], -o))
            part[best] += 1
        while sum(part) > wh:
            part[min((o for o in self.o if part[o]), key=lambda o: (owed[o] - part[o], o))] -= 1
        self.carry[row] = [x - p for x, p in zip(owed, part, strict=True)]
        return part

    def slot(self, f: EnergyFlows, t: int, pair_wh: Int, delivered: Int, received: Int) -> tuple[Any, Any, Any]:
        s, n = self.s, len(self.s.kind)
        account = {name: self.zero() for name in ACCOUNT}

        def book(name: str, vector: list[int]) -> None:
            account[name] = [a + b for a, b in zip(account[name], vector, strict=True)]

        def unknown(wh: int) -> list[int]:
            return [wh if o == s.unknown else 0 for o in self.o]

        used, charged, fed, needs, ways = [], [], [], [], []
        for i in range(n):
            given_ = self.zero()
            if s.store[i] >= 0:
                gap = int(f.stored_wh[t, i]) - sum(map(sum, self.lots[i]))
                if gap > 0:
                    self.put(i, unknown(gap))
                    book("opened", unknown(gap))
                book("lost", self.draw(i, max(-gap, 0) + int(f.leaked_wh[t, i])))
                drawn = self.draw(i, int(f.drawn_wh[t, i])) if f.discharge_wh[t, i] else self.zero()
                given_ = self.take(drawn, int(f.discharge_wh[t, i]))
                short = int(f.discharge_wh[t, i]) - sum(given_)
                given_[s.unknown] += short
                book("opened", unknown(short))
                book("lost", drawn)
            own = [int(f.made_wh[t, i]) if o == s.kind[i] else 0 for o in self.o]
            book("made", own)
            direct = self.take(own, int(f.use_wh[t, i]))
            battery = self.take(given_, int(f.use_wh[t, i]) - sum(direct))
            stored = self.take(own, int(f.charge_wh[t, i]))
            turned = self.take(given_, int(f.charge_wh[t, i]) - sum(stored))
            used.append([a + b for a, b in zip(direct, battery, strict=True)])
            charged.append([a + b for a, b in zip(stored, turned, strict=True)])
            fed.append([a + b for a, b in zip(own, given_, strict=True)])
            needs.append((int(f.use_wh[t, i]) - sum(used[i]), int(f.charge_wh[t, i]) - sum(charged[i])))
            ways.append([sum(direct), sum(battery), 0])
        local = [self.zero() for _ in range(n)]

        def hand(i: int, vector: list[int]) -> None:
            local[i] = [a + b for a, b in zip(local[i], vector, strict=True)]
            book("passed" if s.bundled else "supplied", vector)

        for p in np.flatnonzero(f.trades.slot == t):
            i, j, wh = int(f.trades.buyer[p]), int(f.trades.seller[p]), int(pair_wh[p])
            hand(i, self.take(fed[j], wh) if s.bundled else self.mix(n, wh))
        pool = self.zero()
        for i in range(n):
            part = self.take(fed[i], int(delivered[t, i])) if s.bundled else self.zero()
            pool = [a + b for a, b in zip(pool, part, strict=True)]
        for i in np.argsort(s.rank):
            hand(i, self.take(pool, int(received[t, i])) if s.bundled else self.mix(n, int(received[t, i])))
        for i in range(n):
            near, total = sum(local[i]), sum(needs[i])
            supply = self.mix(i, total - near)
            book("supplied", supply)
            if total:
                ways[i][2] = largest_remainder([Fraction(near * x, total) for x in (needs[i][0], needs[i][1])], near)[0]
            for source, wh in ((local[i], ways[i][2]), (supply, needs[i][0] - ways[i][2])):
                used[i] = [a + b for a, b in zip(used[i], self.take(source, wh), strict=True)]
                charged[i] = [a + b for a, b in zip(charged[i], source, strict=True)]
            self.put(i, self.take(charged[i], int(f.gained_wh[t, i])))
            book("lost", charged[i])
            book("exported", fed[i])
            book("consumed", used[i])
            for lot in self.lots[i]:
                book("held", lot)
        losses = self.mix(n, int(f.loss_wh[t]))
        book("supplied", losses)
        book("lost", losses)
        return used, ways, [account[name] for name in ACCOUNT]


@pytest.mark.parametrize("pairs", [0, 4])
@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("bundled", [True, False])
@pytest.mark.parametrize(("seed", "size"), [(1, 300), (2, 4), (3, 2_000_000_000)])
def test_the_trace_agrees_with_the_slow_one(seed: int, size: int, bundled: bool, fifo: bool, pairs: int) -> None:
    setup = setup_of(6, 5, 3, seed=seed, fifo=fifo, bundled=bundled)
    flows = flows_of(setup, 40, seed=seed, size=size, pairs=pairs)
    traced, _ = trace(setup, setup.initial(), flows)
    pair_wh, delivered, received = local_delivery(flows, setup.rank)
    slow = Slow(setup)
    for t in range(40):
        used, ways, account = slow.slot(flows, t, pair_wh, delivered, received)
        assert traced.consumed_wh[t].tolist() == used, t
        assert traced.ways_wh[t].tolist() == ways, t
        assert traced.account_wh[t].tolist() == account, t
    assert traced.account_wh[:, ACCOUNT.index("passed")].any() == bundled
    assert traced.ways_wh.any(axis=(0, 1)).all()


@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("lengths", [[40], [1] * 40, [7] * 5 + [5]])
def test_windows_may_be_cut_anywhere(lengths: list[int], fifo: bool) -> None:
    setup = setup_of(5, 6, 4, seed=4, fifo=fifo)
    flows = flows_of(setup, 40, seed=4, pairs=2)
    whole, end = trace(setup, setup.initial(), flows)
    state, first, parts = setup.initial(), 0, []
    for n in lengths:
        state = state.restore({k: v.copy() for k, v in state.checkpoint().items()})
        traced, state = trace(setup, state, cut(flows, first, n))
        parts.append(traced)
        first += n
    for name in ("consumed_wh", "ways_wh", "account_wh"):
        assert np.array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
    assert all(
        np.array_equal(a, b) for a, b in zip(state.checkpoint().values(), end.checkpoint().values(), strict=True)
    )


def cut(flows: EnergyFlows, first: int, n: int) -> EnergyFlows:
    columns = {k: getattr(flows, k)[first : first + n] for k in flows.__dataclass_fields__ if k != "trades"}
    low, high = np.searchsorted(flows.trades.slot, [first, first + n])
    t = flows.trades
    own = LocalTrades(t.slot[low:high] - first, t.buyer[low:high], t.seller[low:high], t.e_wh[low:high])
    return EnergyFlows(**columns, trades=own)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(3, 7), st.integers(1, 500), st.integers(0, 3))
def test_law_g_and_the_balance_of_any_district(seed: int, n: int, origins: int, size: int, pairs: int) -> None:
    setup = setup_of(n, origins, n // 2, seed=seed, fifo=seed % 2 == 1, bundled=seed % 3 > 0)
    flows = flows_of(setup, 12, seed=seed, size=size, pairs=pairs)
    traced, state = trace(setup, setup.initial(), flows)
    sums = dict(zip(ACCOUNT, traced.account_wh.sum(axis=0), strict=True))
    held = traced.account_wh[-1, ACCOUNT.index("held")]
    created = sums["opened"] + sums["made"] + sums["supplied"]
    assert (created == sums["consumed"] + sums["exported"] + sums["lost"] + held).all()
    assert np.array_equal(held, state.lots.sum(axis=(0, 1)))
    assert np.array_equal(traced.consumed_wh.sum(axis=2), flows.use_wh)
    assert sums["made"].sum() == flows.made_wh.sum()
    crossed = flows.use_wh + flows.charge_wh - flows.made_wh - flows.discharge_wh
    assert (sums["supplied"] - sums["exported"]).sum() == crossed.sum() + flows.loss_wh.sum()
    assert traced.account_wh.min() >= 0
    assert abs(state.carry.sum()) == 0


def test_local_delivery_counts_once_what_positions_count_twice() -> None:
    """A sells 100 but feeds in 60; B bought 80, C bought 40 and draws 30: 60 are delivered, in proportion 80 to 30."""
    setup = setup_of(3, 3, 0)
    zero, row = np.zeros((1, 3), np.int64), lambda *x: np.array([x], np.int64)
    flows = EnergyFlows(row(0, 90, 30), row(60, 0, 0), zero, zero, zero, zero, zero, zero, row(0, 80, 40),
                        row(100, 0, 0), np.zeros(1, np.int64), LocalTrades.none())  # fmt: skip
    _, delivered, received = local_delivery(flows, np.arange(3))
    assert delivered.tolist() == [[60, 0, 0]]
    assert received.tolist() == [[0, 44, 16]]
    traced, _ = trace(setup, setup.initial(), flows)
    assert traced.consumed_wh[0, :, 0].tolist() == [0, 44, 16], "solar of A"
    assert traced.account_wh[0, ACCOUNT.index("exported")].tolist() == [0, 0, 0]


def test_the_pairs_named_get_what_their_seller_fed_in() -> None:
    """Two sellers of different kinds and two buyers: each gets its own seller's origin, none the other's."""
    setup = replace(setup_of(4, 4, 0), kind=np.array([0, 3, 0, 0]))
    zero, row = np.zeros((1, 4), np.int64), lambda *x: np.array([x], np.int64)
    trades = LocalTrades(*(np.array(x) for x in ([0, 0], [2, 3], [0, 1], [50, 40])))
    flows = EnergyFlows(row(0, 0, 50, 40), row(50, 25, 0, 0), zero, zero, zero, zero, zero, zero, row(0, 0, 50, 40),
                        row(50, 40, 0, 0), np.zeros(1, np.int64), trades)  # fmt: skip
    traced, _ = trace(setup, setup.initial(), flows)
    assert traced.consumed_wh[0, 2].tolist() == [50, 0, 0, 0]
    assert traced.consumed_wh[0, 3, 3] == 25, "the seller fed in less than it sold"
    assert traced.consumed_wh[0, 3].sum() == 40


def one_store(made: list[int], use: list[int], charge: list[int], drawn: list[int], loss: int = 0) -> EnergyFlows:
    columns = [np.array(x, np.int64)[:, None] for x in (use, made, charge, drawn)]
    gained, zero = np.maximum(columns[2] - loss, 0), np.zeros_like(columns[0])
    stored = np.cumsum(np.vstack([[[0]], gained - columns[3]]), axis=0)[:-1]
    return EnergyFlows(*columns, gained, columns[3], zero, stored, zero, zero, np.zeros(len(made), np.int64),
                       LocalTrades.none())  # fmt: skip


@pytest.mark.parametrize(("fifo", "first", "second"), [(False, [30, 10], [30, 10]), (True, [40, 0], [20, 20])])
def test_a_battery_gives_pro_rata_or_the_oldest_first(fifo: bool, first: list[int], second: list[int]) -> None:
    """60 Wh of sun, then 20 Wh of the grid go in; 40 Wh come out twice."""
    setup = replace(setup_of(1, 3, 1), fifo=fifo)
    flows = one_store([60, 0, 0, 0], [0, 0, 40, 40], [60, 20, 0, 0], [0, 0, 40, 40])
    traced, _ = trace(setup, setup.initial(), flows)
    assert traced.consumed_wh[2:, 0, :2].tolist() == [first, second]
    assert traced.account_wh[-1, ACCOUNT.index("held")].tolist() == [0, 0, 0]


def test_what_charging_loses_is_lost_pro_rata() -> None:
    setup = setup_of(1, 3, 1)
    flows = one_store([60, 0], [0, 0], [80, 0], [0, 0], loss=8)
    traced, _ = trace(setup, setup.initial(), flows)
    assert traced.account_wh[0, ACCOUNT.index("lost")].tolist() == [6, 2, 0]
    assert traced.account_wh[1, ACCOUNT.index("held")].tolist() == [54, 18, 0]


def test_what_a_device_says_beyond_its_charging_is_of_unknown_origin() -> None:
    """Measured energy is believed: more than was charged is unknown, less is lost; nothing is made solar by it."""
    setup = setup_of(1, 3, 1)
    flows = one_store([60, 0, 0], [0, 0, 50], [60, 0, 0], [0, 0, 50])
    flows.stored_wh[1:, 0] = 100, 50
    flows.drawn_wh[2, 0] = 50
    traced, _ = trace(setup, setup.initial(), flows)
    assert traced.account_wh[:, ACCOUNT.index("opened")].tolist() == [[0, 0, 0], [0, 0, 40], [0, 0, 0]]
    assert traced.account_wh[2, ACCOUNT.index("lost")].tolist() == [30, 0, 20]
    assert traced.consumed_wh[2, 0].tolist() == [30, 0, 20]


def test_a_full_ring_of_lots_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.certificates.tracing.FIFO_LOTS", 3)
    setup = setup_of(4, 5, 4, seed=9, fifo=True)
    flows = flows_of(setup, 60, seed=9)
    traced, state = trace(setup, setup.initial(), flows)
    assert state.lots.shape[1] == 3
    assert np.array_equal(state.lots.sum(axis=(0, 1)), traced.account_wh[-1, ACCOUNT.index("held")])


def test_small_energies_of_a_mix_add_up_to_its_shares() -> None:
    """1 Wh at a time would always be of the largest origin, were the remainder not carried."""
    mix = np.array([[0, 520_000, 280_000, 150_000, 50_000, 0]] * 2)
    setup = OriginSetup(tuple("sabcdu"), np.zeros(1, np.int64), mix, 5, np.full(1, -1), np.zeros(1, np.int64))
    one, zero = np.ones((1000, 1), np.int64), np.zeros((1000, 1), np.int64)
    flows = EnergyFlows(one, zero, zero, zero, zero, zero, zero, zero, zero, zero, one[:, 0], LocalTrades.none())
    traced, _ = trace(setup, setup.initial(), flows)
    assert traced.consumed_wh.sum(axis=(0, 1)).tolist() == [0, 520, 280, 150, 50, 0]
    running = np.cumsum(traced.consumed_wh[:, 0], axis=0)
    exact = np.arange(1, 1001)[:, None] * mix[0] / PPM
    assert np.abs(running - exact).max() < 1.5


def test_nonsense_is_refused() -> None:
    setup = setup_of(2, 3, 1)
    flows = flows_of(setup, 3)
    with pytest.raises(MarketError, match="use_wh is negative in slot 0"):
        trace(setup, setup.initial(), replace(flows, use_wh=flows.use_wh - 10_000))
    with pytest.raises(MarketError, match="beyond what can be traced"):
        trace(setup, setup.initial(), replace(flows, made_wh=flows.made_wh + 2**40))
    with pytest.raises(MarketError, match="without a store charges"):
        trace(replace(setup, store=np.full(2, -1)), setup.initial(), replace(flows, charge_wh=flows.use_wh + 1))
    with pytest.raises(MarketError, match="sums to 0 ppm"):
        replace(setup, mix_ppm=setup.mix_ppm * 0)
    with pytest.raises(MarketError, match="do not fit"):
        replace(setup, mix_ppm=setup.mix_ppm[1:])
