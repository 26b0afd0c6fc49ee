"""Profiles: what loads, what is refused and how it is told, how requests are merged, readings and frames."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DeviceError
from core.quality import Quality
from hardware.driver import Group, Order, Ratings, Sample, Span
from hardware.modbus import battery_map
from hardware.profile import (
    ProfileDriver,
    YamlFileError,
    bind,
    driver_of_vector,
    first_spans,
    load_profile,
    parse_profile,
    profile_schema,
    profiles,
    vector_samples,
)
from hardware.profile_types import TYPES, to_number, to_words, unit_of

METER = """\
profile: a-meter
title: A meter
source: {document: its datasheet, edition: "1"}
convention: power is positive when it draws from the grid
identity: {manufacturer: Somebody, model: Meter}
points:
  w: {address: 10, type: i16, unit: W}
  hz: {address: 11, type: u16, unit: Hz, scale: 0.01}
test_vector:
  registers: [{address: 10, words: [1500, 5000]}]
  readings: {w: 1500, hz: 50}
"""


def changed(old: str, new: str, text: str = METER) -> str:
    assert old in text
    return text.replace(old, new)


def problem(text: str) -> str:
    with pytest.raises(YamlFileError) as caught:
        parse_profile(text, "meter.yaml")
    return str(caught.value)


def meter(**changes: Any) -> ProfileDriver:
    document = yaml.safe_load(METER)
    for path, value in changes.items():
        *way, last = path.split("__")
        place = document
        for step in way:
            place = place.setdefault(step, {})
        place[last] = value
    return driver_of_vector(parse_profile(json.dumps(document)))


# --- loading


def test_every_shipped_profile_loads_and_names_its_source() -> None:
    assert {"emulator", "fronius", "sdm630", "victron-gx"} <= set(profiles())
    for name in profiles():
        profile = load_profile(name)
        assert profile.profile == name
        assert profile.source.document and profile.source.edition


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(YamlFileError, match=r"no profile 'sdm63'[\s\S]*sdm630"):
        load_profile("sdm63")


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(METER)
    assert load_profile(file).profile == load_profile(str(file)).profile == "a-meter"
    with pytest.raises(YamlFileError, match="cannot be read"):
        load_profile(tmp_path / "nothing.yaml")


def test_a_package_brings_profiles_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(METER)
    (tmp_path / "my_profiles.py").write_text(f"PATH = {str(tmp_path / 'mine.yaml')!r}\ndef path():\n    return PATH\n")
    info = tmp_path / "my_profiles-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-profiles\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[peerwatt.profiles]\na-meter = my_profiles:PATH\nb-meter = my_profiles:path\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert {"a-meter", "b-meter", "sdm630"} <= set(profiles())
    assert load_profile("a-meter") == load_profile("b-meter")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("type: i16, ", "", r"meter\.yaml:7: points\.w: the key 'type' is missing"),
        ("unit: W", "unit: kilowatt", r"points\.w\.unit: the unit 'kilowatt' is unknown"),
        ("unit: W", "unit: kWh", r"points\.w\.unit: kWh is not a unit of this quantity, which is in W"),
        ("address: 10, type", "adress: 10, type", r"meter\.yaml:7[\s\S]*did you mean 'address'"),
        ("  w:", "  power:", r"'power' is no standard reading[\s\S]*begin it with x_"),
        ("address: 11", "address: 10", r"register 10 is also read as i16 by 'w'"),
        ("type: i16", "type: i17", r"meter\.yaml:7: points\.w\.type: 'i17' is not possible here"),
        ("address: 10, type", "address: 70000, type", r"points\.w\.address: 70000 is wrong"),
        ("hz: 50", "xx: 50", r"says nothing of 'hz'"),
        (
            "title: A meter",
            "title: A meter\ntitle: B",
            r"meter\.yaml:3: the key 'title' is given twice, first in line 2",
        ),
        ("identity: {", "identity: {{", r"is not valid YAML"),
        ("unit: Hz", "unit: Hz, note: a, b", r"'b' is unknown|put a text that holds a comma"),
    ],
)
def test_what_is_wrong_is_told_with_place_and_remedy(old: str, new: str, told: str) -> None:
    text = problem(changed(old, new))
    assert re.search(told, text), text
    assert "what to do: " in text


def test_all_problems_are_told_together_in_the_order_of_lines() -> None:
    text = problem(changed("unit: W", "unit: V", changed("unit: Hz", "unit: A")))
    assert text.startswith("2 problems\nmeter.yaml:7")


CONTROL = """\
controls:
  limit_w:
    range: [0, 5000]
    value: {address: 20, type: u16, unit: W}
    timer: {address: 21}
    fallback: released
    enable: {address: 22}
    flash: false
