"""Mistakes as users make them, through the command: told with place, reason and remedy; nothing is in the way after."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import peerwatt
from peerwatt import cli
from tests.peerwatt.districts import files_of

HOURS = 24


def csv_lines() -> list[str]:
    return ["time,load_kwh,pv_kwh", *(f"2021-06-01 {h:02d}:00,0.{h + 10},{h / 100:.2f}" for h in range(HOURS))]


def study() -> dict[str, Any]:
    series = {"file": "home.csv", "time_zone": "Europe/Berlin"}
    return {
        "name": "mine",
        "network": {"source": "cigre:lv"},
        "time": {"start": "2021-06-01", "days": 1, "slot_minutes": 60, "zone": "Europe/Berlin"},
        "profiles": {
            "use": {**series, "column": "load_kwh", "unit": "kWh", "sign": "load"},
            "sun": {**series, "column": "pv_kwh", "unit": "kWh", "sign": "generation"},
        },
        "contracts": {"default": {"terms": [{"retail": {"flat_per_kwh": 0.3}, "feed_in": {"flat_per_kwh": 0.1}}]}},
        "buildings": [
            {"id": "h1", "bus": "Bus R11", "assets": [{"kind": "load", "profile": "use"}]},
            {"id": "h2", "bus": "Bus R15", "assets": [{"kind": "load", "profile": "use", "scale": 0.5},
                                                      {"kind": "pv", "profile": "sun", "peak_kw": 9.0}]},
        ],
    }  # fmt: skip


class Desk:
    """A user's folder with a scenario, a CSV file and a place for the run."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.out, self._capsys = folder, folder / "out", capsys
        self.file, self.csv = folder / "mine.yaml", folder / "home.csv"

    def run(self, scenario: dict[str, Any], lines: list[str], *options: str) -> tuple[int, str]:
        self.file.write_text(yaml.safe_dump(scenario, sort_keys=False))
        self.csv.write_text("\n".join(lines) + "\n")
        code = cli.main(["run", str(self.file), "--out", str(self.out), "--no-report", "--quiet", *options])
        told = self._capsys.readouterr()
        assert told.out == ""
        return code, told.err

    def line_of(self, text: str) -> int:
        lines = self.file.read_text().splitlines()
        return 1 + next(i for i, line in enumerate(lines) if text in line)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


Spoil = Callable[[dict[str, Any], list[str]], None]


def put(*path: str | int, value: Any) -> Spoil:
    def spoil(scenario: dict[str, Any], _lines: list[str]) -> None:
        holder: Any = scenario
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value

    return spoil


def cell(row: int, text: str) -> Spoil:
    def spoil(_scenario: dict[str, Any], lines: list[str]) -> None:
        stamp, _, rest = lines[row].split(",")
        lines[row] = f"{stamp},{text},{rest}"

    return spoil


def market(rule: str, **parameters: Any) -> Spoil:
    return put("market", value={"stages": [{"rule": rule, "parameters": parameters}]})


