"""A PostgreSQL server of one's own for crash tests: started, killed, started again; its commits wait for the disk."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

_PLACES = ("/usr/lib/postgresql", "/usr/pgsql")
_OLDEST = 15


class ServerDiedError(Exception):
    """The server ended while it started, or recovered."""


class NoServerError(Exception):
    """There is no PostgreSQL here that can be started; says why."""


def find_binaries() -> Path:
    """The newest installed server's programs; `NoServerError` if there are none from version 15 on."""
    found = sorted(
        (int(path.parent.parent.name), path.parent)
        for place in _PLACES
        for path in Path(place).glob("*/bin/initdb")
        if path.parent.parent.name.isdigit()
    )
    if on_path := shutil.which("initdb"):
        found.append((_OLDEST, Path(on_path).resolve().parent))
    if not found or found[-1][0] < _OLDEST:
        raise NoServerError(f"no PostgreSQL {_OLDEST} or newer is installed on this machine")
    return found[-1][1]


def _user() -> pwd.struct_passwd | None:
    """Whom to run as: PostgreSQL refuses root. None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoServerError("this is root, which PostgreSQL refuses, and there is no user `postgres` to run it as")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children(parent: int) -> list[int]:
    """Processes whose parent is ``parent``; they are in sessions of their own, so no group has them all."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:  # gone in the meantime
            continue
        if int(after_name[1]) == parent:
            found.append(int(stat.parent.name))
    return found


class Postgres:
    """A server on a free port of the loopback, in a temporary folder of its own: its user must not need pytest's.

    `close` stops it and removes the folder. Raises `NoServerError` if there is none on this machine.
    """

    def __init__(self) -> None:
        self._binaries = find_binaries()
        user = _user()
        self.owner = None if user is None else (user.pw_uid, user.pw_gid)
        self.folder = Path(tempfile.mkdtemp(prefix="peerwatt-postgres-"))
        self.data = self.folder / "data"
        self.port = _free_port()
        self.url = f"postgresql://market@127.0.0.1:{self.port}/postgres"
        self._server: subprocess.Popen[bytes] | None = None
        if self.owner is not None:
            os.chown(self.folder, *self.owner)
        made = [str(self._binaries / "initdb"), "-D", str(self.data), "-U", "market", "-A", "trust", "--no-sync"]
        self._run([*made, "--wal-segsize=1", "--no-instructions", "-E", "UTF8", "--locale=C"])
        settings = {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": "''",
            "shared_buffers": "'16MB'",
            "min_wal_size": "'2MB'",
            "max_wal_size": "'8MB'",
            "max_connections": "20",
            "autovacuum": "off",
            "logging_collector": "off",
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def start(self, environment: dict[str, str] | None = None) -> None:
        """Start it and wait until it takes connections; after a crash that is when it has recovered.

        Raises
        ------
        ServerDiedError
            If it ends instead.
        """
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self.data), "-p", str(self.port)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=self._environment() | (environment or {}),
                start_new_session=True,
                **self._identity(),
            )
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "market"]
        give_up = time.monotonic() + 60
        while subprocess.run(ready, check=False, env=self._environment()).returncode:
            if self._server.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise ServerDiedError(f"PostgreSQL does not start:\n{self.log()[-3000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL to every process of the server at once."""
        if self._server is None:
            return
        if self._server.poll() is None:
            os.kill(self._server.pid, signal.SIGSTOP)  # it shall make no more children while they are counted
        children = _children(self._server.pid)
        for process in (self._server.pid, *children):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._server.wait()
        give_up = time.monotonic() + 20
        while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < give_up:
            time.sleep(0.01)
        self._server = None
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self, mode: str = "fast") -> None:
        """Stop it as ``pg_ctl stop -m MODE`` does: smart, fast or immediate (no checkpoint, recovery at the start)."""
        if self._server is not None:
            number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
            self._server.send_signal(number)
            try:
                self._server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()
            self._server = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped or killed."""
        return self._server is not None

    def execute(self, *statements: str) -> None:
        """Run statements on it."""
        for statement in statements:
            self._run(
                [str(self._binaries / "psql"), "-q", "-X", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-c", statement]
            )

    def close(self) -> None:
        """Kill it and remove everything of it."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """What the server wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}

    def _identity(self) -> dict[str, int]:
        return {} if self.owner is None else {"user": self.owner[0], "group": self.owner[1]}

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=self._environment(),
            **self._identity(),  # type: ignore[call-overload]
        )
        if done.returncode:
            raise AssertionError(f"{command[0]} failed: {done.stderr[-2000:]}")
