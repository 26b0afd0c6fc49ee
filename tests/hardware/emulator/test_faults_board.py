"""The board of faults: times, chance, the log; and the catalogue against what the design asks for."""

import io
import json
import math

import pytest

from core.errors import DeviceError
from hardware.emulator.faults import CATALOGUE, GROUPS, FaultBoard, FaultLog, catalogue_markdown

# What hardware.md, section 3 lists: group, number of faults that cover it.
WANTED = {
    "transport": "latency random-latency jitter drop-request drop-answer late-answer duplicate-answer split-frame "
    "joined-frames wrong-transaction wrong-unit wrong-function wrong-byte-count truncated-frame crc-error line-noise "
    "line-echo reset-connection half-open refuse-connection idle-disconnect session-limit slow-accept tls-expired",
    "protocol": "exception-1 exception-2 exception-3 exception-4 exception-6 exception-0a exception-0b only-fc06 "
    "only-fc16 max-registers block-boundary base-address end-without-length wrong-model-length vendor-model map-change",
    "data": "sentinel unimplemented-factor moving-factor wrong-factor word-swap register-shift sign-flip factor-of-ten "
    "spike frozen drift counter-reset counter-wrap nan-float soc-stuck soc-jump status-lies stale-heartbeat torn-read",
    "control": "ack-and-drop no-effect silent-clamp slow-ramp offset dead-band minimum-power zero-is-standby "
    "ignores-enable needs-order percent-of-wmax own-loop opposite-sign ripple-priority locked-registers",
    "timers": "no-timer cosmetic-timer late-timer rearmed-by-read rearmed-by-write rearmed-by-same-point "
    "timer-persisted seconds-for-minutes revert-to-last remaining-stands",
    "life": "reboot slow-boot night-sleep derate trip firmware-change serial-change clock-wrong flash-worn "
    "local-takeover",
    "site": "meter-lost meter-sign phase-swap grid-loss frequency-excursion voltage-excursion switch-welded "
    "breaker-contradicts second-master",
}


def test_the_catalogue_has_every_fault_of_the_design():
    assert tuple(WANTED) == GROUPS
    for group, names in WANTED.items():
        assert [name for name, kind in CATALOGUE.items() if kind.group == group] == names.split()


@pytest.mark.parametrize("kind", CATALOGUE.values(), ids=lambda kind: kind.name)
def test_defaults_lie_in_their_bounds_and_everything_is_said(kind):
    assert kind.meaning and "\n" not in kind.meaning and kind.group in GROUPS
    values = kind.checked({})
    assert set(values) == set(kind.params)
    for name, param in kind.params.items():
        assert param.meaning
        if isinstance(param.default, str):
            assert not param.choices or param.default in param.choices
            continue
        assert param.low < param.high
        for bad in (param.low - 1, param.high + 1, math.nan, "much", True):
            with pytest.raises(DeviceError, match=name):
                kind.checked({name: bad})
    with pytest.raises(DeviceError, match="no parameter 'nonsense'"):
        kind.checked({"nonsense": 1})


def test_a_fault_stands_from_its_time_to_its_end():
    board = FaultBoard(3)
    number = board.switch_on("latency", from_s=10.0, until_s=20.0, delay_s=1.5)
    assert not board.quiet and board.faults()[0].id == number
    assert board.standing("latency", 9.999) is None
    fault = board.standing("latency", 10.0)
    assert fault is not None and fault.number("delay_s") == 1.5 and fault.unit == 3
    assert board.strike("jitter", 10.0) is None and board.strike("latency", 15.0, address=7) == fault
    assert board.standing("latency", 20.0) is None and board.quiet
    assert [(entry.seq, entry.at_s, entry.kind, entry.unit) for entry in board.log.entries()] == [
        (0, 15.0, "latency", 3)
    ]
    assert board.log.entries()[0].detail == {"address": 7}


def test_the_newest_stands_before_the_older():
    board = FaultBoard()
    board.switch_on("latency", delay_s=1.0)
    second = board.switch_on("latency", delay_s=2.0, until_s=5.0)
    assert board.standing("latency", 0.0).id == second
    assert [fault.number("delay_s") for fault in board.all_standing("latency", 1.0)] == [2.0, 1.0]
    assert board.standing("latency", 5.0).number("delay_s") == 1.0
    board.clear()
    assert board.quiet


def test_chance_is_keyed_by_seed_unit_and_number():
    def drawn(unit, seed):
        board = FaultBoard(unit)
        board.switch_on("drop-answer", probability=0.4, seed=seed)
        return [board.strike("drop-answer", float(n)) is not None for n in range(2000)]

    first = drawn(1, 5)
    assert first == drawn(1, 5)
    assert first != drawn(2, 5) and first != drawn(1, 6)
    assert 720 <= sum(first) <= 880  # 800 expected, 22 standard deviation


def test_a_lasting_condition_is_drawn_and_logged_once():
    board = FaultBoard()
    board.switch_on("night-sleep", until_s=10.0)
    assert all(board.lasting("night-sleep", float(n)) for n in range(10))
    assert board.lasting("night-sleep", 10.0) is None
    assert board.log.counts == {"night-sleep": 1}
    never = board.switch_on("no-timer", probability=0.0)
    assert not any(board.lasting("no-timer", float(n)) for n in range(10))
    board.switch_off(never)
    board.switch_off(never)
    assert board.quiet and len(board.log) == 1


def test_the_log_is_bounded_and_its_lines_are_whole():
    sink = io.StringIO()
    log = FaultLog(limit=10, sink=sink)
    one, two = FaultBoard(1, log), FaultBoard(2, log)
    for board in (one, two):
        board.switch_on("wrong-unit")
    for n in range(30):
        (one if n % 3 else two).strike("wrong-unit", n / 8, address=n)
    assert len(log) == 30 and len(log.entries()) == 10 and log.counts["wrong-unit"] == 30
    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert [line["seq"] for line in lines] == list(range(30))
    assert lines[4] == {
        "seq": 4,
        "at_s": 0.5,
        "kind": "wrong-unit",
        "unit": 1,
        "fault_id": 1,
        "params": {"by": 1.0},
        "detail": {"address": 4},
    }
    assert [entry.seq for entry in log.entries(unit=2, since=25)] == [27]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"kind": "latencyy"}, "did you mean .*latency"),
        ({"kind": "latency", "delay": 1.0}, "no parameter 'delay'"),
        ({"kind": "latency", "delay_s": 1e6}, "delay_s is 1e\\+06, has to lie in 0 .. 3600"),
        ({"kind": "latency", "from_s": 5.0, "until_s": 5.0}, "from 5.0 to 5.0"),
        ({"kind": "latency", "from_s": math.nan}, "from nan"),
        ({"kind": "latency", "probability": 1.1}, "probability 1.1"),
        ({"kind": "session-limit", "way": "kick"}, "one of close, reset"),
    ],
)
def test_nonsense_is_refused_with_a_reason(call, reason):
    board = FaultBoard()
    with pytest.raises(DeviceError, match=reason) as caught:
        board.switch_on(**call)
    assert caught.value.local and board.quiet


def test_the_table_for_people_names_every_fault_and_parameter():
    text = catalogue_markdown()
    for kind in CATALOGUE.values():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{kind.name}` |"))
        assert kind.meaning in line and all(f"`{name}`" in line for name in kind.params)
