"""Certificates against a second reading of the specification: matching, allocation, registry, origin of all energy."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from core.errors import MarketError
from market.certificates import (
    CertificateRegistry,
    EnergyFlows,
    LocalTrades,
    OriginSetup,
    allocate_certificates,
    matched_share,
    matched_wh,
    trace,
)
from market.certificates.tracing import ACCOUNT, PPM
from tests.independent import slow_certificates as slow

F = Fraction


# 2.23 -----------------------------------------------------------------------------------------------------------------


def test_matching() -> None:
    for seed in range(300):
        rng = random.Random(f"matching/{seed}")
        n = rng.randint(0, 12)
        made = [rng.choice((0, rng.randint(0, 9))) for _ in range(n)]
        used = [rng.choice((0, rng.randint(0, 9))) for _ in range(n)]
        period = [i // rng.choice((1, 3, 12)) for i in range(n)]
        want = slow.matched(made, used, period)
        assert matched_wh(made, used, period) == want
        assert matched_share(made, used, period) == (F(want, sum(used)) if sum(used) else None)
        assert want <= slow.matched(made, used, [0] * n)  # the coarser, the easier


def test_matching_example() -> None:
    assert matched_share([10, 0], [5, 5], ["year", "year"]) == 1
    assert matched_share([10, 0], [5, 5], [0, 1]) == F(1, 2)


def test_allocation() -> None:
    for seed in range(600):
        rng = random.Random(f"allocation/{seed}")
        n = rng.randint(0, 6)
        size = rng.choice((3, 10, 10**12))
        consumed = [rng.randint(0, size) for _ in range(n)]
        contracted = [rng.choice((0, rng.randint(0, size))) for _ in range(n)]
        available = rng.randint(0, max(1, 2 * sum(consumed)))
        got = allocate_certificates(available, consumed, contracted)
        assert got == slow.allocate(available, consumed, contracted)
        assert allocate_certificates(available, consumed) == slow.allocate(available, consumed, [0] * n)
        assert sum(got) == min(available, sum(consumed))
        assert all(0 <= g <= c for g, c in zip(got, consumed, strict=True))


@pytest.mark.parametrize("seed", range(40))
def test_registry_conserves(seed: int) -> None:
    """Law (g): created = cancelled + held + expired, after every step; nothing is used twice."""
    rng = random.Random(f"registry/{seed}")
    registry = CertificateRegistry()
    held: dict[tuple[Any, str], int] = {}
    used: dict[tuple[str, int], int] = {}
    created = cancelled = expired = 0
    people = ["a", "b", "c"]
    batches: list[Any] = []
    for step in range(60):
        kind = rng.random()
        if kind < 0.4 or not batches:
            wh = rng.randint(0, 20)
            owner = rng.choice(people)
            batch = registry.create(owner, "solar", step, wh)
            batches.append(batch)
            held[batch, owner] = wh
            created += wh
            with pytest.raises(MarketError):
                registry.create(owner, "solar", step, wh)
        elif kind < 0.65:
            batch, giver, taker = rng.choice(batches), rng.choice(people), rng.choice(people)
            wh = rng.randint(1, 12)
            if held.get((batch, giver), 0) < wh:
                with pytest.raises(MarketError):
                    registry.transfer(batch, giver, taker, wh)
            else:
                registry.transfer(batch, giver, taker, wh)
                held[batch, giver] -= wh
                held[batch, taker] = held.get((batch, taker), 0) + wh
        elif kind < 0.95:
            batch, holder, slot = rng.choice(batches), rng.choice(people), rng.randrange(4)
            wh, consumed = rng.randint(1, 12), 15
            if held.get((batch, holder), 0) < wh or used.get((holder, slot), 0) + wh > consumed:
                with pytest.raises(MarketError):
                    registry.cancel(batch, holder, slot, wh, consumed)
            else:
                registry.cancel(batch, holder, slot, wh, consumed)
                held[batch, holder] -= wh
                used[holder, slot] = used.get((holder, slot), 0) + wh
                cancelled += wh
        else:
            before = rng.randint(0, step)
            void = sum(x for (b, _), x in held.items() if b.slot < before)
            assert registry.expire(before) == void
            held = {key: (0 if key[0].slot < before else x) for key, x in held.items()}
            expired += void
        balance = registry.balance()
        assert (balance.created, balance.cancelled, balance.expired) == (created, cancelled, expired)
        assert balance.held == sum(held.values()) == created - cancelled - expired
        for who in people:
            mine = {b: x for (b, h), x in held.items() if h == who and x}
            assert {b: x for b, x in registry.held(who).items() if x} == mine


# 2.28 -----------------------------------------------------------------------------------------------------------------

NAMES = ("sun", "wind", "grid", "unknown")


def district(rng: random.Random, slots: int, n: int) -> list[list[slow.House]]:
    """Random slots in which stores hold what they give; nobody charges and discharges at once."""
    store = [0] * n
    rows = []
    for _ in range(slots):
        row = []
        for i in range(n):
            h = slow.House(rng.choice((0, rng.randint(0, 10**6))), rng.choice((0, rng.randint(0, 2 * 10**6))))
            way = rng.random()
            if way < 0.4:
                h.charge = rng.randint(1, 10**6)
                h.gained = h.charge * rng.randint(85, 100) // 100
            elif way < 0.8 and store[i]:
                h.drawn = rng.randint(1, store[i])
                h.discharge = h.drawn * rng.randint(85, 100) // 100
                h.leaked = min(rng.choice((0, 1000)), store[i] - h.drawn)
            store[i] += h.gained - h.drawn - h.leaked
            net = h.use + h.charge - h.made - h.discharge
            if net > 0:
                h.bought = rng.choice((0, net, rng.randint(0, net), 2 * net))
            else:
                h.sold = rng.choice((0, -net, rng.randint(0, -net), -2 * net))
            row.append(h)
        rows.append(row)
    return rows


def flows_of(rows: list[list[slow.House]], loss: list[int]) -> EnergyFlows:
    def column(name: str) -> Any:
        return np.array([[getattr(h, name) for h in row] for row in rows], dtype=np.int64)

    stored = np.cumsum(column("gained") - column("drawn") - column("leaked"), axis=0)
    before = np.vstack([np.zeros((1, stored.shape[1]), dtype=np.int64), stored[:-1]])
    energies = {
        f"{name}_wh": column(name)
        for name in ("use", "made", "charge", "discharge", "gained", "drawn", "leaked", "bought", "sold")
    }
    return EnergyFlows(**energies, stored_wh=before, loss_wh=np.array(loss), trades=LocalTrades.none())


def follow(seed: int) -> None:
    rng = random.Random(f"origin/{seed}")
    slots, n = rng.randint(1, 6), rng.randint(1, 5)
    rows = district(rng, slots, n)
    loss = [rng.choice((0, rng.randint(0, 10**5))) for _ in range(slots)]
    kind = [rng.randrange(2) for _ in range(n)]
    ppm = []
    for _ in range(n + 1):
        first = rng.choice((0, PPM, rng.randint(0, PPM)))
        ppm.append([0, PPM - first, first, 0])
    setup = OriginSetup(
        names=NAMES,
        kind=np.array(kind),
        mix_ppm=np.array(ppm),
        unknown=3,
        store=np.arange(n),
        rank=np.array(rng.sample(range(n), n)),
    )
    got, _ = trace(setup, setup.initial(), flows_of(rows, loss))
    mixes = [{o: F(x, PPM) for o, x in enumerate(row)} for row in ppm]
    stores: list[slow.Mix] = [{} for _ in range(n)]
    held = np.zeros(len(NAMES), dtype=np.int64)
    for s, row in enumerate(rows):
        want = slow.trace_slot(row, kind, mixes, stores, loss[s])
        near = 12 * (s + 1) * n  # Wh of rounding, of energies of a million
        for i, house in enumerate(row):
            assert got.consumed_wh[s, i].sum() == house.use
            for o in range(len(NAMES)):
                assert abs(int(got.consumed_wh[s, i, o]) - want.consumed[i].get(o, 0)) <= near
        account = {name: got.account_wh[s, a] for a, name in enumerate(ACCOUNT)}
        for name, mix in want.accounts.items():
            for o in range(len(NAMES)):
                assert abs(int(account[name][o]) - mix.get(o, 0)) <= near, name
        # law (g), for every origin: what there was and came is what was used up, handed on, lost, or is still there
        there = held + account["opened"] + account["made"] + account["supplied"]
        assert (there == account["consumed"] + account["exported"] + account["lost"] + account["held"]).all()
        assert (account["consumed"] == got.consumed_wh[s].sum(axis=0)).all()
        held = account["held"]
        assert held.sum() == sum(sum(x.values(), F(0)) for x in stores)


def test_origin_of_energy() -> None:
    for seed in range(60):
        follow(seed)


@pytest.mark.slow
def test_origin_of_energy_more() -> None:
    for seed in range(60, 1500):
        follow(seed)


def test_windows_may_be_cut_anywhere() -> None:
    for seed in range(20):
        rng = random.Random(f"windows/{seed}")
        rows = district(rng, 6, 3)
        setup = OriginSetup(
            names=NAMES,
            kind=np.array([0, 1, 0]),
            mix_ppm=np.array([[0, 333_333, 666_667, 0]] * 4),
            unknown=3,
            store=np.arange(3),
            rank=np.arange(3),
            fifo=rng.random() < 0.5,
        )
        whole, _ = trace(setup, setup.initial(), flows_of(rows, [7] * 6))
        cut = rng.randint(1, 5)
        full = flows_of(rows, [7] * 6)

        def piece(start: int, stop: int, full: EnergyFlows = full) -> EnergyFlows:
            names = [x for x in full.__dataclass_fields__ if x != "trades"]
            return EnergyFlows(**{x: getattr(full, x)[start:stop] for x in names}, trades=LocalTrades.none())

        one, state = trace(setup, setup.initial(), piece(0, cut))
        two, _ = trace(setup, state, piece(cut, 6))
        assert (np.vstack([one.consumed_wh, two.consumed_wh]) == whole.consumed_wh).all()
        assert (np.vstack([one.account_wh, two.account_wh]) == whole.account_wh).all()
