"""Loading networks: names, columns, cache, the way back to pandapower, the shipped SimBench extract."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pyarrow.parquet as pq
import pytest

from core import GridError
from grid import Network
from grid.layout import tree_layout
from grid.sources import cache, published, simbench
from tests.grid import power_flow_nets as nets

SEMIURBAN = "simbench:1-LV-semiurb4--2-sw"


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEERWATT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.slow
def test_columns_of_the_shipped_network() -> None:
    network = Network.load(SEMIURBAN)
    assert (network.n_buses, len(network.branches), network.branches.n_lines) == (44, 43, 42)
    assert (len(network.loads), len(network.sgens), len(network.storages)) == (58, 6, 4)
    assert network.sgens.p_kw.sum() == pytest.approx(-172.2, abs=0.01)  # generation is negative
    assert network.storages.max_e_kwh.sum() == pytest.approx(450.4, abs=0.1)
    assert network.storages.efficiency.tolist() == [0.95] * 4
    assert network.storages.self_discharge_per_day.tolist() == pytest.approx([0.0013] * 4)
    assert network.loads.profile[0] == "H0-B"
    assert network.loads.p_kw[0] == pytest.approx(4.0)
    assert network.bus_ids[network.loads.bus[0]] == "32"
    assert network.branches.kinds[-1] == "transformer"
    assert network.branches.rated_kva[-1] == pytest.approx(400.0)
    assert network.branches.rated_to_a[-1] == pytest.approx(400.0 / (np.sqrt(3) * 0.4))
    assert network.branches.rated_from_a[0] == pytest.approx(270.0)
    assert network.branches.from_bus[-1] == network.feeding_buses[0] == 0
    assert np.isfinite(network.v_min_pu).all()
    assert network.has_geo
    assert "ODbL" in network.notices[0]
    assert not network.model.refusal
    with pytest.raises(ValueError, match="read-only"):
        network.vn_kv[0] = 1.0


def test_buses_are_found_by_name_and_by_index() -> None:
    net = nets.empty()
    for name, index in (("station", 7), ("house 1", 3), ("house 2", 9), ("twin", 12), ("twin", 14), ("3", 20)):
        pp.create_bus(net, 0.4, name=name, index=index)
    pp.create_ext_grid(net, 7)
    for bus in (3, 9, 12, 14, 20):
        pp.create_line(net, 7, bus, 0.1, "NAYY 4x150 SE")
    network = Network.from_pandapower(net)
    assert network.bus_ids == ("7", "3", "9", "12", "14", "20")
    assert network.bus_index("station") == 0
    assert network.bus_index(9) == network.bus_index("9") == network.bus_index("house 2") == 2
    assert network.bus_index("id:3") == 1
    assert network.bus_index("name:3") == 5
    with pytest.raises(GridError, match=r"near matches: house"):
        network.bus_index("hous 1")
    with pytest.raises(GridError, match=r"2 buses .*id:12.*id:14"):
        network.bus_index("twin")
    with pytest.raises(GridError, match="id:INDEX"):
        network.bus_index("3")
    assert any("more than once" in remark for remark in network.remarks)


@pytest.mark.slow
def test_every_named_network_exists_and_wrong_names_list_the_right_ones() -> None:
    functions = {name.removeprefix("create_kerber_") for name in dir(pn) if name.startswith("create_kerber_")}
    assert set(published.KERBER) == functions
    assert all(hasattr(pn, function) for function in published.CIGRE.values())
    assert (
        Network.load("kerber:create_kerber_landnetz_kabel_1").n_buses == Network.load("kerber:landnetz-kabel-1").n_buses
    )
    for name, hint in (
        ("kerber:nowhere", "kerber:dorfnetz"),
        ("cigre:hv", "cigre:lv"),
        ("ieee:13", "simbench:CODE"),
        ("nothing.json", "nothing.json"),
        ("pandapower:x.json", "x.json"),
    ):
        with pytest.raises(GridError, match=hint):
            Network.load(name)


def test_an_unshipped_simbench_code_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for ask in (Network.load, lambda code: simbench.profiles_file(code.removeprefix("simbench:"))):
        with pytest.raises(GridError, match=r"pip install 'peerwatt\[simbench\]'"):
            ask("simbench:1-LV-rural1--0-sw")


@pytest.mark.slow
def test_suburban_kerber_networks_are_the_same_every_time() -> None:
    random.seed(1)
    state = random.getstate()
    first = published._create("create_kerber_vorstadtnetz_kabel_1")
    assert random.getstate() == state
    random.seed(2)
    second = published._create("create_kerber_vorstadtnetz_kabel_1")
    assert first.line.equals(second.line)


@pytest.mark.slow
def test_cached_load_imports_neither_solver_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERWATT_CACHE", str(tmp_path))
    fresh = Network.load("cigre:lv")
    again = Network.load("cigre:lv")
    assert cache.content_hash(fresh) == cache.content_hash(again)
    assert fresh.notices == again.notices
    code = (
        "import sys; from grid import Network; from grid.sources.cache import content_hash\n"
        "n = Network.load('cigre:lv')\n"
        "assert not {'pandapower', 'pandas', 'power_grid_model', 'scipy'} & set(sys.modules)\n"
        "print(content_hash(n))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == cache.content_hash(fresh)
    # The solution from the cache has the same bytes.
    assert fresh.power_flow().v_pu.tobytes() == again.power_flow().v_pu.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "garbage", "bit"])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setenv("PEERWATT_CACHE", str(tmp_path))
    good = cache.content_hash(Network.load("kerber:landnetz_freileitung_1"))
    (file,) = (tmp_path / "networks").iterdir()
    data = file.read_bytes()
    place = data.index(np.float64(0.4).tobytes())
    changed = bytearray(data)
    changed[place] ^= 1
    file.write_bytes({"cut": data[: len(data) // 2], "garbage": b"x" * 100, "bit": bytes(changed)}[damage])
    assert cache.unpack_or_none(file) is None
    assert cache.content_hash(Network.load("kerber:landnetz_freileitung_1")) == good
    assert file.read_bytes() == data


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("PEERWATT_CACHE", str(blocked))
    assert Network.load("kerber:landnetz_freileitung_1").n_buses == 15


@pytest.mark.slow
def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    net = nets.two_bus()
    path = tmp_path / "mine.json"
    pp.to_json(net, str(path))
    before = Network.load(path)
    assert before.to_pandapower().line.equals(net.line)
    net.line["length_km"] = 2.0
    pp.to_json(net, str(path))
    after = Network.load(path)
    assert after.power_flow([[0.0, 5.0]]).v_pu[0, 1] < before.power_flow([[0.0, 5.0]]).v_pu[0, 1]
    with pytest.raises(GridError, match="changed since"):
        before.to_pandapower()


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"a": 1}', "no json"])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(GridError, match="not a pandapower network"):
        Network.load(path)


def test_later_changes_of_the_handed_over_net_have_no_effect() -> None:
    net = nets.two_bus()
    network = Network.from_pandapower(net)
    net.line["in_service"] = False
    copy = network.to_pandapower()
    assert copy.line["in_service"].all()
    copy.line["length_km"] = 9.0
    assert network.to_pandapower().line["length_km"].tolist() == [1.0]
    assert network.power_flow([[0, 1]], engine="pandapower").v_pu[0, 1] < 1.0


@pytest.mark.slow
def test_a_network_without_coordinates_is_drawn_as_a_tree() -> None:
    ends = np.array([(0, 1), (1, 2), (1, 3), (3, 0), (4, 5)], dtype=np.int32)
    x, y = tree_layout(6, ends, np.array([0], dtype=np.int32))
    assert x.tolist() == [0, 1, 2, 1, 0, 1]
    assert len(set(zip(x.tolist(), y.tolist(), strict=True))) == 6  # no two in one place
    network = Network.load("kerber:dorfnetz")
    assert not network.has_geo
    assert len(set(zip(network.x.tolist(), network.y.tolist(), strict=True))) == network.n_buses


def test_shipped_profiles_fit_the_network_and_their_clock_is_local() -> None:
    table = pq.read_table(simbench.profiles_file(simbench.SHIPPED_CODE)).to_pydict()
    network = Network.load(SEMIURBAN)
    wanted = {f"{name}_{what}" for name in network.loads.profile for what in ("pload", "qload")}
    assert set(table) == wanted | set(network.sgens.profile) | set(network.storages.profile)
    columns = {name: np.array(values) for name, values in table.items()}
    assert all(len(c) == simbench.PROFILE_SLOTS and np.isfinite(c).all() for c in columns.values())
    # Three weeks of sun before and after each clock change: its middle stays in UTC, in local time it would jump.
    pv = columns["PV5"]
    slots = np.arange(len(pv))
    utc_hour = (23.0 + slots * 0.25) % 24.0 + 0.125
    for change in ("2016-03-27T01:00", "2016-10-30T01:00"):
        at = int((np.datetime64(change) - np.datetime64("2015-12-31T23:00")) / np.timedelta64(15, "m"))
        weeks = 21 * 96
        middles = [
            float(np.average(utc_hour[part], weights=pv[part]))
            for part in (slice(at - weeks, at), slice(at, at + weeks))
        ]
        assert abs(middles[1] - middles[0]) < 0.5
    assert simbench.PROFILE_START + timedelta(seconds=900 * simbench.PROFILE_SLOTS) == simbench.PROFILE_START.replace(
        year=2016
    )


@pytest.mark.slow
def test_shipped_extract_equals_the_package() -> None:
    """Only where the optional package is installed."""
    pytest.importorskip("simbench")
    net = simbench.fetch(simbench.SHIPPED_CODE)
    assert simbench.profile_table(net).equals(pq.read_table(simbench.SHIPPED_PROFILES))
    mine, theirs = Network.load(SEMIURBAN), Network.from_pandapower(net, source=SEMIURBAN)
    assert mine.power_flow().v_pu == pytest.approx(theirs.power_flow().v_pu, abs=1e-12)
