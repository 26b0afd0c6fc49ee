"""Bills of months over HTTP: so far, closed, corrected, posted to the account, and after an erasure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from market.engine.state import NETWORK
from peerwatt.live.billing import BillKeeper
from tests.peerwatt.api.app_world import BILLING, HOUSES, SLOTS, World, slot_name, world

ONE, TWO, THREE = HOUSES[:3]
JUNE = "2016-06"
TAXED = ("local_bought", "retail_bought", "network", "levies", "fixed", "demand")


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, past=True) as one:
        yield one


def keeper_of(made: World) -> BillKeeper:
    assert made.service.history is not None
    return BillKeeper(made.engine, made.service.history, BILLING)


async def get(made: World, who: str, path: str) -> Any:
    async with made.client(who) as client:
        answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def to_the_end(made: World) -> None:
    """Every slot is settled: meters that did not come are substituted."""
    for slot in range(5, SLOTS + 3):
        await made.to_slot(slot, 1)
    assert made.engine.state.settled_until == SLOTS and made.engine.state.dropped_until > 0


async def late_reading(made: World, house: str, slot: int, import_wh: int) -> None:
    reading = {"participant": house, "slot": slot_name(slot), "import_wh": import_wh, "export_wh": 0}
    async with made.client("operator", **{"Idempotency-Key": f"{house}-{slot}"}) as client:
        answer = await client.post("/measurements", json={"readings": [reading]})
    assert answer.status_code == 200, answer.text
    made.now_us[0] += 1_000_000
    await made.to_slot(SLOTS + 4, slot)


def vat_of(lines: dict[str, int]) -> int:
    return round(Fraction(sum(lines[name] for name in TAXED) * 19, 100))


@pytest.mark.slow
async def test_a_month_so_far_and_closed(made: World) -> None:
    (so_far,) = (await get(made, ONE, f"/participants/{ONE}/bills"))["items"]
    assert (so_far["version"], so_far["provisional"], so_far["posted"]) == (0, True, False)
    assert (so_far["from"], so_far["to"], so_far["period"]) == (slot_name(0), slot_name(SLOTS), JUNE)
    assert 0 < so_far["slots"] < 5 and so_far["lines"]["fixed"] == 130_000
    await to_the_end(made)
    bill = await get(made, ONE, f"/participants/{ONE}/bills/{JUNE}")
    (closed,) = bill["versions"]
    assert (closed["version"], closed["provisional"], closed["slots"]) == (1, False, SLOTS)
    settled = (await get(made, ONE, f"/participants/{ONE}/settlements?limit=1000"))["items"]
    assert len(settled) == SLOTS
    for line in ("local_bought", "local_sold", "retail_bought", "retail_sold", "network", "levies"):
        assert closed["lines"][line] == sum(slot["lines"][line] for slot in settled), line
    assert closed["lines"]["fixed"] == 2 * 130_000  # the first and the second of June, local time
    peak = max(slot["import_wh"] for slot in settled)
    assert closed["peak_wh"] == peak > 0 and closed["lines"]["demand"] == round(Fraction(2_050_000 * peak * 4, 1000))
    assert closed["peak_slot"] == next(slot["slot"] for slot in settled if slot["import_wh"] == peak)
    assert closed["lines"]["vat"] == vat_of(closed["lines"])
    assert closed["total_u"] == sum(closed["lines"].values())
    assert closed["baseline_u"] == sum(closed["baseline"].values())
    assert closed["saving_u"] == closed["baseline_u"] - closed["total_u"]
    assert closed["difference"] is None and closed["difference_u"] == 0
    (newest,) = (await get(made, ONE, f"/participants/{ONE}/bills?limit=1"))["items"]
    assert newest == closed


@pytest.mark.slow
async def test_a_late_meter_makes_a_further_version_and_the_older_one_stays(made: World) -> None:
    await to_the_end(made)
    path = f"/participants/{ONE}/bills/{JUNE}"
    (first,) = (await get(made, ONE, path))["versions"]
    others = [await get(made, house, f"/participants/{house}/bills/{JUNE}") for house in HOUSES[2:]]
    assert await keeper_of(made).post_due() == 1
    first = {**first, "posted": True}
    silent = first["substituted_slots"]
    assert silent > 0, "its meter is read from outside"
    assert (await get(made, ONE, path))["versions"] == [first]
    assert (await get(made, ONE, f"/participants/{ONE}/statement"))["balance_u"] == first["total_u"]
    await late_reading(made, ONE, SLOTS - 3, 7_000)
    one, two = (await get(made, ONE, path))["versions"]
    assert one == first
    assert two["substituted_slots"] == silent - 1 and one["substituted_slots"] == silent
    assert (two["version"], two["posted"], two["reason"]) == (2, False, "late or corrected meter reading")
    assert two["peak_slot"] == slot_name(SLOTS - 3) and two["seq"] > one["seq"]
    change = two["difference"]
    assert change == {name: two["lines"][name] - one["lines"][name] for name in two["lines"]}
    assert change["demand"] == round(Fraction(2_050_000 * (7_000 - one["peak_wh"]) * 4, 1000)) > 0
    assert change["fixed"] == 0 and two["lines"]["vat"] == vat_of(two["lines"])
    assert two["difference_u"] == two["total_u"] - one["total_u"]
    assert await keeper_of(made).post_due() == 1 and await keeper_of(made).post_due() == 0
    _, two = (await get(made, ONE, path))["versions"]
    assert two["posted"]
    assert (await get(made, ONE, f"/participants/{ONE}/statement"))["balance_u"] == two["total_u"]
    await late_reading(made, ONE, SLOTS - 2, 10)
    assert [v["version"] for v in (await get(made, ONE, path))["versions"]] == [1, 2, 3]
    for house, before in zip(HOUSES[2:], others, strict=True):  # theirs did not change
        after = await get(made, house, f"/participants/{house}/bills/{JUNE}")
        assert [{**v, "posted": False} for v in after["versions"]] == before["versions"]
    assert made.engine.state.imbalance_u() == 0


@pytest.mark.slow
async def test_all_accounts_of_a_month_add_up_also_after_an_erasure(made: World) -> None:
    so_far = await get(made, "auditor", f"/bills/{JUNE}")
    assert so_far["provisional"] and sum(so_far["accounts_u"].values()) == 0
    await to_the_end(made)
    await late_reading(made, TWO, SLOTS - 3, 3_000)
    await keeper_of(made).post_due()
    whole = await get(made, "auditor", f"/bills/{JUNE}")
    mine = [(await get(made, house, f"/participants/{house}/bills/{JUNE}"))["versions"][-1] for house in HOUSES]
    assert not whole["provisional"] and whole["members"] == len(HOUSES)
    assert whole["total_u"] == sum(bill["total_u"] for bill in mine) == -whole["accounts_u"]["members"]
    assert whole["lines"] == {name: sum(bill["lines"][name] for bill in mine) for name in mine[0]["lines"]}
    assert whole["accounts_u"]["erased"] == 0 and sum(whole["accounts_u"].values()) == 0
    assert whole["accounts_u"]["network"] == made.engine.state.balance_u(NETWORK)
    async with made.client("admin") as client:
        answer = await client.post(f"/participants/{TWO}:erase", json={"confirm": TWO})
        assert answer.json()["state"] == "erased", answer.text
        assert (await client.get(f"/participants/{TWO}/bills/{JUNE}")).status_code == 404
    left = await get(made, "auditor", f"/bills/{JUNE}")
    assert left["members"] == len(HOUSES) - 1 and sum(left["accounts_u"].values()) == 0
    assert left["accounts_u"]["erased"] == -mine[1]["total_u"]
    for account in ("retailer", "operator", "network", "state"):
        assert left["accounts_u"][account] == whole["accounts_u"][account]
    for house, before in ((HOUSES[0], mine[0]), (HOUSES[2], mine[2])):
        assert (await get(made, house, f"/participants/{house}/bills/{JUNE}"))["versions"][-1] == before
    assert made.engine.state.imbalance_u() == 0


async def test_who_comes_or_goes_pays_for_the_days_it_was_there(made: World) -> None:
    """The second of June begins, by local time, with slot 40."""
    for slot in range(5, 11):
        await made.to_slot(slot, 1)
    async with made.client("operator") as client:
        assert (await client.delete(f"/participants/{THREE}")).status_code == 204
    for slot in range(11, 51):
        await made.to_slot(slot, 1)
    async with made.client("operator") as client:
        added = await client.post("/participants", json={"participant": "house-99"})
        assert added.status_code == 201, added.text
    for slot in range(51, SLOTS + 3):
        await made.to_slot(slot, 1)
    state = made.engine.state
    gone, new = made.engine.member_of(THREE), made.engine.member_of("house-99")
    assert gone is not None and new is not None
    there = {THREE: state.members[gone].until_slot, "house-99": SLOTS - state.members[new].from_slot}
    assert 0 < there[THREE] < 40 and 0 < there["house-99"] < SLOTS - 40
    for house, slots in there.items():
        (bill,) = (await get(made, "operator", f"/participants/{house}/bills/{JUNE}"))["versions"]
        assert (bill["version"], bill["slots"], bill["lines"]["fixed"]) == (1, slots, 130_000)
    whole = await get(made, "auditor", f"/bills/{JUNE}")
    assert whole["members"] == 5 and sum(whole["accounts_u"].values()) == 0


async def test_what_is_not_there_is_said_so(made: World) -> None:
    elsewhere = (
        f"/participants/{ONE}/bills/2016-07",
        f"/participants/{TWO}/bills",
        f"/participants/{TWO}/bills/{JUNE}",
    )
    async with made.client(ONE) as client:
        for path in elsewhere:
            assert (await client.get(path)).status_code == 404, path
        assert (await client.get(f"/participants/{ONE}/bills/june")).status_code in (404, 422)
