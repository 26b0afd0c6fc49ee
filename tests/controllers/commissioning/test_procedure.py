"""The procedure: what each step finds, and that the device is never left with an order, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from controllers.commissioning.record import Record
from controllers.commissioning.runner import STAGES
from controllers.commissioning.technician import QUESTIONS, Answers
from core.errors import DeviceError
from core.quality import Quality, Reading
from hardware.driver import Order
from tests.controllers.commissioning.emulated import emulated


def _step(record: Record, name: str) -> tuple[str, str]:
    found = next(step for step in record.steps if step.name == name)
    return found.outcome, found.text


async def test_an_interrupted_procedure_takes_its_order_back_and_says_so() -> None:
    async with emulated() as one:
        task = asyncio.create_task(one.commissioned("identity", "limits", "timers"))
        async with asyncio.timeout(20):
            while not one.device.holding.get("123.WMaxLim_Ena"):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        task.cancel()
        record = await task
        assert not record.complete and record.released
        assert one.device.holding.get("123.WMaxLim_Ena") == 0
        assert one.device.holding.get("123.WMaxLimPct_RvrtTms") == 0


async def test_a_device_that_cannot_be_released_is_not_called_released() -> None:
    async with emulated() as one:
        assert (await one.bench.order(Order("limit_w", 2000.0, 60), "a test")).ok
        one.device.board.switch_on("locked-registers")
        record = await one.commissioned("identity")
        assert not record.released and "NOT RELEASED: limit_w" in _step(record, "way out")[1]
        assert one.device.holding.get("123.WMaxLim_Ena") == 1


@pytest.mark.slow
async def test_limits_codes_sessions_and_stop_are_measured() -> None:
    async with emulated(sessions=True) as one:
        record = await one.commissioned(
            "identity", "sessions", "measurements", "limits", "function codes", "emergency stop"
        )
        found = record.controls["limit_w"]
        assert [round(item.value, -2) for item in found.tried] == [6600.0, 4400.0, 2200.0, 0.0]
        assert all(item.ok and item.measured is not None for item in found.tried)
        assert found.effect_s is not None and 0.0 < found.effect_s < 1.0
        assert found.accuracy is not None and found.accuracy < 100.0
        assert found.writes_06 is True and found.writes_16 is True
        assert found.stop_s is not None and found.stop_s < 1.0
        assert record.sessions == 5 and record.sign == "right"
        assert all(step.outcome == "passed" for step in record.steps), record.steps
        assert any(len(step.traces.get("w", ())) > 10 for step in record.steps)


@pytest.mark.slow
async def test_a_device_with_one_session_and_one_function_code_is_told_so() -> None:
    async with emulated(sessions=True, faults=("only-fc16",)) as one:
        one.server.board.switch_on("session-limit")
        record = await one.commissioned("sessions", "limits", "function codes")
        assert record.sessions == 1
        found = record.controls["limit_w"]
        assert (found.writes_06, found.writes_16) == (False, True)


@pytest.mark.slow
async def test_a_set_point_with_the_other_sign_is_found() -> None:
    async with emulated(
        storage=True, controls=("power_w",), faults=("opposite-sign",), pv_w=0.0, effect_max_s=0.7
    ) as one:
        record = await one.commissioned("limits")
        assert record.sign == "opposite" and _step(record, "limits")[0] == "failed"


async def test_too_little_sun_is_said_and_nothing_is_written() -> None:
    async with emulated(pv_w=500.0) as one:
        record = await one.commissioned("limits", "timers")
        outcome, text = _step(record, "limits")
        assert outcome == "failed" and "come back when there is more" in text
        assert _step(record, "timers") == ("skipped", "no control obeyed its values")


async def test_what_cannot_be_true_fails() -> None:
    async with emulated(faults=("sign-flip",)) as one:
        record = await one.commissioned("measurements")
        assert _step(record, "measurements")[0] == "failed" and record.sign == "opposite"


async def test_an_unknown_control_is_refused_before_anything_is_done() -> None:
    async with emulated(controls=("limit_x",)) as one:
        with pytest.raises(DeviceError, match="has no control 'limit_x'"):
            await one.commissioned()


# --- the meter --------------------------------------------------------------------------------------------------------


class House:
    """A meter at the connection point, with what may be wrong in its wiring."""

    def __init__(self, *, turned: bool = False, swapped: bool = False) -> None:
        self.load = dict.fromkeys("abc", 300.0)
        self._sign = -1.0 if turned else 1.0
        self._order = "bac" if swapped else "abc"

    async def __call__(self) -> Mapping[str, Reading]:
        phases = {f"w_{one}": self._sign * self.load[of] for one, of in zip("abc", self._order, strict=True)}
        values = {"w": sum(phases.values()), **phases}
        return {name: Reading(value, Quality.GOOD, 0.0, 0.0, 1) for name, value in values.items()}

    def switch(self, watts: float) -> None:
        self.load["a"] += watts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("turned", "swapped", "direction", "phases"),
    [
        (False, False, "right", "right"),
        (True, False, "reversed", "right"),
        (False, True, "right", "wrong"),
    ],
)
async def test_transformers_and_phases_are_found_by_a_known_load(
    turned: bool, swapped: bool, direction: str, phases: str
) -> None:
    house = House(turned=turned, swapped=swapped)
    async with emulated() as one:
        one.bench.meter = house
        one.bench.technician = Answers(
            {"load_step_w": 2000, "load_step_phases": "a"},
            {"load_on": lambda: house.switch(2000.0), "load_off": lambda: house.switch(-2000.0)},
        )
        record = await one.commissioned("transformers")
        assert (record.ct_direction, record.phase_order) == (direction, phases)
        sound = direction == phases == "right"
        assert _step(record, "transformers")[0] == ("passed" if sound else "failed")
        assert house.load["a"] == 300.0


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "direction"), [(1.0, "right"), (-1.0, "reversed")])
async def test_without_a_load_a_limit_shows_whether_the_meter_is_turned(sign: float, direction: str) -> None:
    async with emulated() as one:

        async def meter() -> Mapping[str, Reading]:
            return {"w": Reading(sign * (one.device.power_w + 900.0), Quality.GOOD, 0.0, 0.0, 1)}

        one.bench.meter = meter
        record = await one.commissioned("transformers")
        assert record.ct_direction == direction
        assert one.device.holding.get("123.WMaxLim_Ena") == 0


# --- who is asked -----------------------------------------------------------------------------------------------------


async def test_people_and_instrument_stand_in_the_record() -> None:
    answers = {
        "technician": "T. One",
        "witness": "W. Two",
        "instrument": "analyser",
        "instrument_serial": "A-9",
        "calibrated_on": "2026-03-01",
        "clock_offset_s": -0.4,
    }
    async with emulated(answers=answers) as one:
        record = await one.commissioned("people")
    assert (record.technician, record.witness, record.clock_offset_s) == ("T. One", "W. Two", -0.4)
    assert (record.instrument.serial, str(record.instrument.calibrated_on)) == ("A-9", "2026-03-01")
    async with emulated(answers={"calibrated_on": "last spring"}) as one:
        assert _step(await one.commissioned("people"), "people")[0] == "failed"


def test_answers_to_questions_nobody_asks_are_refused() -> None:
    with pytest.raises(ValueError, match="'technicain' is asked nowhere"):
        Answers({"technicain": "x"})
    assert len({stage.name for stage in STAGES}) == len(STAGES) and all(one.text for one in QUESTIONS.values())
