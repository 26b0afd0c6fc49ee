"""The bills of a served scenario over a month's end are those of its simulation, to the micro, also from history."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

import peerwatt
from market.engine.commands import Erase
from market.engine.engine import Engine
from market.engine.replay import replay
from market.engine.state import NETWORK, OPERATOR, RETAILER, STATE, State
from market.settlement import BILL_LINES
from peerwatt.api.billed import Bill, PeriodSums, bills_of, sums_of
from peerwatt.history import HistoryWriter
from peerwatt.live.billing import BillKeeper
from peerwatt.live.genesis import period_terms
from peerwatt.live.history_keeper import HistoryKeeper
from peerwatt.wire.times import SlotNames
from tests.peerwatt.districts import everything, with_rule
from tests.peerwatt.live.serving import World
from tests.peerwatt.live.test_live_parity import fine_meters

OVER_THE_END = {"start": "2016-05-31T14:00", "end": "2016-06-01T11:00", "slot_minutes": 30, "zone": "Europe/Berlin"}
LINES = (*BILL_LINES, "fixed", "demand", "vat")
MONTHS = ("2016-05", "2016-06")


def scenario(rule: str = "uniform_price") -> dict[str, Any]:
    """Every kind of asset and charge, over the end of May."""
    made = with_rule(fine_meters(everything(1)), rule)
    made["time"] = dict(OVER_THE_END)
    for home in made["buildings"]:
        home.pop("membership", None)
        for asset in home["assets"]:
            for stay in asset.get("sessions", ()):
                stay.update(arrival="2016-05-31T16:50", departure="2016-05-31T22:10")
    made["buildings"][8]["membership"] = {"joins": "2016-05-31T20:00"}
    return made


class Served:
    """A served scenario whose engine keeps few slots, with what bills are read from."""

    def __init__(self, folder: Path, keep_slots: int, rule: str = "uniform_price") -> None:
        self.world = World(scenario(rule))
        self.world.config = msgspec.structs.replace(self.world.config, keep_slots=keep_slots)
        self.folder = folder

    def keeper(self, engine: Engine, folder: str = "history") -> BillKeeper:
        names = SlotNames(self.world.config.start_us, self.world.config.slot_s)
        writer = HistoryWriter(self.folder / folder, names)
        keeper = HistoryKeeper(writer, engine.journal, engine.vault, engine.clock)
        engine.before_erase.append(keeper.forget)
        return BillKeeper(engine, keeper, period_terms(self.world.system))

    async def bills(self, service: BillKeeper) -> dict[tuple[str, str], list[Bill]]:
        found = {}
        for period in service.billing.periods():
            for home in self.world.system.building_ids:
                member = service.engine.member_of(home)
                assert member is not None
                found[period.name, home] = await bills_of(service, member, period)
        return found

    async def sums(self, service: BillKeeper) -> list[PeriodSums]:
        return [await sums_of(service, period) for period in service.billing.periods()]


def row_of(bill: Bill) -> dict[str, Any]:
    """A bill as the run's table has it."""
    columns = bill.made.bills.columns()
    return {name: column[0].item() for name, column in columns.items() if name not in {"period", "member"}}


@pytest.mark.parametrize("keep_slots", [pytest.param(1_000, marks=pytest.mark.slow), 6])
@pytest.mark.parametrize("rule", ["uniform_price", pytest.param("mid_market_rate", marks=pytest.mark.slow)])
def test_served_months_are_those_of_the_run(tmp_path: Path, keep_slots: int, rule: str) -> None:
    served = Served(tmp_path, keep_slots, rule)

    async def story() -> tuple[list[dict[tuple[str, str], list[Bill]]], list[PeriodSums], State]:
        async with served.world.life() as (engine, driver):
            await driver.run(asyncio.Event())
            keeper = served.keeper(engine)
            found = await served.bills(keeper)
            sums = await served.sums(keeper)
            again = await served.bills(served.keeper(engine, "again"))  # made anew from the journal
            assert await keeper.post_due() == 2 and await keeper.post_due() == 0
            return [found, again], sums, await engine.read(lambda state: state)

    (found, again), sums, state = asyncio.run(story())
    run = peerwatt.run(scenario(rule), tmp_path / "run", report=False)
    table = run.table("bills").to_dict("records")
    assert {(row["period"], row["building"]) for row in table} == set(found)
    for row in table:
        (bill,) = found[row["period"], row["building"]]
        assert bill.version == 1
        expected = {name: value for name, value in row.items() if name not in {"period", "building"}}
        assert row_of(bill) == expected, (row["period"], row["building"])
        (same,) = again[row["period"], row["building"]]
        assert row_of(same) == row_of(bill) and (same.seq, same.at_us) == (bill.seq, bill.at_us)
    for name in ("fixed", "demand", "vat", "local_bought", "retail_bought", "network", "levies"):
        assert any(row[f"{name}_u"] for row in table), name
    check_sums(sums, run)
    check_accounts(state, served, run)


