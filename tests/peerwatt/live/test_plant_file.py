"""The plant's checkpoint: whole or absent, of this run or not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from peerwatt.live.recovery import PlantFile


@pytest.fixture
def file(tmp_path: Path) -> PlantFile:
    return PlantFile(tmp_path / "plant.npz", "run-1")


STATE = {"battery.e_wh": np.array([7, 2**61]), "remainder.load": np.array([0.1 + 0.2, -1e-300])}


def test_what_was_saved_last_comes_back_to_the_bit(file: PlantFile) -> None:
    file.save(3, {"battery.e_wh": np.array([1, 1])})
    file.save(4, STATE)
    found = file.load()
    assert found is not None
    slot, arrays = found
    assert slot == 4 and set(arrays) == set(STATE)
    for name, array in STATE.items():
        assert arrays[name].dtype == array.dtype and arrays[name].tobytes() == array.tobytes()


def test_nothing_is_read_where_nothing_is(file: PlantFile) -> None:
    assert file.load() is None


def test_another_runs_plant_is_not_read(file: PlantFile) -> None:
    file.save(4, STATE)
    assert PlantFile(file.path, "run-2").load() is None


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-1], lambda raw: raw[:50] + b"\x00" + raw[51:], lambda raw: b""])
def test_a_damaged_file_is_not_read(file: PlantFile, spoil) -> None:  # type: ignore[no-untyped-def]
    file.save(4, STATE)
    raw = file.path.read_bytes()
    assert spoil(raw) != raw
    file.path.write_bytes(spoil(raw))
    assert file.load() is None
