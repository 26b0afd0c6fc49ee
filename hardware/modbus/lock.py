"""One process per line (R16): whoever opens a line holds its lock; a second one is refused and told who holds it.

A lock is a file in a folder of the user (flock) and, so that other users and folders see it as well, an abstract socket
of the machine. The kernel takes both away when the process ends, however it ends; files may stay and mean nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import re
import socket
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from core.errors import DeviceError
from hardware.address import Address


def run_folder() -> Path:
    """Where locks lie: ``$XDG_RUNTIME_DIR/peerwatt``, or ``/tmp/peerwatt-UID`` without one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "peerwatt" if runtime else Path("/tmp") / f"peerwatt-{os.getuid()}"


def network_name(host: str, port: int) -> str:
    """The lock of a numeric host and port: one for all spellings. Other hosts have their own text as name."""
    try:
        number = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return f"host-{host.lower()}-{port}"
    if isinstance(number, ipaddress.IPv6Address) and number.ipv4_mapped is not None:
        number = number.ipv4_mapped
    return f"ip-{number.exploded}-{port}"


def lock_names(address: Address) -> list[str]:
    """Everything that a line is known by; blocks while a name is looked up.

    A host whose number cannot be found is locked by its name alone; its number follows once there is a connection.
    """
    if address.scheme == "rtu":
        return [f"tty-{os.path.realpath(address.path)}"]
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError:
        found = []
    numbers = {network_name(str(entry[4][0]), address.port) for entry in found}
    return sorted(numbers | {network_name(address.host, address.port)})


class LineLock:
    """The locks that one line holds.

    Parameters
    ----------
    title
        The line, for messages.
    folder
        Where the files lie; None for `run_folder`.
    """

    def __init__(self, title: str, folder: Path | None = None) -> None:
        self._title = title
        self._folder = folder if folder is not None else run_folder()
        self._held: dict[str, tuple[int, socket.socket]] = {}

    def take(self, names: Iterable[str]) -> None:
        """Take all that are not held yet, or none.

        Raises
        ------
        DeviceError
            Local, if somebody else holds one (says who), or if the folder is not ours alone.
        """
        new = sorted(set(names) - self._held.keys())
        taken: list[str] = []
        try:
            for name in new:
                self._held[name] = self._take(name)
                taken.append(name)
        except BaseException:
            for name in taken:
                self._give_back(name)
            raise

    def release(self) -> None:
        """Give all back."""
        for name in list(self._held):
            self._give_back(name)

    def _take(self, name: str) -> tuple[int, socket.socket]:
        path = self._checked_folder() / f"{re.sub(r'[^A-Za-z0-9.-]', '_', name)[:80]}-{_digest(name)[:12]}.lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DeviceError(f"{self._title}: cannot lock the line in {path}: {error.strerror}", local=True) from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._held_by(os.read(fd, 100).decode("ascii", "replace").strip()) from None
            beacon = self._take_beacon(name)
            os.truncate(fd, 0)
            os.write(fd, b"%d\n" % os.getpid())
        except BaseException:
            os.close(fd)
            raise
        return fd, beacon

    def _take_beacon(self, name: str) -> socket.socket:
        place = b"\0peerwatt-line-" + _digest(name).encode()
        beacon = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            beacon.bind(place)
            beacon.listen(64)
        except OSError:
            beacon.close()
            raise self._held_by(_listener(place)) from None
        return beacon

    def _give_back(self, name: str) -> None:
        fd, beacon = self._held.pop(name)
        beacon.close()
        os.close(fd)

    def _checked_folder(self) -> Path:
        """The folder, ours alone: whoever else could write there could also take our locks away."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._folder.lstat()
        except OSError as error:
            raise DeviceError(f"{self._title}: no folder for locks: {error}", local=True) from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise DeviceError(
                f"{self._title}: {self._folder} is not a folder of this user alone",
                local=True,
                remedy=f"remove it, or chmod 700 {self._folder}",
            )
        return self._folder

    def _held_by(self, process: str) -> DeviceError:
        who = "another process"
        if process.isdigit() and int(process) > 0:
            who = "this process" if int(process) == os.getpid() else f"process {process}{_command_of(int(process))}"
        return DeviceError(
            f"{self._title} is held by {who}: a device obeys one master",
            local=True,
            remedy="stop that process, or read through its proxy",
        )


class ProxySign:
    """Says on this machine that hosts and ports are a proxy of ours, which any number may read through."""

    def __init__(self, *places: tuple[str, int]) -> None:
        self._beacons: list[socket.socket] = []
        for host, port in places:
            beacon = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._beacons.append(beacon)
            try:
                beacon.bind(_proxy_place(network_name(host, port)))
                beacon.listen(64)
            except OSError:  # another one's sign hangs there, and says the same
                beacon.close()

    def take_down(self) -> None:
        """No proxy there any more."""
        for beacon in self._beacons:
            beacon.close()


def is_proxy(address: Address) -> bool:
    """Whether a proxy of ours on this machine listens there; blocks while a name is looked up."""
    if address.scheme != "tcp":
        return False
    names = lock_names(address)
    if any(re.match(r"ip-(127\.|0000:.*:0001-)", name) for name in names):
        names += [network_name(every, address.port) for every in ("0.0.0.0", "::")]
    for name in names:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.setblocking(False)
            try:
                caller.connect(_proxy_place(name))
            except BlockingIOError:
                return True  # there, with many callers
            except OSError:
                continue
            return True
    return False


def _proxy_place(name: str) -> bytes:
    return b"\0peerwatt-proxy-" + _digest(name).encode()


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _listener(place: bytes) -> str:
    """Process id of whoever listens there, as digits; empty if it cannot be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(place)
            (process,) = struct.unpack_from("i", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return ""
    return str(process)


def _command_of(process: int) -> str:
    """`` (its command)``, or nothing if it cannot be read."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    text = " ".join(word.decode("utf-8", "replace") for word in words if word)
    return f" ({text[:120]})" if text else ""