# what is spoilt; the file and a text on the line that must be named (an int is a line of the CSV); words of the message
SPOILT: dict[str, tuple[Spoil, str | int | None, tuple[str, ...]]] = {
    "wrong unit": (put("profiles", "use", "unit", value="kWhh"), "unit: kWhh", ("kWhh", "kWh")),
    "a unit of something else": (put("profiles", "use", "unit", value="EUR/MWh"), "unit: EUR/MWh", ("EUR/MWh",)),
    "NaN in the CSV": (cell(7, "NaN"), 8, ("home.csv", "fill")),
    "text in the CSV": (cell(5, "lots"), 6, ("home.csv", "'lots'", "not a number")),
    "negative load": (cell(9, "-0.4"), 10, ("home.csv", "negative")),
    "unknown key": (put("currrency", value="EUR"), "currrency", ("currrency", "currency")),
    "unknown key of an asset": (
        put("buildings", 1, "assets", 1, "peak_kwp", value=3.0), "peak_kwp", ("peak_kwp", "peak_kw")
    ),
    "missing profile": (put("buildings", 0, "assets", 0, "profile", value="usee"), "profile: usee", ("usee", "use")),
    "missing file": (put("profiles", "use", "file", value="homes.csv"), "homes.csv", ("homes.csv", "home.csv")),
    "missing column": (put("profiles", "use", "column", value="load"), None, ("home.csv", "'load'", "load_kwh")),
    "a run beyond the file": (put("time", "days", value=2), None, ("home.csv", "2021-06-02")),
    "retail below feed-in": (
        put("contracts", "default", "terms", 0, "feed_in", value={"flat_per_kwh": 0.31}), "- retail",
        ("retail 0.3", "feed-in 0.31"),
    ),
    "unknown rule": (market("uniform_prize"), "uniform_prize", ("uniform_prize", "uniform_price")),
    "unknown parameter of the rule": (market("uniform_price", kk=0.5), "kk: 0.5", ("kk", "k,", "tie_break")),
    "parameter out of range": (market("uniform_price", k=1.5), "k: 1.5", ("1.5", "between 0 and 1")),
    "unknown bus": (put("buildings", 0, "bus", value="Bus R99"), "bus: Bus R99", ("Bus R99",)),
    "unknown network": (put("network", "source", value="cigre:lw"), "source: cigre:lw", ("cigre:lw",)),
    "unknown contract": (put("buildings", 0, "contract", value="tou"), "contract: tou", ("tou", "default")),
    "unknown strategy": (
        put("buildings", 0, "strategy", value={"kind": "truthfull"}), "truthfull", ("truthfull", "truthful")
    ),
    "unknown controller": (
        put("buildings", 1, "assets", 1, value={"kind": "battery", "capacity_kwh": 5.0, "charge_kw": 2.0,
            "discharge_kw": 2.0, "controller": "greedy"}), None, ("'greedy'", "greedy_self_consumption"),
    ),
    "duplicate ids": (put("buildings", 1, "id", value="h1"), None, ("'h1'", "buildings[0]")),
    "no buildings": (put("buildings", value=[]), None, ("no buildings",)),
    "end before start": (
        put("time", value={"start": "2021-06-02", "end": "2021-06-01", "zone": "Europe/Berlin"}), None, ("end",)
    ),
    "a zone that is none": (put("time", "zone", value="Europe/Berlln"), "zone: Europe/Berlln", ("Europe/Berlin",)),
    "a negative scale": (put("buildings", 0, "assets", 0, "scale", value=-1.0), "scale: -1.0", ("scale",)),
    "price in cents": (
        put("contracts", "default", "terms", 0, "retail", value={"flat_per_kwh": 30.0}), "30.0", ("cents", "0.3")
    ),
    "a car whose stays overlap": (
        put("buildings", 0, "assets", value=[{"kind": "ev", "sessions": [
            {"arrival": "2021-06-01T08:00", "departure": "2021-06-01T12:00", "energy_kwh": 3.0},
            {"arrival": "2021-06-01T11:00", "departure": "2021-06-01T13:00", "energy_kwh": 3.0}]}]),
        None, ("stay",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", SPOILT)
def test_a_mistake_is_told_with_place_and_remedy_and_mending_it_is_enough(mistake: str, desk: Desk) -> None:
    spoil, place, words = SPOILT[mistake]
    scenario, lines = study(), csv_lines()
    spoil(scenario, lines)
    code, told = desk.run(scenario, lines)
    assert code == cli.USER_ERROR
    assert "Traceback" not in told
    assert told.startswith("error: ") and "what to do: " in told
    if isinstance(place, int):
        assert f"home.csv:{place}" in told
    elif place is not None:
        assert f"mine.yaml:{desk.line_of(place)}" in told
    else:
        assert "mine.yaml" in told or "home.csv" in told, told
    missing = [word for word in words if word not in told]
    assert not missing, told
    assert not desk.out.exists(), "a mistake found before the run leaves nothing behind"
    code, told = desk.run(study(), csv_lines())
    assert code == 0, told
    assert peerwatt.verify_run(desk.out).ok


def test_several_mistakes_are_told_together(desk: Desk) -> None:
    scenario = study()
    scenario["buildings"][0]["contract"] = "tou"
    scenario["buildings"][1]["assets"][0]["profile"] = "usee"
    code, told = desk.run(scenario, csv_lines())
    assert code == cli.USER_ERROR
    assert "2 problems" in told and "tou" in told and "usee" in told


def test_a_network_that_does_not_converge_names_slot_and_element_and_does_not_block_the_next_run(desk: Desk) -> None:
    scenario = study()
    for building in scenario["buildings"]:
        building["assets"][0]["scale"] = 1000.0
    code, told = desk.run(scenario, csv_lines())
    assert code == cli.USER_ERROR
    assert told.startswith("error: ") and "slot " in told and "what to do: " in told and "Traceback" not in told
    code, told = desk.run(study(), csv_lines())
    assert code == 0, told
    assert peerwatt.verify_run(desk.out).ok


def test_a_failed_run_that_was_to_replace_another_leaves_that_one(desk: Desk) -> None:
    assert desk.run(study(), csv_lines())[0] == 0
    before = files_of(desk.out)
    scenario = copy.deepcopy(study())
    scenario["buildings"][0]["assets"][0]["scale"] = 1e6
    code, told = desk.run(scenario, csv_lines(), "--overwrite")
    assert code == cli.USER_ERROR and "slot " in told
    assert files_of(desk.out) == before
    assert sorted(p.name for p in desk.folder.iterdir()) == ["home.csv", "mine.yaml", "out"]


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["plain", "overwrite"])
def test_a_folder_that_is_no_run_is_never_touched(overwrite: list[str], desk: Desk) -> None:
    desk.out.mkdir()
    (desk.out / "thesis.txt").write_text("three years of work")
    code, told = desk.run(study(), csv_lines(), *overwrite)
    assert code == cli.USER_ERROR
    assert str(desk.out) in told and "what to do: " in told and "Traceback" not in told
    assert [p.name for p in desk.out.iterdir()] == ["thesis.txt"]


def test_a_file_where_the_folder_should_be_is_refused(desk: Desk) -> None:
    desk.out.write_text("not a folder")
    for options in ([], ["--overwrite"], ["--resume"]):
        code, told = desk.run(study(), csv_lines(), *options)
        assert code == cli.USER_ERROR, told
        assert "what to do: " in told
    assert desk.out.read_text() == "not a folder"


@pytest.mark.slow
def test_a_finished_run_is_kept_and_the_message_says_how_to_replace_it(desk: Desk) -> None:
    assert desk.run(study(), csv_lines())[0] == 0
    before = files_of(desk.out)
    code, told = desk.run(study(), csv_lines())
    assert code == cli.USER_ERROR and "overwrite" in told
    assert files_of(desk.out) == before
    assert desk.run(study(), csv_lines(), "--overwrite")[0] == 0
    assert files_of(desk.out) == before, "the same run again"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "buildings[h9].plant=emulated"], ("h9", "h1")),
        (["--set", "market.stages[0].rule=pair_prize"], ("pair_prize", "pair_price")),
        (["--set", "network.v_mx_pu=1.05"], ("v_mx_pu", "v_max_pu")),
        (["--rule", "none_such.py"], ("none_such.py",)),
        (["--rule", "none_such"], ("none_such", "uniform_price")),
        (["--days", "2"], ("home.csv",)),
    ],
)
def test_a_wrong_option_is_told_as_plainly(options: list[str], words: tuple[str, ...], desk: Desk) -> None:
    code, told = desk.run(study(), csv_lines(), *options)
    assert code == cli.USER_ERROR
    assert "what to do: " in told and "Traceback" not in told
    assert not [word for word in words if word not in told], told
    assert not desk.out.exists()


def test_a_scenario_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("semiurbn", str(tmp_path / "none.yaml")):
        assert cli.main(["run", name, "--out", str(tmp_path / "out")]) == cli.USER_ERROR
        told = capsys.readouterr().err
        assert "what to do: " in told and "Traceback" not in told
    assert "semiurban" not in told
    assert not (tmp_path / "out").exists()
