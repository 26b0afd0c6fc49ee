"""`peerwatt curves`: an inverter's curves shown, held against a standard, written and put back."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from controllers.commissioning.technician import Question
from hardware.emulator.device_settings import HybridSettings
from hardware.emulator.inverter import DerDevice
from peerwatt.cli import main
from peerwatt.commissioning import Terminal
from tests.peerwatt.test_probe import served

_WRITES = {5, 6, 15, 16, 22, 23}
SERIAL = "SN-77"
BOTH = ("ieee1547-2018-b", "--functions", "volt_var,volt_watt")


def _hybrid(clock: Callable[[], float]) -> DerDevice:
    return DerDevice(HybridSettings(noise=0.0, serial=SERIAL), clock)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _judged(address: str) -> SunSpecModbusClientDeviceTCP:
    host, _, port = address.rpartition(":")
    judge = SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr=host, ipport=int(port))
    judge.scan()
    judge.close()
    return judge


def test_looking_and_comparing_write_nothing(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    with served(_hybrid) as device:
        assert main(["curves", device.address]) == 0
        shown = capsys.readouterr().out
        assert main(["curves", device.address, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert main(["curves", device.address, "--against", *BOTH]) == 1
        compared = capsys.readouterr().out
    assert max(map(len, (shown + compared).splitlines())) <= 100
    assert "93 % V: 44   97 % V: 0   103 % V: 0   107 % V: -44   % of var" in shown and f"serial   {SERIAL}," in shown
    assert told["models"]["705"]["on"] is False and told["models"]["705"]["curve"]["points"][0] == [93.0, 44.0]
    assert "705 volt-var: is off, should be on" in compared
    # 19.36 by hand: between (93 %, 44 % of 4840 var) and outside the curve is constant; 44 % of 4840 / 11000 VA.
    assert "705 volt-var: at 92 % of nominal voltage it gives 19.36 %, should give 44 %" in compared
    assert "712" not in compared.partition("not as in")[2], "off, and to be off"
    assert device.functions and not _WRITES & set(device.functions)
    assert not list(here.iterdir())


def test_what_was_written_is_in_force_for_a_stranger_and_can_be_taken_back(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    with served(_hybrid) as device:
        assert main(["curves", device.address, "--json"]) == 0
        before = json.loads(capsys.readouterr().out)
        assert main(["curves", device.address, "--write", *BOTH, "--serial", SERIAL]) == 0
        said = capsys.readouterr().out
        judge = _judged(device.address)
        (var,), (watt,), (droop,) = (judge.models[number] for number in (705, 706, 711))
        points = [(point.V.cvalue, point.Var.cvalue) for point in var.Crv[0].Pt[: var.Crv[0].ActPt.value]]
        assert points == [(92.0, 44.0), (98.0, 0.0), (102.0, 0.0), (108.0, -44.0)]
        assert (var.Ena.value, watt.Ena.value, droop.Ena.value) == (1, 1, 1)
        assert [point.W.cvalue for point in watt.Crv[0].Pt[: watt.Crv[0].ActPt.value]] == [100.0, 0.0]
        assert judge.models[712][0].Ena.value == 0
        assert main(["curves", device.address, "--against", *BOTH]) == 0
        (kept,) = here.glob(f"curves-{SERIAL}-*.json")
        assert f"--write {kept}" in said.partition("curve in force")[0] and said.count("curve in force, on") == 3
        capsys.readouterr()
        device.functions.clear()
        assert main(["curves", device.address, "--write", *BOTH, "--serial", SERIAL]) == 0
        assert not _WRITES & set(device.functions), "nothing differs: nothing is written"
        assert main(["curves", device.address, "--write", kept.name, "--serial", SERIAL]) == 0
        capsys.readouterr()
        assert main(["curves", device.address, "--json"]) == 0
        after = json.loads(capsys.readouterr().out)
    assert after == before


def test_nothing_is_written_unless_somebody_names_the_device(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "old.json").write_text("mine")
    with served(_hybrid) as device:
        assert main(["curves", device.address, "--write", *BOTH, "--serial", "SN-78"]) == 2
        assert "has the serial number SN-77, not 'SN-78'" in capsys.readouterr().err
        assert main(["curves", device.address, "--write", *BOTH]) == 2
        assert "nobody confirmed it" in capsys.readouterr().err
        assert not list(here.glob("curves-*"))
        assert main(["curves", device.address, "--write", *BOTH, "--serial", SERIAL, "--keep", "old.json"]) == 2
        assert "name a new file with --keep" in capsys.readouterr().err
        assert not _WRITES & set(device.functions)
    assert (here / "old.json").read_text() == "mine"


def test_a_person_types_the_serial_and_what_changes_meanwhile_is_not_overwritten(
    capsys: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[DerDevice] = []

    def kept(clock: Callable[[], float]) -> DerDevice:
        devices.append(_hybrid(clock))
        return devices[0]

    def answers(rival: bool) -> Callable[[Terminal, Question], Awaitable[str]]:
        async def answer(self: Terminal, question: Question) -> str:
            assert "serial number" in question.text
            if rival:
                (device,) = devices
                at = next(device.base + cell.at for cell in device.holding if cell.path == "712.Ena")
                device.write(16, at, [1])
            return SERIAL

        return answer

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with served(kept) as device:
        monkeypatch.setattr(Terminal, "answer", answers(rival=True))
        assert main(["curves", device.address, "--write", *BOTH]) == 2
        assert "has changed since it was shown; nothing was written" in capsys.readouterr().err
        assert not _WRITES & set(device.functions) and not list(here.iterdir())
        monkeypatch.setattr(Terminal, "answer", answers(rival=False))
        assert main(["curves", device.address, "--write", *BOTH]) == 0
        assert "712 watt-var: off" in capsys.readouterr().out


def test_a_write_that_a_device_drops_is_said_with_the_way_back(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    with served(_hybrid, "ack-and-drop") as device:
        assert main(["curves", device.address, "--write", *BOTH, "--serial", SERIAL]) == 1
    (kept,) = here.glob("curves-*.json")
    error = capsys.readouterr().err
    assert "something else is read back" in error and f"--write {kept}" in error


def test_an_order_beside_the_curves_is_shown_and_stands_against_writing(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    def ordered(clock: Callable[[], float]) -> DerDevice:
        device = _hybrid(clock)
        at = next(device.base + cell.at for cell in device.holding if cell.path == "704.VarSetEna")
        device.write(16, at, [1])
        return device

    with served(ordered) as device:
        assert main(["curves", device.address]) == 0
        assert "704  an ordered reactive power is on beside the curves" in capsys.readouterr().out
        assert main(["curves", device.address, "--against", *BOTH]) == 1
        assert "stands against the curves" in capsys.readouterr().err
        assert main(["curves", device.address, "--write", *BOTH, "--serial", SERIAL]) == 2
        assert "would stand against it; nothing was written" in capsys.readouterr().err
        assert not _WRITES & set(device.functions)


def test_own_settings_come_from_a_file_and_wrong_words_are_refused(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "mine.yaml").write_text(
        "standard: ieee1547-2018-b\nfunctions: [volt_var]\n"
        "settings: {volt_var: {x: [0.93, 1.07], y: [0.44, -0.44]}, freq_watt_on: false}\n"
    )
    (here / "bad.yaml").write_text("standard: ieee1547-2018-b\nfunktions: [volt_var]\n")
    (here / "bad.json").write_text("{}")
    with served(_hybrid) as device:
        assert main(["curves", device.address, "--write", "mine.yaml", "--serial", SERIAL]) == 0
        said = capsys.readouterr().out
        assert "705 volt-var: curve in force, on" in said and said.count("in force") == 1
        for words, why in (
            (["--against", "bad.yaml"], "funktions"),
            (["--against", "bad.json"], "is no file of curves"),
            (["--against", "ieee1547"], "ieee1547-2018-b"),
            (["--against", "ieee1547-2018-b", "--functions", "volt_var,fixed_pf"], "one reactive function at a time"),
            (["--functions", "volt_var"], "--against or --write"),
            (["--serial", SERIAL], "need --write"),
            (["--write", "ieee1547-2018-b", "--json"], "--json shows"),
        ):
            assert main(["curves", device.address, *words]) == 2
            assert why in capsys.readouterr().err, words
        assert main(["curves", device.address, "--against", "as4777.2-2020-a"]) == 1
        assert "711 frequency droop is left as it is: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("curve", "why"),
    [
        ("{x: [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98], y: [0, 0, 0, 0, 0, 0, 0, 0, 0]}", "takes 1 to"),
        ("{x: [0.93, 1.07], y: [4400, -4400]}", "does not fit"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_goes_off(
    capsys: pytest.CaptureFixture[str], here: Path, curve: str, why: str
) -> None:
    def by_watt(clock: Callable[[], float]) -> DerDevice:
        device = _hybrid(clock)
        at = next(device.base + cell.at for cell in device.holding if cell.path == "712.Ena")
        device.write(16, at, [1])
        return device

    (here / "wrong.yaml").write_text(
        f"standard: ieee1547-2018-b\nfunctions: [volt_var]\nsettings: {{volt_var: {curve}, freq_watt_on: false}}\n"
    )
    with served(by_watt) as device:
        assert main(["curves", device.address, "--write", "wrong.yaml", "--serial", SERIAL]) == 2
        error = capsys.readouterr().err
        assert why in error and "nothing was written" in error
        assert not _WRITES & set(device.functions)


def test_a_standard_that_no_model_can_say_is_not_passed_as_kept(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    with served(_hybrid) as device:
        assert main(["curves", device.address, "--against", "en50549-1-2019"]) == 1
    said = capsys.readouterr()
    assert "as far as curve models can say it" in said.out and "711 frequency droop is left as it is" in said.err


def test_a_device_without_curves_says_so(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    from hardware.emulator.device_build import build_device

    with served(lambda clock: build_device("meter", clock=clock)) as device:
        assert main(["curves", device.address]) == 1
    assert "has none of the curve models" in capsys.readouterr().err