"""


def with_control(text: str = CONTROL) -> str:
    order = "  orders: [{control: limit_w, value: 1, timer_s: 5, frames: [{address: 20, words: [1]}]}]\n"
    return METER.replace("test_vector:", f"{text}test_vector:") + order


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("limit_w:", "limit_kw:", "is no control"),
        ("    timer: {address: 21}\n", "", "nothing falls back without one"),
        ("fallback: released", "fallback: chosen", "a chosen fallback needs its register"),
        ("    enable: {address: 22}\n", "", "needs exactly one way back"),
        ("    flash: false\n", "", "'flash' is missing"),
        ("range: [0, 5000]", "range: [0, rating.watts]", "'rating.watts' is no rating"),
        ("unit: W", "unit: A", "A is not a unit of this quantity"),
    ],
)
def test_what_is_wrong_with_a_control_is_told(old: str, new: str, told: str) -> None:
    assert parse_profile(with_control()).controls
    assert told in problem(with_control(changed(old, new, CONTROL)))


def test_a_control_without_an_order_in_the_vector_is_not_proven() -> None:
    assert "orders nothing of 'limit_w'" in problem(METER.replace("test_vector:", f"{CONTROL}test_vector:"))


def test_the_schema_accepts_what_loads_and_refuses_what_does_not() -> None:
    validator = jsonschema.Draft202012Validator(profile_schema())
    for name in profiles():
        file = Path(load_profile.__code__.co_filename).parent / "profiles" / f"{name}.yaml"
        document = yaml.safe_load(file.read_text())
        validator.validate(json.loads(json.dumps(document)))
    assert not validator.is_valid({**yaml.safe_load(METER), "pionts": {}})


# --- spans


def spans(**link: Any) -> list[tuple[int, int]]:
    document = yaml.safe_load(METER)
    document["link"] = link
    document["points"] = {f"x_{a}": {"address": a, "type": "u16", "unit": "number"} for a in (0, 1, 2, 5, 6, 20)}
    document["test_vector"] = {
        "registers": [{"address": 0, "words": [0] * 30}],
        "readings": dict.fromkeys(document["points"], 0),
    }
    driver = driver_of_vector(parse_profile(json.dumps(document)))
    return [(span.address, span.count) for span in driver.spans(Group.FAST)]


def test_neighbours_are_read_together_within_the_rules_of_the_device() -> None:
    assert spans() == [(0, 3), (5, 2), (20, 1)]
    assert spans(bridge=2) == [(0, 7), (20, 1)]
    assert spans(bridge=20) == [(0, 21)]
    assert spans(bridge=20, max_registers=4) == [(0, 3), (5, 2), (20, 1)]
    assert spans(bridge=20, unreadable=[[3, 3]]) == [(0, 3), (5, 16)]


def test_value_and_scale_factor_come_from_one_read() -> None:
    driver = driver_of_vector(load_profile("fronius"))
    (inverter, controls) = driver.spans(Group.FAST)
    assert (inverter.address, inverter.count) == (40069, 39)  # from the block's number to its state
    assert controls.address <= 40232 and controls.address + controls.count > 40250


def test_a_factor_out_of_reach_is_refused() -> None:
    text = changed("unit: W}", "unit: W, factor: 200}")
    assert "take a read of 191 registers; 125 are allowed" in problem(text)


# --- readings


def test_a_moved_block_has_no_values_and_says_why() -> None:
    driver = driver_of_vector(load_profile("fronius"))
    (span, _) = driver.spans(Group.FAST)
    words = vector_samples(driver.profile, (span,))[span].words
    assert words is not None
    out = driver.decode({span: Sample(span, (*words[1:], 0), 1.0, 1.1, 1)})
    assert {reading.quality for reading in out.values()} == {Quality.COMM_FAIL}
    assert "register 40069 reads 50 and not 101 or 102 or 103" in out["w"].reason


def test_a_value_outside_what_the_profile_states_is_implausible() -> None:
    driver = meter(points__hz__range=[45, 66])
    (span,) = driver.spans(Group.FAST)
    out = driver.decode({span: Sample(span, (1500, 9000), 1.0, 1.1, 1)})
    assert out["hz"].quality is Quality.IMPLAUSIBLE and out["hz"].value == pytest.approx(90.0)


def test_an_unknown_number_of_an_enumeration_is_no_value() -> None:
    driver = driver_of_vector(load_profile("emulator"))
    (span,) = driver.spans(Group.FAST)
    words = list(vector_samples(driver.profile, (span,))[span].words or ())
    words[battery_map.STATUS] = 9
    assert driver.decode({span: Sample(span, tuple(words), 1.0, 1.1, 1)})["state"].value is None


def test_the_emulators_profile_is_the_map_of_the_emulator() -> None:
    points = load_profile("emulator").points
    assert [points[name].address for name in ("power_w", "stored_wh", "imported_wh", "exported_wh", "state")] == [
        battery_map.SET_POINT,
        battery_map.STORED,
        battery_map.CHARGED,
        battery_map.DISCHARGED,
        battery_map.STATUS,
    ]


@pytest.mark.parametrize("sign", [1, -1])
def test_low_word_first_and_sign(sign: int) -> None:
    driver = meter(
        points={
            "w": {"address": 10, "type": "i32", "unit": "kW", "scale": 0.1, "sign": sign, "word_order": "low-first"}
        },
        test_vector__registers=[{"address": 10, "words": [0xFFF6, 0xFFFF]}],
        test_vector__readings={"w": -1000 * sign},
    )
    (span,) = driver.spans(Group.FAST)
    assert driver.decode({span: Sample(span, (0xFFF6, 0xFFFF), 1.0, 1.1, 1)})["w"].value == -1000.0 * sign


def test_a_sum_is_as_good_as_its_worst_part() -> None:
    driver = driver_of_vector(load_profile("victron-gx"))
    (grid, _) = driver.spans(Group.FAST)
    out = driver.decode({grid: Sample(grid, (100, 200, 0xFFFF, 0, 0, 0, 1), 1.0, 1.1, 1)})
    assert out["w"].value == 299.0
    assert driver.decode({grid: Sample(grid, None, 1.0, 1.1, 1, "time-out")})["w"].quality is Quality.COMM_FAIL


def test_every_standard_name_has_a_unit() -> None:
    from hardware.driver import CONTROLS, READINGS

    for name, meaning in {**CONTROLS, **READINGS}.items():
        unit = unit_of(name)
        assert unit in ("number", "1") or f"[{unit}" in meaning or unit in ("degC", "s", "VA", "var"), (name, unit)


@given(kind=st.sampled_from(sorted(TYPES)), low_first=st.booleans(), data=st.data())
def test_words_and_numbers_are_inverse(kind: str, low_first: bool, data: st.DataObject) -> None:
    of = TYPES[kind]
    words = tuple(data.draw(st.lists(st.integers(0, 65535), min_size=of.words, max_size=of.words)))
    number = to_number(kind, words, low_first=low_first)
    if number == number and abs(number) != float("inf"):
        assert to_words(kind, number, low_first=low_first) == words


# --- who it is


async def test_bind_asks_the_device_who_it_is() -> None:
    profile = load_profile("fronius")
    asked: list[Span] = []

    async def read(span: Span) -> Sample:
        asked.append(span)
        return vector_samples(profile, (span,))[span]

    driver = await bind(profile, read, ratings=Ratings(va=11_000.0))
    assert tuple(asked) == first_spans(profile)
    assert (driver.identity.serial, driver.identity.model) == ("30514231", "Symo 10.0-3-M")
    assert (driver.ratings.w, driver.ratings.va) == (10_000.0, 11_000.0)


async def test_bind_refuses_a_device_that_does_not_say_who_it_is() -> None:
    async def read(span: Span) -> Sample:
        return Sample(span, None, 0.0, 1.0, 1, "time-out after 1 s")

    with pytest.raises(DeviceError, match=r"who the device is could not be read.*time-out") as caught:
        await bind(load_profile("fronius"), read)
    assert not caught.value.local


def test_ratings_are_not_taken_from_another_block() -> None:
    profile = load_profile("fronius")
    samples = vector_samples(profile, first_spans(profile))
    span = next(span for span in samples if span.address == 40149)
    words = samples[span].words or ()
    samples[span] = Sample(span, (120, *words[1:]), 0.0, 0.0, 1)
    with pytest.raises(DeviceError, match="register 40149 reads 120 and not 121"):
        ProfileDriver(profile, samples)


def test_a_rating_that_nobody_gave_is_asked_for() -> None:
    text = with_control(changed("range: [0, 5000]", "range: [0, rating.w]", CONTROL))
    with pytest.raises(DeviceError, match=r"rating 'w' is needed[\s\S]*Ratings\(w="):
        driver_of_vector(parse_profile(text))
    assert driver_of_vector(parse_profile(text), ratings=Ratings(w=7000.0)).controls["limit_w"].high == 7000.0


def test_a_rating_of_nothing_is_no_rating() -> None:
    profile = load_profile("fronius")
    samples = vector_samples(profile, first_spans(profile))
    span = next(span for span in samples if span.address == 40149)
    words = samples[span].words or ()
    samples[span] = Sample(span, (*words[:2], 0, *words[3:]), 0.0, 0.0, 1)
    with pytest.raises(DeviceError, match="rating 'w' is needed"):
        ProfileDriver(profile, samples)


# --- orders


def test_a_range_between_two_steps_holds_nothing_to_write() -> None:
    text = with_control(changed("range: [0, 5000]", "range: [0.4, 0.6]", CONTROL))
    with pytest.raises(DeviceError, match=r"no step of the register lies in 0\.4 \.\. 0\.6"):
        driver_of_vector(parse_profile(text)).encode(Order("limit_w", 0.5, 20))


def test_r09_a_cap_is_rounded_down_and_a_step_shows_the_factor() -> None:
    driver = driver_of_vector(load_profile("fronius"))
    timer, value, enable = driver.encode(Order("limit_w", 5000.99, 20))
    assert [step.purpose for step in (timer, value, enable)] == ["timer", "value", "enable"]
    assert value.frame.words == (5000,)  # 50.00 %, not 50.01 %
    assert value.expected[0] == 5000 and value.expected[-1] == 0xFFFE
    assert not value.confirmed((5000, *([0] * 17), 0xFFFF))  # the factor has moved: the limit is another one


def test_a_release_takes_the_limit_back() -> None:
    (fronius,) = driver_of_vector(load_profile("fronius")).release("limit_w")
    assert (fronius.purpose, fronius.frame.address, fronius.frame.words) == ("release", 40236, (0,))
    (victron,) = driver_of_vector(load_profile("victron-gx")).release("limit_w")
    assert victron.frame.words == (0xFFFF, 0xFFFF)  # -1: no limit


@pytest.mark.parametrize("order", [Order("power_w", 100.0, 20), Order("power_w", 100.0, 0, fallback=0.0)])
def test_a_device_without_a_timer_is_not_ordered_as_if_it_had_one(order: Order) -> None:
    with pytest.raises(DeviceError, match="nothing was sent") as caught:
        driver_of_vector(load_profile("emulator")).encode(order)
    assert caught.value.local


def test_minutes_and_function_six() -> None:
    text = with_control(changed("{address: 21}", "{address: 21, unit: min, max_s: 3600}", CONTROL))
    text = text.replace("identity:", "link: {write: fc06-single}\nidentity:")
    driver = driver_of_vector(parse_profile(text))
    timer, value, _ = driver.encode(Order("limit_w", 4000.0, 150))
    assert timer.frame.words == (2,)  # never longer than asked for
    assert {timer.frame.function, value.frame.function} == {6}
    with pytest.raises(DeviceError, match=r"60 \.\. 3600"):
        driver.encode(Order("limit_w", 4000.0, 59))


FRONIUS = driver_of_vector(load_profile("fronius"))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_r09_an_order_is_written_truly_or_not_at_all(value: float) -> None:
    try:
        steps = FRONIUS.encode(Order("limit_w", value, 20))
    except DeviceError as error:
        local = error.local
    else:
        (raw,) = next(step.frame.words for step in steps if step.purpose == "value")
        assert 0 <= raw <= 10_000 and value - 1.0 - 1e-6 <= raw <= value + 1e-6
        return
    assert local and not 0.0 <= value <= 10_000.0
