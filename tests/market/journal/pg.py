"""A real PostgreSQL server of the tests' own: a new cluster in a temporary folder, reached by a socket in it."""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.effort import room_in_memory

_PORT = 54999  # names the socket; nothing listens on the network
_names = itertools.count(1)


@dataclass(frozen=True)
class Cluster:
    """A running server."""

    binaries: Path
    folder: Path
    user: str | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres", **settings: str) -> str:
        query = {"host": str(self.folder), "port": str(_PORT), **settings}
        return f"postgresql://tester@/{database}?{urlencode(query)}"

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        done = subprocess.run(
            command, user=self.user, cwd=self.folder, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')}")

    def start(self) -> None:
        options = f"-k {self.folder} -p {_PORT} -c listen_addresses='' -c max_connections=40"
        self.run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-m", how, "stop")


def _binaries() -> Path | None:
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


def _user() -> str | None:
    """The server refuses to be root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@cache
def cluster() -> Cluster | None:
    """The session's server; None where PostgreSQL is not installed."""
    binaries = _binaries()
    if binaries is None:
        return None
    server = Cluster(binaries, Path(tempfile.mkdtemp(prefix="pg-", dir=room_in_memory() or "/tmp")), _user())
    if server.user is not None:
        shutil.chown(server.folder, server.user)
    atexit.register(shutil.rmtree, server.folder, ignore_errors=True)
    server.run("initdb", "-D", str(server.data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    server.start()
    atexit.register(_stop, server)
    return server


def _stop(server: Cluster) -> None:
    if (server.data / "postmaster.pid").exists():
        server.stop("immediate")


def require_cluster() -> Cluster:
    """The session's server, or the test is skipped."""
    server = cluster()
    if server is None:
        pytest.skip("PostgreSQL is not installed (no `postgres` in PATH or /usr/lib/postgresql)")
    return server


def new_url(**settings: str) -> str:
    """An address with a schema nobody has used."""
    return require_cluster().url(peerwatt_schema=f"peerwatt_{os.getpid()}_{next(_names)}", **settings)


@pytest.fixture
def pg_cluster() -> Cluster:
    """The session's server."""
    return require_cluster()


@pytest.fixture
def pg_url() -> str:
    """An address of an unused place in the session's server."""
    return new_url()