def check_accounts(state: State, served: Served, run: peerwatt.Run) -> None:
    """Charges by the month are posted: every account stands where the run's stands."""
    assert state.imbalance_u() == 0
    money = run.summary["money"]["accounts"]
    for account, number in (("retailer", RETAILER), ("operator", OPERATOR), ("network", NETWORK), ("state", STATE)):
        assert state.balance_u(number) == money[account]["total_u"], account
    bills = run.table("bills")
    for member, home in zip(served.world.system.id_rank.tolist(), served.world.system.building_ids, strict=True):
        assert state.balance_u(member) == -int(bills[bills["building"] == home]["total_u"].sum()), home


def check_sums(sums: list[PeriodSums], run: peerwatt.Run) -> None:
    """Month over all members: the run's accounts, and everything adds up to nothing."""
    money = run.summary["money"]["accounts"]
    for account in ("retailer", "operator", "network", "state"):
        assert sum(month.accounts_u[account] for month in sums) == money[account]["total_u"], account
    assert sum(month.accounts_u["members"] for month in sums) == money["buildings"]["total_u"]
    bills = run.table("bills")
    for name, month in zip(MONTHS, sums, strict=True):
        assert month.closed and month.accounts_u["erased"] == 0 and sum(month.accounts_u.values()) == 0
        assert month.members == len(run.static.buildings)
        mine = bills[bills["period"] == name]
        assert month.lines_u == {line: int(mine[f"{line}_u"].sum()) for line in LINES}


@pytest.mark.slow
def test_a_month_that_is_not_over_is_billed_so_far_and_an_erased_member_leaves_the_others_bills_alone(
    tmp_path: Path,
) -> None:
    served = Served(tmp_path, 6)

    async def story() -> None:
        async with served.world.life() as (engine, driver):
            service = served.keeper(engine)
            may, june = service.billing.periods()
            await driver.run(asyncio.Event(), 12)
            so_far = await served.bills(service)
            assert all(bill.version == 0 for bills in so_far.values() for bill in bills)
            assert not so_far["2016-06", "h01"] and so_far["2016-05", "h01"][0].made.slots.tolist() == [12]
            assert so_far["2016-05", "h01"][0].made.bills.lines_u["fixed"].tolist() == [130_000]
            half = await sums_of(service, may)
            assert not half.closed and half.slots == 12 and sum(half.accounts_u.values()) == 0
            await driver.run(asyncio.Event())
            before, whole = await served.bills(service), await served.sums(service)
            assert [b.version for b in before["2016-05", "h01"]] == [1]
            await service.post_due()
            network = engine.state.balance_u(NETWORK)
            gone = engine.member_of("h02")
            assert gone is not None
            await engine.submit(Erase(gone, "admin"))
            assert engine.member_of("h02") is None
            for month, old, period in zip(await served.sums(service), whole, (may, june), strict=True):
                assert month.members == old.members - 1 and sum(month.accounts_u.values()) == 0
                (left,) = before[period.name, "h02"]
                assert month.accounts_u["erased"] == -left.made.bills.total_u[0]
                for account in ("retailer", "operator", "network", "state"):
                    assert month.accounts_u[account] == old.accounts_u[account], account
            for (period_name, home), (bill,) in before.items():
                if home != "h02":
                    number = engine.member_of(home)
                    assert number is not None
                    period = may if period_name == "2016-05" else june
                    (after,) = await bills_of(service, number, period)
                    assert row_of(after) == row_of(bill)
            assert engine.state.imbalance_u() == 0 and engine.state.balance_u(NETWORK) == network
            lived = await replay(engine.journal, engine.vault)
            assert lived.state_digest == engine.state.digest()

    asyncio.run(story())
