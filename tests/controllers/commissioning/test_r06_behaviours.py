"""R6: the record says what the device really does, whatever its timer does; and only what leads to safety arms."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from controllers.commissioning.facts import Behaviour
from controllers.commissioning.record import Record, may_arm
from hardware.driver import Control, Fallback
from tests.controllers.commissioning.emulated import emulated

pytestmark = pytest.mark.slow

CONTROL = Control("limit_w", 0.0, 10_000.0, 1.0, Fallback.RELEASED, 65_000, "w", cap=True)


@dataclass(frozen=True)
class Case:
    truth: tuple[Behaviour, ...]
    arms: bool
    timer: str = "standard"
    faults: tuple[str, ...] = ()
    timer_s: int = 2
    minutes: bool = False
    chosen: bool = False  # has model 704, whose fallback can be chosen


CASES = {
    "standard": Case((Behaviour.STANDARD,), True),
    "none": Case((Behaviour.NONE,), False, "none"),
    "no-timer-while-running": Case((Behaviour.NONE,), False, faults=("no-timer",)),
    "cosmetic": Case((Behaviour.COSMETIC,), False, "cosmetic"),
    "late": Case((Behaviour.LATE,), True, "late"),
    "rearmed-by-anything": Case((Behaviour.REARMED_BY_ANYTHING,), False, "rearmed-by-read"),
    "rearmed-by-any-write": Case((Behaviour.REARMED_BY_ANY_WRITE,), True, "rearmed-by-write"),
    "same-point-only": Case((Behaviour.SAME_POINT_ONLY,), True, "rearmed-by-same-point"),
    "persisted": Case((Behaviour.PERSISTED,), True, "persisted"),
    "acknowledge-and-drop": Case((Behaviour.ACKNOWLEDGE_AND_DROP,), False, faults=("ack-and-drop",)),
    "seconds-for-minutes": Case((Behaviour.SECONDS_FOR_MINUTES,), False, "minutes", timer_s=1, minutes=True),
    "revert-to-last": Case((Behaviour.REVERT_TO_LAST,), False, "revert-to-last"),
    "remaining-stands": Case((Behaviour.STANDARD,), True, "remaining-stands"),
    "standard-704": Case((Behaviour.STANDARD,), True, chosen=True),
    "late-704": Case((Behaviour.LATE,), True, "late", chosen=True),
    "anything-704": Case((Behaviour.REARMED_BY_ANYTHING,), False, "rearmed-by-read", chosen=True),
    "no-effect": Case((), False, faults=("no-effect",)),
    "locked-registers": Case((), False, faults=("locked-registers",)),
}


async def _record(case: Case) -> Record:
    model, enable = ("704", "704.WMaxLimPctEna") if case.chosen else ("123", "123.WMaxLim_Ena")
    async with emulated(
        case.timer,
        faults=case.faults,
        timer_s=case.timer_s,
        minutes=case.minutes,
        poll_s=0.04,
        leave_out=() if model == "704" else (704,),
    ) as one:
        record = await one.commissioned("identity", "limits", "timers", "loss of power")
        assert one.device.holding.get(enable) == 0, "the device was left limited"
        return record


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    """All of them at once: mostly they wait."""

    async def every() -> list[Record]:
        return await asyncio.gather(*(_record(case) for case in CASES.values()))

    return dict(zip(CASES, asyncio.run(every()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_r06_the_record_says_what_the_device_does(records: dict[str, Record], name: str) -> None:
    record, case = records[name], CASES[name]
    assert record.controls["limit_w"].behaviours == case.truth, record.model_dump_json(indent=1, exclude={"steps"})
    for behaviour in case.truth:
        assert behaviour.value in record.behaviour_text("limit_w")
    assert record.complete and record.released


@pytest.mark.parametrize("name", CASES)
def test_r06_only_what_leads_to_the_safe_value_arms(records: dict[str, Record], name: str) -> None:
    safe, other = (3000.0, "released") if CASES[name].chosen else ("released", 3000.0)
    arms, reason = may_arm(records[name], CONTROL, safe, timer_s=2.0)
    assert arms is CASES[name].arms, reason
    assert not may_arm(records[name], CONTROL, other, timer_s=2.0)[0], "it was seen to fall somewhere else"


def test_r06_lateness_and_times_are_measured(records: dict[str, Record]) -> None:
    late, standard = records["late"].controls["limit_w"], records["standard"].controls["limit_w"]
    assert late.timer is not None and standard.timer is not None
    assert late.timer.expired_s == pytest.approx(2.66, abs=0.35)
    assert standard.timer.expired_s == pytest.approx(2.0, abs=0.35)
    assert late.timer.lateness_s(20.0) == pytest.approx(6.6, abs=2.5)
    assert standard.effect_s is not None and standard.effect_s < 1.0
    assert standard.timer.fell_to == "released" and standard.timer.survives_reboot is False
    assert records["persisted"].controls["limit_w"].timer.expired_after_reboot_s is not None  # type: ignore[union-attr]
    assert records["remaining-stands"].sign == "right"
    assert records["no-effect"].controls["limit_w"].tried[1].ok is False
