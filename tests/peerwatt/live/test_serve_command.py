"""The command: what it prints, and what it refuses in words before anything is served."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from peerwatt import cli
from peerwatt.live.reports import SlotReport
from peerwatt.serve_command import slot_line
from tests.peerwatt.districts import district, home, load

QUICK = ("--speed", "36000", "--port", "0", "--duration-slots", "2")


def serve(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = cli.main(["serve", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_a_line_says_what_a_gate_came_to() -> None:
    report = SlotReport(
        slot=3, start_us=1_464_127_200_000_000, status="cleared", price_u=160_000, volume_wh=1234,
        members=5, orders=7, outside_orders=2, late_s=0.0123,
    )  # fmt: skip
    line = slot_line(report, "EUR")
    assert line == (
        "2016-05-24 22:00Z  cleared       0.1600 EUR/kWh     1.234 kWh  5 members  7 orders, 2 from outside  late 12 ms"
    )
    none = SlotReport(3, report.start_us, "void", None, 0, 5, 0, 0, halted=True)
    assert "no price" in slot_line(none, "EUR") and slot_line(none, "EUR").endswith("SUSPENDED")


@pytest.mark.slow
def test_it_serves_and_goes_on_and_refuses_another_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    code, told = serve(capsys, "street5", "--data", data, *QUICK)
    assert code == 0
    key = (data / "admin.key").read_text().strip()
    assert key in told and "http://127.0.0.1:" in told and "2016-05-24 22:15Z" in told
    assert data.stat().st_mode & 0o077 == 0
    code, told = serve(capsys, "street5", "--data", data, *QUICK)
    assert code == 0 and key not in told
    assert "2016-05-24 22:30Z" in told and "22:15Z" not in told
    code, told = serve(capsys, "street5", "--data", data, "--set", "seed=6", *QUICK)
    assert code == 2 and "another market" in told


@pytest.mark.slow
def test_quiet_prints_the_first_key_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = serve(capsys, "street5", "--data", tmp_path / "data", "--quiet", *QUICK)
    assert code == 0 and told.count("\n") == 1 and "admin key" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "0.0.0.0"), "TLS"),
        (("--outside", "home-7"), "no building"),
        (("--tls-cert", "cert.pem"), "private key"),
        (("--mqtt", "http://broker"), "mqtt://"),
        (("--mqtt", "mqtt://broker.example"), "not be encrypted"),
    ],
)
def test_mistakes_are_told_with_a_way_out(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = serve(capsys, "street5", "--data", tmp_path / "data", *QUICK, *arguments)
    assert code == 2 and words in told and "what to do" in told
    assert not (tmp_path / "data").exists(), "no key that nobody is told"


def test_a_port_that_is_taken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, told = serve(capsys, "street5", "--data", tmp_path / "data", "--port", port)
    assert code == 2 and port in told and "--port" in told and not (tmp_path / "data").exists()


def test_a_scenario_that_cannot_be_served_says_where_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "coarse.yaml"
    file.write_text(yaml.safe_dump(district(home("a", load(), metering_minutes=60))))
    code, told = serve(capsys, file, "--data", tmp_path / "data", *QUICK)
    assert code == 2 and "buildings[0].metering_minutes" in told and "peerwatt run" in told
    assert not (tmp_path / "data").exists(), "nothing is begun"


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "1e9"])
def test_speeds_that_are_none_are_refused(speed: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "street5", "--speed", speed])
