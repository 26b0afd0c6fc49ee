"""Our compact definitions against the official ones, point by point, and against pysunspec2's own offsets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import DeviceError
from hardware.sunspec.definitions import ModelLayout, definition, known_models
from hardware.sunspec.make_definitions import TARGET, compact_definitions, rendered

COUNTS = {"NCrv": 2, "NCrvSet": 2, "NPt": 3, "NCtl": 2, "NPrt": 2}


def official_folder() -> Path:
    sunspec2 = pytest.importorskip("sunspec2")
    return Path(sunspec2.__file__).parent / "models" / "json"


def test_file_is_what_the_script_makes_from_the_official_models():
    version = json.loads(TARGET.read_text(encoding="utf-8"))["version"]
    assert rendered(compact_definitions(official_folder(), version)) == TARGET.read_text(encoding="utf-8")


def official_points(group: dict, prefix: str, counts: dict[str, int], at: int) -> list[tuple[str, int, int]]:
    found = []
    for point in group["points"]:
        found.append((prefix + point["name"], at, point["size"]))
        at += point["size"]
    for inner in group.get("groups", []):
        count = inner.get("count", 1)
        times = 2 if count == 0 else counts.get(count, count)
        for index in range(times):
            name = f"{prefix}{inner['name']}" + ("." if count == 1 else f"[{index}].")
            points = official_points(inner, name, counts, at)
            found += points
            at = points[-1][1] + points[-1][2]
    return found


@pytest.mark.parametrize("model", sorted(known_models()))
def test_layout_places_every_official_point(model):
    official = json.loads((official_folder() / f"model_{model}.json").read_text(encoding="utf-8"))
    layout = ModelLayout.of(model, COUNTS, repeats=2)
    assert [(p.path, p.offset, p.size) for p in layout] == official_points(official["group"], "", COUNTS, 0)
    assert layout.start_words() == [model, layout.length]
    scaled = [p for p in layout if isinstance(p.definition.scale, str)]
    for point in scaled:
        factor = next(p for p in layout if p.offset == point.scale_offset)
        assert factor.type == "sunssf"
        assert factor.path.rpartition(".")[2] == point.definition.scale


def test_points_of_hand_copied_models():
    # From the printed tables of models 103 and 123, not from any file.
    inverter, controls = ModelLayout.of(103), ModelLayout.of(123)
    assert {name: inverter[name].offset for name in ("A", "W", "W_SF", "Hz", "WH", "TmpCab", "St", "Evt1")} == {
        "A": 2, "W": 14, "W_SF": 15, "Hz": 16, "WH": 24, "TmpCab": 33, "St": 38, "Evt1": 40,
    }  # fmt: skip
    assert {n: controls[n].offset for n in ("Conn", "WMaxLimPct", "WMaxLimPct_RvrtTms", "WMaxLim_Ena")} == {
        "Conn": 4, "WMaxLimPct": 5, "WMaxLimPct_RvrtTms": 7, "WMaxLim_Ena": 9,
    }  # fmt: skip
    assert controls["WMaxLimPct_SF"].offset == 23
    assert controls["WMaxLimPct"].scale_offset == 23
    assert controls["WMaxLim_Ena"].definition.symbols == {"DISABLED": 0, "ENABLED": 1}
    assert controls["WMaxLim_Ena"].definition.writable
    assert not inverter["W"].definition.writable
    assert inverter["W"].definition.mandatory


def test_repeats_follow_from_the_length():
    assert ModelLayout.for_length(160, 48).length == 48
    assert "module[1].DCW" in ModelLayout.for_length(160, 48)
    assert "module[2].DCW" not in ModelLayout.for_length(160, 67)  # no whole third module
    assert ModelLayout.for_length(103, 60).length == 50


@pytest.mark.parametrize(
    ("model", "counts"),
    [(64001, {}), (705, {"NCrv": 1}), (705, {"NCrv": -1, "NPt": 1}), (705, {"NCrv": 60000, "NPt": 60000})],
)
def test_impossible_layouts_are_refused(model, counts):
    with pytest.raises(DeviceError) as error:
        ModelLayout.of(model, counts)
    assert error.value.local


def test_definition_is_typed_and_kept():
    assert definition(704) is definition(704)
    assert definition(704).name == "DERCtlAC"
    assert definition(705).count_names() == {"NCrv", "NPt"}
    assert "Crv[0].ActPt" not in definition(705).fixed_points()
    assert definition(705).fixed_points()["NPt"].offset == 5  # Ena, AdptCrvReq, AdptCrvRslt, NPt
