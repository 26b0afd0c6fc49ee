"""Scripted faults: the format, what it refuses and where, and the player."""

import pytest

from core.errors import ScenarioError
from hardware.emulator.fault_script import Boards, ScriptPlayer, load_script, script_markdown, script_of
from hardware.emulator.faults import FaultBoard
from hardware.emulator.server import EmulatorServer
from tests.hardware.emulator.wire_rig import GOOD, Toy, connect

SCRIPT = """\
faults:
  - {kind: drop-answer, at_s: 10, for_s: 5, device: pv-1, probability: 0.3, seed: 7}
  - kind: exception-6
    every_s: 60
    for_s: 2
    times: 3
    params: {first: 40000, last: 40100}
  - {kind: refuse-connection, at_s: 30, for_s: 10}
  - {kind: latency, unit: 2, params: {delay_s: 0.5}}
"""


def boards():
    return Boards(
        {"pv-1": FaultBoard(1), "pv-2": FaultBoard(2), "meter": FaultBoard(2)}, {"5020": FaultBoard()}, FaultBoard()
    )


def test_a_script_comes_to_the_boards_at_its_times(tmp_path):
    path = tmp_path / "script.yaml"
    path.write_text(SCRIPT)
    hit = boards()
    player = ScriptPlayer(load_script(path), hit, start_s=1000.0)
    player.advance(1000.0, ahead_s=5.0)
    assert hit.devices["pv-1"].standing("drop-answer", 1010.0) is None  # not yet: too far ahead
    assert hit.devices["pv-1"].standing("exception-6", 1001.9).whole("last") == 40_100
    assert hit.devices["pv-1"].standing("latency", 1000.0) is None
    assert hit.devices["meter"].standing("latency", 1e9).number("delay_s") == 0.5
    assert hit.ports["5020"].quiet
    player.advance(1028.0, ahead_s=5.0)
    assert hit.ports["5020"].standing("refuse-connection", 1030.0)
    assert hit.devices["pv-1"].standing("drop-answer", 1014.0) is None  # over before anybody looked
    busy = []
    for second in range(1029, 1300):
        player.advance(float(second), ahead_s=2.0)
        if hit.devices["pv-2"].standing("exception-6", float(second)):
            busy.append(second)
    assert player.done and busy == [1060, 1061, 1120, 1121]  # the first of the three was 1000 and 1001
    assert [fault.kind for fault in hit.devices["pv-2"].faults()] == ["latency"]


def test_what_repeats_begins_anew_each_time_and_ends():
    hit = boards()
    player = ScriptPlayer(script_of([{"kind": "grid-loss", "every_s": 10, "for_s": 3}]), hit, 0.0)
    felt = []
    for tenth in range(400):
        player.advance(tenth / 10, ahead_s=0.5)
        felt.append(hit.site.lasting("grid-loss", tenth / 10) is not None)
    assert felt == [tenth % 100 < 30 for tenth in range(400)]
    assert hit.site.log.counts == {"grid-loss": 4} and not player.done
    assert all(board.quiet for board in hit.devices.values())
    player.advance(1e6 + 1.0)  # a long sleep: what was missed is not made up for
    assert len(hit.site.faults()) == 1


def test_devices_draw_their_own_chance():
    hit = Boards({name: FaultBoard(1) for name in ("a", "b")})
    ScriptPlayer(script_of([{"kind": "drop-request", "probability": 0.5}]), hit, 0.0).advance(0.0)
    draws = [[board.strike("drop-request", float(n)) is not None for n in range(64)] for board in hit.devices.values()]
    assert draws[0] != draws[1]


@pytest.mark.parametrize(
    ("line", "place", "reason"),
    [
        ("{kind: drop-answers}", "script.yaml:2: faults\\[0\\].kind|faults\\[0\\].kind", "did you mean drop-answer"),
        ("{kind: latency, params: {delay_s: -1}}", "faults\\[0\\].params", "has to lie in 0 .. 3600"),
        ("{kind: latency, params: {delay: 1}}", "faults\\[0\\].params", "no parameter 'delay'"),
        ("{kind: latency, atz_s: 3}", "faults\\[0\\].atz_s", "is unknown"),
        ("{at_s: 3}", "faults\\[0\\].kind", "missing"),
        ("{kind: latency, at_s: -3}", "faults\\[0\\].at_s", "greater than or equal to 0"),
        ("{kind: latency, probability: 1.5}", "faults\\[0\\].probability", "less than or equal to 1"),
        ("{kind: latency, every_s: 5}", "faults\\[0\\]", "needs a for_s"),
        ("{kind: latency, every_s: 5, for_s: 6}", "faults\\[0\\]", "not longer"),
        ("{kind: latency, times: 2}", "faults\\[0\\]", "times needs every_s"),
        ("{kind: latency, unit: 1, device: a}", "faults\\[0\\]", "exclude each other"),
        ("{kind: session-limit, device: a}", "faults\\[0\\]", "is a fault of a port"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, line, place, reason):
    path = tmp_path / "script.yaml"
    path.write_text(f"faults:\n  - {line}\n")
    with pytest.raises(ScenarioError, match=reason) as caught:
        load_script(path)
    assert caught.value.line == 2 and caught.value.file == str(path)
    caught.match(place)


def test_plain_data_is_refused_with_its_place_too():
    with pytest.raises(ScenarioError, match=r"sites\[0\].faults\[1\].kind.*no fault 'nope'"):
        script_of([{"kind": "latency"}, {"kind": "nope"}], "sites[0].faults")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"device": "pv-9"}, r"faults\[0\].device: there is no 'pv-9'\n.*pv-1, pv-2, meter"),
        ({"unit": 9}, r"faults\[0\].unit: no device is unit 9\n.*1, 2"),
        ({"port": "502"}, r"faults\[0\].port: there is no '502'\n.*5020"),
    ],
)
def test_targets_that_are_not_there_are_refused(entry, reason):
    with pytest.raises(ScenarioError, match=reason):
        ScriptPlayer(script_of([{"kind": "latency", **entry}]), boards(), 0.0)


async def test_a_script_plays_over_a_server():
    device, now = Toy(), [50.0]
    async with EmulatorServer((device,), clock=lambda: now[0]) as server:
        script = script_of(
            [
                {"kind": "wrong-unit", "for_s": 2},
                {"kind": "exception-6", "at_s": 2, "for_s": 2, "port": "main"},
                {"kind": "session-limit", "at_s": 4.5, "params": {"way": "reset"}},
            ]
        )
        client = await connect(server.port)
        player = ScriptPlayer(script, Boards({"toy": device.board}, {"main": server.board}), 50.0)
        await player.play(lambda: now[0])  # ends when the last is switched on, here at once
        assert player.done
        assert await client.ask() == (1, 2, GOOD)
        now[0] = 52.0
        assert await client.ask() == (1, 1, bytes((0x83, 6)))
        now[0] = 54.4
        assert await client.ask() == (1, 1, GOOD)
        now[0] = 54.5
        other = await connect(server.port)
        assert await other.ended() == "reset"
        assert [(entry.at_s, entry.kind) for entry in device.board.log.entries()] == [
            (50.0, "wrong-unit"),
            (52.0, "exception-6"),
            (54.5, "session-limit"),
        ]
        await client.close()
        await other.close()


def test_the_table_of_the_format_names_every_key():
    text = script_markdown()
    assert all(f"| `{key}` |" in text for key in ("kind", "params", "at_s", "every_s", "for_s", "times", "port"))
