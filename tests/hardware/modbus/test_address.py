"""An address means one line, or is refused with what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import DeviceError
from hardware.address import Address, SerialFormat, TlsFiles, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://192.168.1.5", Address("tcp", "192.168.1.5", 502)),
        ("tcp://Inverter.local:1502", Address("tcp", "inverter.local", 1502)),
        ("tcp://[::1]:5020", Address("tcp", "::1", 5020)),
        (
            "tls://h?ca=/a.pem&cert=b.pem&key=c.pem&name=device",
            Address("tls", "h", 802, tls=TlsFiles(Path("/a.pem"), Path("b.pem"), Path("c.pem"), "device")),
        ),
        ("rtu:///dev/ttyUSB0", Address("rtu", path="/dev/ttyUSB0", serial=SerialFormat(9600, "E", 1))),
        (
            "rtu:///dev/ttyS1?baud=19200&parity=n&stop=2",
            Address("rtu", path="/dev/ttyS1", serial=SerialFormat(19200, "N", 2)),
        ),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


def test_an_address_is_shown_without_its_options() -> None:
    assert str(parse_address("tls://[::1]?ca=a&cert=b&key=c")) == "tls://[::1]:802"
    assert str(parse_address("rtu:///dev/ttyUSB0?baud=1200")) == "rtu:///dev/ttyUSB0"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("192.168.1.5", "no kind of line"),
        ("udp://host", "udp is no kind of line"),
        ("tcp://", "needs a host"),
        ("tcp://host:70000", "out of range"),
        ("tcp://host:0", "port 0"),
        (f"tcp://{'x' * 70}", "label"),
        ("tcp://host:502/1", "nothing after the port"),
        ("tcp://host?unit=1", "no option 'unit'"),
        ("tcp://me@host", "user"),
        ("tls://host?ca=a&cert=b", "key missing"),
        ("tls://host", "ca and cert and key missing"),
        ("rtu://ttyUSB0", "whole path"),
        ("rtu:///dev/ttyUSB0?baud=9601", "baud"),
        ("rtu:///dev/ttyUSB0?parity=M", "parity"),
        ("rtu:///dev/ttyUSB0?baud=9600&baud=1200", "twice"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(DeviceError, match=reason) as refused:
        parse_address(text)
    assert refused.value.local and "rtu:///dev/ttyUSB0" in (refused.value.remedy or "")


def test_a_character_lasts_as_long_as_its_bits() -> None:
    assert SerialFormat(9600, "E", 1).character_s() == pytest.approx(11 / 9600)
    assert SerialFormat(19200, "N", 2).character_s() == pytest.approx(11 / 19200)
    assert SerialFormat(9600, "N", 1).character_s() == pytest.approx(10 / 9600)
