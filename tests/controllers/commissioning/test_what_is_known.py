"""What nobody said or tried is on the record as that, and what stood in the device before stands there afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.commissioning.effects import FailedError, SkippedError
from controllers.commissioning.findings import Findings
from controllers.commissioning.record import Record, may_arm
from controllers.commissioning.stage_reboot import reboot
from hardware.driver import Order
from tests.controllers.commissioning.emulated import PEOPLE, Emulated, emulated
from tests.controllers.commissioning.test_record import LIMIT
from tests.controllers.commissioning.test_record import record as sound

NOBODY = dict.fromkeys(PEOPLE, "")
UNTRIED = {"survives_reboot": None}


def _step(record: Record, name: str) -> tuple[str, str]:
    found = next(step for step in record.steps if step.name == name)
    return found.outcome, found.text


# --- who, with what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (NOBODY, ("technician", "witness", "instrument", "clock_offset_s")),
        ({"witness": " "}, ("witness",)),
        ({"technician": ""}, ("technician",)),
        ({"instrument": ""}, ("instrument",)),
        ({"instrument_serial": ""}, ("instrument_serial",)),
        ({"calibrated_on": ""}, ("calibrated_on",)),
        ({"clock_offset_s": ""}, ("clock_offset_s",)),
    ],
)
async def test_a_record_of_nobody_is_left_out_and_arms_nothing(
    answers: dict[str, object], words: tuple[str, ...]
) -> None:
    async with emulated(answers=answers) as one:
        record = await one.commissioned("people")
    outcome, text = _step(record, "people")
    assert outcome == "skipped" and all(word in text for word in words), text
    assert set(words) <= set(record.missing)
    changes = {name: getattr(record, name) for name in ("technician", "witness", "instrument", "clock_offset_s")}
    arms, reason = may_arm(sound(**changes), LIMIT, "released")
    assert not arms and words[0] in reason and "answers" in reason
    assert may_arm(sound(), LIMIT, "released")[0]


async def test_no_instrument_and_no_comparison_are_statements_that_stand_in_the_record() -> None:
    stated = {"instrument": "none", "instrument_serial": "", "calibrated_on": "", "clock_offset_s": "none"}
    async with emulated(answers=stated) as one:
        record = await one.commissioned("people")
    outcome, text = _step(record, "people")
    assert outcome == "passed" and "no second instrument" in text and "clock not compared" in text
    assert record.missing == () and record.clock_offset_s == "not compared"
    assert may_arm(sound(instrument=record.instrument, clock_offset_s="not compared"), LIMIT, "released")[0]


# --- a loss of power that nobody tried --------------------------------------------------------------------------------


def test_persistence_that_was_not_tried_arms_only_if_somebody_took_it_upon_themselves() -> None:
    arms, reason = may_arm(sound(UNTRIED), LIMIT, "released")
    assert not arms and "loss of power was not tried" in reason and "accept_untested" in reason
    arms, reason = may_arm(sound(UNTRIED, accepted={"persistence": "T. One"}), LIMIT, "released")
    assert arms and "loss of power was not tried, accepted by T. One" in reason
    arms, reason = may_arm(sound(), LIMIT, "released")
    assert arms and "loss of power" not in reason


@pytest.mark.parametrize(
    ("answers", "accepted", "words"),
    [
        ({"accept_untested": ["persistence"]}, {"persistence": PEOPLE["technician"]}, "accepted"),
        ({"accept_untested": ["persistence"], "technician": ""}, {}, "not tried"),
        ({}, {}, "not tried"),
        ({"accept_untested": "persistance"}, {}, "persistance"),
    ],
)
async def test_the_acceptance_is_recorded_with_a_name(
    answers: dict[str, object], accepted: dict[str, Any], words: str
) -> None:
    async with emulated(answers={"reboot_s": "", **answers}) as one:
        known = Findings(technician=str({**PEOPLE, **answers}["technician"]), controls=sound(UNTRIED).controls)
        with pytest.raises(FailedError if words == "persistance" else SkippedError, match=words):
            await reboot(one.bench, known)
    assert known.accepted == accepted


# --- put back ---------------------------------------------------------------------------------------------------------

BEFORE: dict[str, float] = {
    "704.WMaxLimPct": 90.0,
    "704.WMaxLimPctRvrt": 30.0,
    "704.WMaxLimPctEnaRvrt": 0,
    "704.WMaxLimPctRvrtTms": 45,
}


def _held(one: Emulated, names: dict[str, float]) -> dict[str, float | None]:
    return {name: one.device.holding.get(name) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("enabled", [0, 1])
async def test_what_stood_in_the_registers_before_is_put_back_and_read_back(enabled: int) -> None:
    async with emulated(leave_out=()) as one:
        before = {**BEFORE, "704.WMaxLimPctEna": enabled, "704.WMaxLimPctRvrtTms": 0 if enabled else 45}
        for name, value in before.items():
            one.device.holding.set(name, value)
        record = await one.commissioned("limits", "emergency stop")
        assert _step(record, "limits")[0] == "passed"
        assert record.released and _held(one, before) == before
    outcome, text = _step(record, "put back")
    assert outcome == "passed" and "register" in text


async def test_what_cannot_be_put_back_is_named() -> None:
    async with emulated(leave_out=()) as one:
        one.device.holding.set("704.WMaxLimPctRvrt", 30.0)
        assert (await one.bench.order(Order("limit_w", 2000.0, 60, 4000.0), "a test")).ok
        assert (await one.bench.release("limit_w")).ok
        one.device.board.switch_on("locked-registers")
        record = await one.commissioned("identity")
        outcome, text = _step(record, "put back")
        assert outcome == "failed" and "could not be put back" in text
        assert record.released and one.device.holding.get("704.WMaxLimPctRvrt") == pytest.approx(40.0)


# --- small things -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_remainder_that_counts_is_seen_also_with_a_short_timer() -> None:
    async with emulated(timer_s=2, leave_out=()) as one:
        record = await one.commissioned("limits", "timers")
    timer = record.controls["limit_w"].timer
    assert timer is not None and timer.counts is True


async def test_responses_say_whether_the_frame_left() -> None:
    notes: list[tuple[str, Any]] = []

    async def note(kind: str, body: Any) -> int:
        notes.append((kind, body))
        return len(notes)

    async with emulated(note=note) as one:
        assert (await one.bench.order(Order("limit_w", 2000.0, 60), "a test")).ok
        await one.bench.release_all()
    assert {body["sent"] for kind, body in notes if kind == "response"} == {True}


async def test_a_model_that_begins_with_its_maker_is_not_said_twice() -> None:
    async with emulated(storage=True) as one:
        text = _step(await one.commissioned("identity"), "identity")[1]
    assert text.startswith("peerwatt emulated hybrid, serial")
