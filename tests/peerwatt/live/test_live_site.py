"""The site file of ``peerwatt live``: what it says is what the service is started with; mistakes have their place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from core import ScenarioError
from peerwatt import cli
from peerwatt.live.site import live_options, load_live_site


def write(folder: Path, **content: object) -> Path:
    file = folder / "site.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_paths_are_relative_to_the_file_and_everything_reaches_the_service(tmp_path: Path) -> None:
    file = write(
        tmp_path, scenario="street.yaml", guardian="guardian.yaml", data="kept", port=0, speed=2.5, days=3,
        outside=["a"], meters="outside", set={"seed": 4}, plan_seconds=0.5,
    )  # fmt: skip
    for name in ("street.yaml", "guardian.yaml"):
        (tmp_path / name).touch()
    options = live_options(load_live_site(file), slots=7)
    assert options.scenario == str(tmp_path / "street.yaml")
    assert (options.guardian_site, options.guardian) == (tmp_path / "guardian.yaml", None)
    assert (options.data, options.port, options.factor_ppm, options.slots) == (tmp_path / "kept", 0, 2_500_000, 7)
    assert options.overrides == {"time.end": None, "time.days": 3, "seed": 4}
    assert options.outside == {"a"} and options.outside_meters and options.guardian_awaited
    assert options.plan_seconds == 0.5
    plain = live_options(load_live_site(write(tmp_path, scenario="street5")))
    assert (plain.scenario, plain.factor_ppm, plain.guardian_site) == ("street5", 1_000_000, None)


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ({"scenario": "street5", "gardian": "g.yaml"}, "gardian", "guardian"),
        ({"guardian": "g.yaml"}, "scenario", "scenario"),
        ({"scenario": "street5", "speed": 0}, "speed", "speed"),
        ({"scenario": "street5", "guardian": "g.yaml", "guardian_socket": "g.sock"}, "", "choose one"),
    ],
)
def test_mistakes_are_told_with_file_place_and_reason(
    content: dict[str, object], place: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_live_site(write(tmp_path, **content))
    assert "site.yaml" in str(caught.value) and words in str(caught.value)
    assert place in str(caught.value.path or "")


@pytest.mark.parametrize("key", ["guardian", "scenario", "tls_cert", "mqtt_ca"])
def test_a_file_that_is_not_there_is_told_with_line_and_key(key: str, tmp_path: Path) -> None:
    content = {"scenario": "street5", "port": 0, key: "nosuch.yaml"}
    with pytest.raises(ScenarioError, match=r"nosuch\.yaml") as caught:
        load_live_site(write(tmp_path, **content))
    assert (caught.value.path, caught.value.line) == (key, sorted(content).index(key) + 1)
    assert str(caught.value.file) == str(tmp_path / "site.yaml")


def test_what_can_be_refused_is_refused_before_a_guardian_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "guardian.yaml").write_text("name: g\ndevices: [{id: meter, address: 'tcp://127.0.0.1:1'}]\n")
    file = write(tmp_path, scenario="street5", guardian="guardian.yaml", host="0.0.0.0", port=0)
    assert cli.main(["live", str(file)]) == 2
    assert "TLS" in capsys.readouterr().err and not (tmp_path / "live").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guardian", "words"),
    [("none.yaml", "none.yaml"), ("empty.yaml", "name"), ("poor.yaml", "ended at its start")],
)
def test_a_guardian_that_cannot_start_ends_the_command_before_the_market(
    guardian: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.yaml").write_text("cycle_s: 1.0\n")
    (tmp_path / "taken").write_text("a file where the journal's folder has to be")
    (tmp_path / "poor.yaml").write_text(
        "name: poor\njournal: taken\ndevices: [{id: meter, address: 'tcp://127.0.0.1:1'}]\n"
    )
    file = write(tmp_path, scenario="street5", guardian=guardian, port=0)
    assert cli.main(["live", str(file), "--duration-slots", "1"]) == 2
    told = capsys.readouterr()
    assert words in told.err and "what to do" in told.err and "API" not in told.out
    assert not (tmp_path / "live" / "journal.sqlite").exists()
