"""Where a device is: ``tcp://host:502``, ``tls://host:802?ca=..&cert=..&key=..`` or ``rtu:///dev/ttyUSB0?baud=9600``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from core.errors import DeviceError

_PORTS = {"tcp": 502, "tls": 802}
_OPTIONS = {
    "tcp": frozenset[str](),
    "tls": frozenset({"ca", "cert", "key", "name"}),
    "rtu": frozenset({"baud", "parity", "stop"}),
}
_BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)
_FORMS = "tcp://HOST:502, tls://HOST:802?ca=FILE&cert=FILE&key=FILE or rtu:///dev/ttyUSB0?baud=9600&parity=E&stop=1"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Who is believed (``ca``) and who we say we are (``cert``, ``key``): PEM files. Always both ways.

    ``name`` is the name that the device's certificate must carry; empty for the host of the address.
    """

    ca: Path
    cert: Path
    key: Path
    name: str = ""


@dataclass(frozen=True, slots=True)
class SerialFormat:
    """How bytes travel on a serial line: eight data bits, ``parity`` N, E or O, one or two stop bits."""

    baud: int = 9600
    parity: str = "E"
    stop: int = 1

    def character_s(self) -> float:
        """Duration of one character [s]: a start bit, eight data bits, parity, stop bits."""
        return (9 + (self.parity != "N") + self.stop) / self.baud


@dataclass(frozen=True, slots=True)
class Address:
    """One line: a host and port, or a serial port. Units (device ids) are not part of it.

    ``tls`` stands if and only if ``scheme`` is ``tls``, ``serial`` and ``path`` if and only if it is ``rtu``.
    """

    scheme: str
    host: str = ""
    port: int = 0
    tls: TlsFiles | None = None
    path: str = ""
    serial: SerialFormat | None = None

    def __str__(self) -> str:
        if self.scheme == "rtu":
            return f"rtu://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """The address that a text means.

    Serial lines are 9600 baud, even parity, one stop bit unless they say otherwise (the Modbus standard's default).

    Raises
    ------
    DeviceError
        Local, if it means none; says what is wrong and what an address looks like.
    """
    try:
        parts = urlsplit(text)
        if parts.scheme not in _OPTIONS:
            raise ValueError(f"{parts.scheme or 'nothing'} is no kind of line")
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        options = dict(pairs)
        if len(options) < len(pairs):
            raise ValueError("an option is given twice")
        if strange := sorted(options.keys() - _OPTIONS[parts.scheme]):
            raise ValueError(f"{parts.scheme} has no option {strange[0]!r}")
        if parts.username is not None or parts.fragment:
            raise ValueError("it holds a user or a fragment")
        return _serial_line(parts, options) if parts.scheme == "rtu" else _network_line(parts, options)
    except ValueError as error:
        raise DeviceError(f"{text!r} is no address of a device: {error}", local=True, remedy=f"use {_FORMS}") from error


def _network_line(parts: SplitResult, options: dict[str, str]) -> Address:
    if not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("it needs a host, and nothing after the port")
    parts.hostname.encode("idna")  # a name that nobody can look up raises here
    port = parts.port if parts.port is not None else _PORTS[parts.scheme]
    if port == 0:
        raise ValueError("port 0 is none")
    if parts.scheme == "tcp":
        return Address("tcp", parts.hostname, port)
    if missing := sorted({"ca", "cert", "key"} - {name for name, value in options.items() if value}):
        raise ValueError(f"{' and '.join(missing)} missing: both ends show a certificate")
    files = TlsFiles(Path(options["ca"]), Path(options["cert"]), Path(options["key"]), options.get("name", ""))
    return Address("tls", parts.hostname, port, tls=files)


def _serial_line(parts: SplitResult, options: dict[str, str]) -> Address:
    if parts.netloc or not parts.path.startswith("/") or parts.path == "/":
        raise ValueError("it needs the whole path of a serial port, as in rtu:///dev/ttyUSB0")
    baud, parity, stop = options.get("baud", "9600"), options.get("parity", "E").upper(), options.get("stop", "1")
    if baud not in {str(known) for known in _BAUDS}:
        raise ValueError(f"{baud!r} baud: not one of {', '.join(map(str, _BAUDS))}")
    if parity not in {"N", "E", "O"} or stop not in {"1", "2"}:
        raise ValueError("parity is N, E or O, and stop 1 or 2")
    return Address("rtu", path=parts.path, serial=SerialFormat(int(baud), parity, int(stop)))
